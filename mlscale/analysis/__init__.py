"""Analysis of runs: moving statistics, upscaling response, validity, inference. Pure functions of runs and frames.

The tables of a comparison are names of this package, imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlscale.analysis.boot_time_response import boot_time_rows, variant_of
    from mlscale.analysis.design import invalid_share
    from mlscale.analysis.factors import factor_effects
    from mlscale.analysis.objectives import shown_objectives
    from mlscale.analysis.order import position_effects, predecessor_effects
    from mlscale.analysis.steady import catch_up_and_steady, steady_sentences, steady_table

_NAMES = {
    "boot_time_response": "boot_time_rows variant_of",
    "design": "invalid_share",
    "factors": "factor_effects",
    "objectives": "shown_objectives",
    "order": "position_effects predecessor_effects",
    "steady": "catch_up_and_steady steady_sentences steady_table",
}
_LIVES_IN = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = sorted(_LIVES_IN)


def __getattr__(name: str) -> Any:
    if name in _LIVES_IN:
        return getattr(import_module(f"mlscale.analysis.{_LIVES_IN[name]}"), name)
    raise AttributeError(f"module 'mlscale.analysis' has no attribute {name!r}")
