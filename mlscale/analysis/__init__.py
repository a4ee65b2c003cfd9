"""Analysis of runs: moving statistics, upscaling response, validity, inference. Pure functions of runs and frames.

The tables of a comparison are names of this package, imported on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlscale.importing import attach

if TYPE_CHECKING:
    from mlscale.analysis.boot_time_response import benefit_of_room, boot_time_rows, slope_on_boot, variant_of
    from mlscale.analysis.comparability import comparability_sentences
    from mlscale.analysis.design import invalid_share
    from mlscale.analysis.factors import factor_effects
    from mlscale.analysis.objectives import shown_objectives
    from mlscale.analysis.order import position_effects, predecessor_effects
    from mlscale.analysis.steady import catch_up_and_steady, steady_sentences, steady_table
    from mlscale.analysis.verdicts import by_window

_NAMES = {
    "mlscale.analysis.boot_time_response": "benefit_of_room boot_time_rows slope_on_boot variant_of",
    "mlscale.analysis.comparability": "comparability_sentences",
    "mlscale.analysis.design": "invalid_share",
    "mlscale.analysis.factors": "factor_effects",
    "mlscale.analysis.objectives": "shown_objectives",
    "mlscale.analysis.order": "position_effects predecessor_effects",
    "mlscale.analysis.steady": "catch_up_and_steady steady_sentences steady_table",
    "mlscale.analysis.verdicts": "by_window",
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES)
