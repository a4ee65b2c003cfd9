"""The defaults of commands and notebooks: an application, a load, its level.

mlscale has none of its own. A package offers them as an entry point of the group ``mlscale.defaults``; the paper's
package, which every checkout has installed, offers the code reader and the protocol.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlscale.importing import offered
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop, Run

if TYPE_CHECKING:
    from mlscale.environments import App
    from mlscale.notebook.parameters import KubernetesParameters

GROUP = "mlscale.defaults"


class Defaults:
    """A plain installation has none: the user has to give everything. A package overrides what it offers."""

    def application(self, *, partitioned: bool = False) -> App:
        """The application to deploy; ``partitioned``: as components that scale separately."""
        raise MlscaleError(
            "none is given", "application", "give your model: --app package.module:factory, or app= in Python"
        )

    def bodies(self) -> Path:
        """Folder of files to send."""
        raise MlscaleError("none are given", "files to send", "name a folder of them: --bodies, or bodies= in Python")

    def quick_schedule(self) -> ClosedLoop | OpenLoop:
        """A short load for a first look."""
        raise MlscaleError(
            "none is given", "load", "name a JSON schedule or a CSV trace: --schedule, or schedule= in Python"
        )

    def schedule(self) -> ClosedLoop | OpenLoop:
        """The load of an experiment."""
        return self.quick_schedule()

    def sized(self, environment: str, scaling: Mapping[str, Any], schedule: object) -> dict[str, Any]:
        """The settings that the default load was sized for, overridden by ``scaling``; given a ``schedule``, only
        ``scaling``."""
        return dict(scaling)

    @property
    def level_s(self) -> float:
        """L: the mean response that counts as good, s."""
        remedy = "give the mean response that counts as good, in seconds: --level, or level_s= in Python"
        raise MlscaleError("none is given", "level", remedy)

    @property
    def unpiloted(self) -> bool:
        """Whether the load was chosen without measuring this host first."""
        return False

    def root(self) -> Path:
        """The folder that paths in captions are relative to, and that runs/by-hand is created in."""
        return Path.cwd()

    def published(self) -> tuple[Path, float] | None:
        """Folder of the published runs, and their level in s; None if there are none."""
        return None

    def measure_variants(self, environment: str, p: KubernetesParameters) -> Sequence[Run]:
        """Measure runs that each change one thing."""
        return ()


def defaults() -> Defaults:
    """The defaults that an installed package offers, else the plain ones."""
    entries = offered(GROUP)
    return entries[0].load()() if entries else Defaults()
