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


def one_step_ahead(rates: Floats, season: int) -> Floats:
    """A forecast for each part of the trace, from the parts before it only; the first is unknown (0).

    Args:
        rates: mean rate of each part, (n,). season: parts after which traffic repeats, such as those of a day.
    """
    forecast = np.zeros(len(rates))
    for part in range(1, len(rates)):
        if part < season:
            forecast[part] = 2 * rates[part - 1] - rates[part - 2] if part > 1 else rates[0]
        else:
            recent = slice(max(0, part - _LEVEL_PARTS), part)
            before = slice(max(0, part - season - _LEVEL_PARTS), part - season)
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
