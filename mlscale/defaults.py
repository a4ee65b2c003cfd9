"""What commands and notebooks take where the user names nothing: an application, a load, its level.

mlscale has none of its own. A package offers them as an entry point of the group ``mlscale.defaults``; the paper's
package, which every clone has installed, names the code reader and the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop, Run

if TYPE_CHECKING:
    from mlscale.environments import App
    from mlscale.notebook.parameters import KubernetesParameters

GROUP = "mlscale.defaults"


class Defaults:
    """Of a plain installation: whatever is asked for has to be named. A package overrides what it offers."""

    def application(self, *, partitioned: bool = False) -> App:
        """What is deployed; ``partitioned``: in components that scale apart."""
        raise MlscaleError("no application is named", "--app", "name package.module:factory of your model")

    def bodies(self) -> Path:
        """Folder of files to send."""
        raise MlscaleError("nothing to send is named", "--bodies", "name a folder of files")

    def quick_schedule(self) -> ClosedLoop | OpenLoop:
        """A load for a first look."""
        raise MlscaleError("no load is named", "--schedule", "name a JSON schedule or a CSV trace")

    def schedule(self) -> ClosedLoop | OpenLoop:
        """The load of an experiment."""
        return self.quick_schedule()

    def sized(self, environment: str, scaling: Mapping[str, Any], schedule: object) -> dict[str, Any]:
        """``scaling`` over the settings that the default load was made for; alone where ``schedule`` is the user's."""
        return dict(scaling)

    @property
    def level_s(self) -> float:
        """L: the mean response that counts as good, s."""
        raise MlscaleError("no level is named", "--level", "name the mean response that counts as good, in seconds")

    @property
    def unpiloted(self) -> bool:
        """Whether the load was chosen without measuring this host first."""
        return False

    def root(self) -> Path:
        """The folder that paths in captions start from, and below which runs by hand are written."""
        return Path.cwd()

    def published(self) -> tuple[Path, float] | None:
        """Folder of the published runs, and their level, s; None: there are none."""
        return None

    def measure_variants(self, environment: str, p: KubernetesParameters) -> Sequence[Run]:
        """Runs that each change one thing, measured now."""
        return ()


def defaults() -> Defaults:
    """Those of the package that offers some, else the plain ones."""
    offered = [*entry_points(group=GROUP)]
    return offered[0].load()() if offered else Defaults()
