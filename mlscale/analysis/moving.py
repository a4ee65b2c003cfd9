"""m_t and sigma_t: moving mean and moving standard deviation of inference time (METHOD §2).

At time t the window holds the requests placed in (t - W, t], by completion or by intended time; ddof 0; NaN where it
holds fewer than 10 requests. Failures count as the timeout.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.durations import DEFAULT_TIMEOUT_S, By, Floats, responses
from mlscale.runs import Run

Ints = npt.NDArray[np.int64]
WINDOW_S: Final = 5.0
WINDOWS_S: Final = (2.0, 5.0, 10.0, 30.0)
LAST_REQUESTS: Final = 50
# A window with fewer requests has no mean and no standard deviation (METHOD §2).
MIN_REQUESTS: Final = 10
GRID_S: Final = 0.1
# Share of a span in which windows must hold enough requests for the time average to count.
KNOWN_SHARE: Final = 0.9


def _responses(requests: pd.DataFrame, by: By, timeout_s: float) -> tuple[Floats, Floats]:
    """(times, responses) of the requests, s, in order of the time that places them."""
    _, values, ended = responses(requests, timeout_s)
    intended = requests["intended_s"].to_numpy(dtype=float)
    times = ended if by == "done" else intended
    order = np.lexsort((intended, times))
    known = (np.isfinite(values) & np.isfinite(times))[order]
    return times[order][known], values[order][known]


def moving(
    requests: pd.DataFrame,
    window_s: float = WINDOW_S,
    by: By = "done",
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    at_s: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """m_t and sigma_t at the times ``at_s`` (default: every 0.1 s from the first request to the last).

    Returns:
        Columns t_s, n (requests in the window), mean_s (m_t), sd_s (sigma_t).
    """
    times, values = _responses(requests, by, timeout_s)
    return _table(times, values, window_s, _grid(times) if at_s is None else np.asarray(at_s, dtype=float))


def moving_exact(
    requests: pd.DataFrame, window_s: float = WINDOW_S, by: By = "done", *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> pd.DataFrame:
    """Like `moving`, with one row for each change: m_t and sigma_t hold from a row's t_s until the next row's."""
    times, values = _responses(requests, by, timeout_s)
    return _table(times, values, window_s, change_times(times, window_s))


def last_n(requests: pd.DataFrame, count: int = LAST_REQUESTS, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> pd.DataFrame:
    """Mean and standard deviation of the last ``count`` requests to be done, after each; NaN for the first ones.

    Returns:
        Columns t_s, n, mean_s, sd_s; one row per request.
    """
    times, values = _responses(requests, "done", timeout_s)
    last = np.arange(1, len(times) + 1)
    first = np.maximum(last - count, 0)
    mean, sd = moments(values, first, last, min_requests=count)
    return pd.DataFrame({"t_s": times, "n": last - first, "mean_s": mean, "sd_s": sd})


def _table(times: Floats, values: Floats, window_s: float, at_s: Floats) -> pd.DataFrame:
    first, last = window_bounds(times, at_s, window_s)
    mean, sd = moments(values, first, last, MIN_REQUESTS)
    return pd.DataFrame({"t_s": at_s, "n": last - first, "mean_s": mean, "sd_s": sd})


def _grid(times: Floats) -> Floats:
    """Multiples of 0.1 s that cover the times."""
    if not len(times):
        return np.empty(0)
    low, high = int(np.floor(times[0] / GRID_S)), int(np.ceil(times[-1] / GRID_S))
    return np.asarray(np.arange(low, high + 1) * GRID_S, dtype=float)


def knots_mean(exact: pd.DataFrame, from_s: float, to_s: float) -> tuple[float, float]:
    """Time averages of m_t and sigma_t over [from_s, to_s]; (NaN, NaN) where they exist for less than `KNOWN_SHARE` of
    it: a short window is empty exactly when answers are slow, so the average of the rest would flatter.

    Args:
        exact: rows that hold until the next one, as of `moving_exact` and `last_n`.
    """
    times = exact["t_s"].to_numpy(dtype=float)
    ends = np.append(times[1:], np.inf)
    widths = np.clip(np.minimum(ends, to_s) - np.maximum(times, from_s), 0.0, None)
    known = np.isfinite(exact["mean_s"].to_numpy(dtype=float)) & (widths > 0)
    if not known.any() or widths[known].sum() < KNOWN_SHARE * (to_s - from_s):
        return float("nan"), float("nan")
    weights = widths[known]
    mean = np.average(exact["mean_s"].to_numpy(dtype=float)[known], weights=weights)
    sd = np.average(exact["sd_s"].to_numpy(dtype=float)[known], weights=weights)
    return float(mean), float(sd)


def around_step(run: Run, at_s: Floats) -> Floats:
    """m_t by completion over `WINDOW_S`, at times since the load step (since the start, where a run has none), s."""
    t0 = run.info.step_s or 0.0
    moved = moving(run.requests, WINDOW_S, "done", timeout_s=run.info.timeout_s, at_s=t0 + at_s)
    return np.asarray(moved["mean_s"], dtype=float)


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
