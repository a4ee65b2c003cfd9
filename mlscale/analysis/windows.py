"""Means and standard deviations over windows that slide along time: the arithmetic under m_t and sigma_t."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# A window with fewer requests has no mean and no standard deviation (METHOD §2).
MIN_REQUESTS: Final = 10


def window_bounds(times_s: Floats, at_s: Floats, window_s: float) -> tuple[Ints, Ints]:
    """First and last-plus-one index of the requests in (t - W, t], for each t of ``at_s``; ``times_s`` ascends.

    A request enters at its time x and leaves at x + W, both computed the same way here and in `change_times`, so that a
    statistic evaluated at a change has already changed (it is right-continuous), whatever the rounding.
    """
    first = np.searchsorted(times_s + window_s, at_s, side="right")
    last = np.searchsorted(times_s, at_s, side="right")
    return first, last


def change_times(times_s: Floats, window_s: float) -> Floats:
    """All moments at which a window's content changes, ascending: between them every window statistic is constant."""
    return np.unique(np.concatenate([times_s, times_s + window_s]))


def moments(values: Floats, first: Ints, last: Ints, min_requests: int = MIN_REQUESTS) -> tuple[Floats, Floats]:
    """Mean and standard deviation (ddof 0) of values[first:last], for each pair; NaN under ``min_requests`` values.

    Cumulative sums of centred values in extended precision: centring first keeps sum(y^2) - sum(y)^2 / n from
    cancelling (Chan, Golub and LeVeque, The American Statistician 37 (1983), 242-247).
    """
    centre = float(np.median(values)) if len(values) else 0.0
    centred = (values - centre).astype(np.longdouble)
    sums = _cumulative(centred)
    squares = _cumulative(centred**2)
    count = (last - first).astype(float)
    enough = count >= min_requests
    safe = np.where(enough, count, 1.0)
    mean = (sums[last] - sums[first]) / safe
    variance = np.maximum((squares[last] - squares[first]) / safe - mean**2, 0.0)
    means = np.where(enough, centre + mean.astype(np.float64), np.nan)
    return means, np.where(enough, np.sqrt(variance).astype(np.float64), np.nan)


def _cumulative(values: npt.NDArray[np.longdouble]) -> Any:
    return np.concatenate([np.zeros(1, dtype=np.longdouble), np.cumsum(values)])
