"""simulate(): a run predicted by an installed simulator (entry points of the group ``mlscale.simulators``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlscale.importing import offered
from mlscale.runs import MlscaleError, Run

if TYPE_CHECKING:
    from mlscale.environments import App
    from mlscale.runs import ClosedLoop, OpenLoop


def simulate(
    environment: str, app: App | None = None, schedule: ClosedLoop | OpenLoop | None = None, **options: Any
) -> Run:
    """Predict a run of ``environment``. Nothing is deployed or sent; the run is marked as simulated.

    Args:
        options: the simulator's. The twin takes ``out``, ``scaling``, ``arm``, ``profile``, and everything else in
            ``options=mlscale_twin.SimulateOptions(...)``.

    Raises:
        MlscaleError: no simulator is installed, or as the simulator.
    """
    simulators = offered("mlscale.simulators")
    if not simulators:
        raise MlscaleError("no simulator is installed", "simulate", "install the package mlscale-twin")
    run: Run = simulators[0].load()(environment, app, schedule, **options)
    return run
