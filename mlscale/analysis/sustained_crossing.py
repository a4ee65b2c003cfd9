"""When a moving mean starts to meet a condition and keeps it: T_slo and T_settle (METHOD §3), exact on m_u's steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.windows import Floats

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SustainedCrossing:
    """When a condition began to hold, s since t0; H - W where ``censored``: not met within the horizon. ``violated_s``:
    when it was first violated (not merely unknown), s since t0; NaN if never."""

    time_s: float
    censored: bool
    violated_s: float


def knots(exact: pd.DataFrame, from_s: float, to_s: float) -> tuple[Floats, Floats]:
    """m_u as a step function on [from_s, to_s]: (starts, values), the first start being from_s; values may be NaN.

    Args:
        exact: of `moving_exact`.
    """
    times = exact["t_s"].to_numpy(dtype=float)
    means = exact["mean_s"].to_numpy(dtype=float)
    before = int(np.searchsorted(times, from_s, side="right")) - 1
    inside = (times > from_s) & (times <= to_s)
    first = means[before] if before >= 0 else np.nan
    return np.concatenate([[from_s], times[inside]]), np.concatenate([[first], means[inside]])


def first_sustained(starts: Floats, met: Flags, violated: Flags, hold_s: float, end_s: float) -> SustainedCrossing:
    """First t from which the condition is met for all u in [t, t + hold_s]; t + hold_s may not pass ``end_s``.

    ``met[i]`` and ``violated[i]`` hold on [starts[i], starts[i + 1]); both are False where m_u is unknown, which never
    counts as meeting. 0 only if the condition is never violated in the whole horizon (and met throughout [0, hold_s]):
    a violation that begins later than hold_s after t0 is part of the response, so the search starts at the first one.
    """
    t0_s = float(starts[0])
    violations = np.flatnonzero(violated)
    begin_s = float(starts[violations[0]]) if len(violations) else t0_s
    violated_s = begin_s - t0_s if len(violations) else float("nan")
    ends = np.append(starts[1:], np.inf)
    for first, last in _stretches(met):
        t_s, until_s = max(float(starts[first]), begin_s), float(ends[last])
        if t_s + hold_s > end_s:
            break
        if t_s + hold_s < until_s:
            return SustainedCrossing(t_s - t0_s, False, violated_s)
    return SustainedCrossing(end_s - hold_s - t0_s, True, violated_s)


def _stretches(met: Flags) -> list[tuple[int, int]]:
    """Index of the first and last element of every unbroken stretch of True."""
    edges = np.diff(np.concatenate([[False], met, [False]]).astype(int))
    return list(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))


def weighted_median(values: Floats, weights: Floats) -> float:
    """Smallest value with at least half of the weight at or below it; NaN values are left out; NaN if none is left."""
    known = np.isfinite(values) & (weights > 0)
    if not known.any():
        return float("nan")
    order = np.argsort(values[known], kind="stable")
    cumulative: Any = np.cumsum(weights[known][order])
    return float(values[known][order][np.searchsorted(cumulative, cumulative[-1] / 2)])
