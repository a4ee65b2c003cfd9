"""m_t and sigma_t: moving mean and moving standard deviation of inference time (METHOD §2).

At time t the window holds the requests placed in (t - W, t], by completion or by intended time; ddof 0; NaN where it
holds fewer than 10 requests. Failures count as the timeout unless they are left out.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.durations import DEFAULT_TIMEOUT_S, By, responses
from mlscale.analysis.windows import MIN_REQUESTS, Floats, change_times, moments, window_bounds
from mlscale.runs import Run

WINDOW_S: Final = 5.0
WINDOWS_S: Final = (2.0, 5.0, 10.0, 30.0)
LAST_REQUESTS: Final = 50
GRID_S: Final = 0.1
# Share of a span in which windows must hold enough requests for the time average to count.
KNOWN_SHARE: Final = 0.9


def _responses(
    requests: pd.DataFrame, by: By, timeout_s: float, include_failures: bool = True
) -> tuple[Floats, Floats]:
    """(times, responses) of the requests, s, in order of the time that places them."""
    ok, values, ended = responses(requests, timeout_s)
    intended = requests["intended_s"].to_numpy(dtype=float)
    times = ended if by == "done" else intended
    order = np.lexsort((intended, times))
    known = (np.isfinite(values) & np.isfinite(times) & (ok | include_failures))[order]
    return times[order][known], values[order][known]


def moving(
    requests: pd.DataFrame,
    window_s: float = WINDOW_S,
    by: By = "done",
    include_failures: bool = True,
    *,
    timeout_s: float = DEFAULT_TIMEOUT_S,
    at_s: npt.ArrayLike | None = None,
) -> pd.DataFrame:
    """m_t and sigma_t at the times ``at_s`` (default: every 0.1 s from the first request to the last).

    Returns:
        Columns t_s, n (requests in the window), mean_s (m_t), sd_s (sigma_t).
    """
    times, values = _responses(requests, by, timeout_s, include_failures)
    return _table(times, values, window_s, _grid(times) if at_s is None else np.asarray(at_s, dtype=float))


def moving_exact(
    requests: pd.DataFrame, window_s: float = WINDOW_S, by: By = "done", *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> pd.DataFrame:
    """Like `moving`, with one row for each change: m_t and sigma_t hold from a row's t_s until the next row's."""
    times, values = _responses(requests, by, timeout_s)
    return _table(times, values, window_s, change_times(times, window_s))


def last_n(
    requests: pd.DataFrame, count: int = LAST_REQUESTS, by: By = "done", *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> pd.DataFrame:
    """Mean and standard deviation of the last ``count`` requests, after each request; NaN for the first ones.

    Returns:
        Columns t_s, n, mean_s, sd_s; one row per request.
    """
    times, values = _responses(requests, by, timeout_s)
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
