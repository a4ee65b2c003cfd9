"""Simulates autoscaling frameworks by their own policies and measured profiles. Names are imported on first use."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    from mlscale_twin import likeness
    from mlscale_twin.calibration import calibrate
    from mlscale_twin.plots.advice import cost_and_slow
    from mlscale_twin.plots.verdicts import verdicts
    from mlscale_twin.profile_files import read_profile
    from mlscale_twin.simulate import SimulateOptions
    from mlscale_twin.strategy.advice import AdviseOptions, advice_table, advise, strategy_table, write_advice
    from mlscale_twin.strategy.objective import Objective
    from mlscale_twin.studies.sensitivity import swings
    from mlscale_twin.studies.validation import compare_with_live

_MODULES = {"likeness": "mlscale_twin.likeness"}
_NAMES = {
    "mlscale_twin.calibration": "calibrate",
    "mlscale_twin.plots.advice": "cost_and_slow",
    "mlscale_twin.plots.verdicts": "verdicts",
    "mlscale_twin.profile_files": "read_profile",
    "mlscale_twin.simulate": "SimulateOptions",
    "mlscale_twin.strategy.advice": "AdviseOptions advise advice_table strategy_table write_advice",
    "mlscale_twin.strategy.objective": "Objective",
    "mlscale_twin.studies.sensitivity": "swings",
    "mlscale_twin.studies.validation": "compare_with_live",
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES, _MODULES)
