"""Forecasts of traffic made from its past alone: seasonal-naive with a level, and a trend until a season was seen.

It stands in for forecasts that the twin cannot reproduce, such as those of AWS's predictive scaling for ECS services,
which needs at least 24 hours of history (Amazon ECS developer guide, "Create a predictive scaling policy").
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
# Parts over which the level is compared with a season ago, and how far it may move a forecast.
_LEVEL_PARTS: Final = 4
_LEVEL_MOST: Final = 2.0


def ahead(rates: Floats, season: int) -> Floats:
    """A forecast for each part of the trace, from what has ended a part before it begins, when replicas for it may have
    to start; the first two are unknown (0).

    Args:
        rates: of each part, (n,). season: parts after which traffic repeats, such as those of a day.
    """
    forecast = np.zeros(len(rates))
    for part in range(2, len(rates)):
        known = part - 1
        if part < season:
            last, one_before = rates[known - 1], rates[max(0, known - 2)]
            forecast[part] = last + 2 * (last - one_before)
        else:
            recent = slice(max(0, known - _LEVEL_PARTS), known)
            before = slice(max(0, known - season - _LEVEL_PARTS), max(0, known - season))
            forecast[part] = rates[part - season] * _level(rates[recent], rates[before])
    return np.maximum(forecast, 0.0)


def next_season(rates: Floats, season: int) -> Floats:
    """A forecast of the season after the trace: its last one, at the level that it had reached, (season,).

    Args:
        rates: of at least one season.
    """
    return rates[-season:] * _level(rates[-season:], rates[-2 * season : -season])


def _level(recent: Floats, before: Floats) -> float:
    """How much traffic there is now relative to a season ago; 1 if that is unknown."""
    if len(before) == 0 or before.mean() <= 0:
        return 1.0
    return float(np.clip(recent.mean() / before.mean(), 1 / _LEVEL_MOST, _LEVEL_MOST))
