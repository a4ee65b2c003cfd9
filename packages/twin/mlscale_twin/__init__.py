"""Simulates autoscaling frameworks by their own policies and measured profiles. Names are imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlscale_twin import likeness
    from mlscale_twin.calibration import calibrate
    from mlscale_twin.plots.swings import swing_bars
    from mlscale_twin.plots.twin import control_rejections, queue_distributions, twin_trajectories, verdicts
    from mlscale_twin.profile import read_profile
    from mlscale_twin.simulate import SimulateOptions
    from mlscale_twin.studies.queue_checks import checked_queues, distributions, known_queues
    from mlscale_twin.studies.sensitivity import swings
    from mlscale_twin.studies.simpy_check import beside_simpy
    from mlscale_twin.studies.validation import beside

_MODULES = {"likeness": "mlscale_twin.likeness"}
_NAMES = {
    "calibration": "calibrate",
    "plots.swings": "swing_bars",
    "plots.twin": "control_rejections queue_distributions twin_trajectories verdicts",
    "profile": "read_profile",
    "simulate": "SimulateOptions",
    "studies.queue_checks": "checked_queues distributions known_queues",
    "studies.sensitivity": "swings",
    "studies.simpy_check": "beside_simpy",
    "studies.validation": "beside",
}
_LIVES_IN = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted([*_MODULES, *_LIVES_IN])


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name in _LIVES_IN:
        return getattr(import_module(f"mlscale_twin.{_LIVES_IN[name]}"), name)
    raise AttributeError(f"module 'mlscale_twin' has no attribute {name!r}")
