"""simulate(): a run as an installed simulator foretells it (entry points of the group ``mlscale.simulators``)."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from mlscale.runs import MlscaleError, Run

if TYPE_CHECKING:
    from mlscale.environments import App
    from mlscale.runs import ClosedLoop, OpenLoop


def simulate(
    environment: str, app: App | None = None, schedule: ClosedLoop | OpenLoop | None = None, **options: Any
) -> Run:
    """What a run of ``environment`` would look like; nothing is deployed, nothing is sent, and the run says so.

    Args:
        options: of the simulator. The twin takes ``out``, ``scaling``, ``arm``, ``profile`` and, for the rest,
            ``options=mlscale_twin.SimulateOptions(...)``.

    Raises:
        MlscaleError: no simulator is installed, or something a user can fix.
    """
    offered = [*entry_points(group="mlscale.simulators")]
    if not offered:
        raise MlscaleError("no simulator is installed", "simulate", "install the package mlscale-twin")
    run: Run = offered[0].load()(environment, app, schedule, **options)
    return run
