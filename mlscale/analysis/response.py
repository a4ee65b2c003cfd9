"""The upscaling response to a load step at t0 (METHOD §3): T_slo, T_settle, and the parts before them.

T_slo and T_settle are when a moving mean starts to meet a condition and keeps it, exact on the mean's steps.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.analysis.durations import By, Floats
from mlscale.analysis.moving import KNOWN_SHARE, WINDOW_S, moving_exact
from mlscale.analysis.provisioning import grew_before, provisioning
from mlscale.runs import MlscaleError, Run

SETTLE_BAND: Final = 0.10
NAN: Final = float("nan")
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Recovery:
    """T_slo, s since t0; H - W where censored, NaN without a level. ``first_over_s``: when m_u was over L first;
    ``over_level_s``: how long in all."""

    horizon_s: float
    window_s: float
    t_slo_s: float
    t_slo_censored: bool
    first_over_s: float
    over_level_s: float

    @property
    def confirmed_s(self) -> float:
        """T_slo + W: when the recovery is established, since only then is m_u <= L known to have held for W.

        In [W, H], H where censored: always positive, so its logarithm needs no added constant (see inference).
        """
        return self.t_slo_s + self.window_s


def horizon_of(run: Run) -> float:
    """H: from t0 until the load falls, or to the schedule's end, s; NaN without a step.

    A fall ends it, since it would meet any level by itself; further rises, as of a ramp, do not.
    """
    if run.info.step_s is None:
        return NAN
    start_s, schedule = _schedule_start(run), run.info.schedule
    bounds = zip(schedule.boundaries_s[1:], pairwise(schedule.levels), strict=True)
    falls = [start_s + bound for bound, (before, after) in bounds if after < before]
    later = [fall for fall in falls if fall > run.info.step_s + 1e-6]
    return min([*later, start_s + schedule.duration_s]) - run.info.step_s


def recovery(run: Run, level_s: float | None, *, horizon_s: float | None = None, by: By = "intended") -> Recovery:
    """T_slo alone.

    Args:
        level_s: L, one for all environments; None: T_slo is NaN.
        horizon_s: H; default `horizon_of` the run.
        by: m_u by intended time (default: at the step it has no survivor's bias, and it is about the same requests
            as P1 and P2), or by completion.
    Raises:
        MlscaleError: the schedule has no step, the horizon is not longer than the window, or L is not positive.
    """
    return _recovery(_means(run, WINDOW_S, horizon_s, by), level_s)


def upscaling_response(run: Run, level_s: float | None) -> dict[str, Any]:
    """`recovery`, T_settle, and `mlscale.analysis.provisioning.Provisioning`, for a row of a table.

    NaN where a part did not happen (no new replica, no machines) or can't be judged (no level given). The parts are
    descriptive and may overlap.

    Raises:
        MlscaleError: see `recovery`.
    """
    means = _means(run, WINDOW_S, None, "intended")
    recovered = _recovery(means, level_s)
    quarter_s = means.t0 + 0.75 * means.horizon_s
    in_quarter = np.clip(means.starts + means.widths - np.maximum(means.starts, quarter_s), 0.0, None)
    settle_level = weighted_median(means.values, in_quarter)
    inside = np.abs(means.values - settle_level) <= SETTLE_BAND * settle_level
    settle_s, settle_censored = NAN, False
    if np.isfinite(settle_level):
        outside = np.isfinite(means.values) & ~inside
        settle_s, settle_censored, _ = first_sustained(means.starts, inside, outside, WINDOW_S, means.end_s)
    judged = asdict(recovered)
    return {
        **asdict(provisioning(run, means.t0, means.horizon_s)),
        "horizon_s": judged.pop("horizon_s"),
        "window_s": judged.pop("window_s"),
        "pre_scaled": grew_before(run, means.t0),
        **judged,
        "settle_level_s": settle_level,
        "t_settle_s": settle_s,
        "t_settle_censored": settle_censored,
        "t_slo_confirmed_s": recovered.confirmed_s,
    }


def confirmed_s(run: Run, level_s: float | None, window_s: float) -> float:
    """T_slo + W; NaN where the mean of the window is known for less than `KNOWN_SHARE` of the horizon (METHOD §2)."""
    means = _means(run, window_s, None, "intended")
    known = means.widths[np.isfinite(means.values)].sum() >= KNOWN_SHARE * means.horizon_s
    return _recovery(means, level_s).confirmed_s if known else NAN


@dataclass(frozen=True)
class _Means:
    """m_u from t0 to t0 + H: ``values`` (NaN where unknown) hold from ``starts`` on for ``widths``, s."""

    t0: float
    horizon_s: float
    window_s: float
    starts: Floats
    widths: Floats
    values: Floats

    @property
    def end_s(self) -> float:
        return self.t0 + self.horizon_s


def _means(run: Run, window_s: float, horizon_s: float | None, by: By) -> _Means:
    t0 = run.info.step_s
    if t0 is None:
        raise MlscaleError("the schedule has no step, so there is no response to one", str(run.path), "leave it out")
    horizon_s = horizon_of(run) if horizon_s is None else horizon_s
    if not horizon_s > window_s:
        raise MlscaleError(
            f"the horizon of {horizon_s:g} s is not longer than the window of {window_s:g} s",
            str(run.path),
            "load for longer after the step, or take a smaller window",
        )
    exact = moving_exact(run.requests, window_s, by, timeout_s=run.info.timeout_s)
    times, means = (exact[name].to_numpy(dtype=float) for name in ("t_s", "mean_s"))
    before = int(np.searchsorted(times, t0, side="right")) - 1
    inside = (times > t0) & (times <= t0 + horizon_s)
    starts = np.concatenate([[t0], times[inside]])
    values = np.concatenate([[means[before] if before >= 0 else np.nan], means[inside]])
    return _Means(t0, horizon_s, window_s, starts, np.diff(np.append(starts, t0 + horizon_s)), values)


def _recovery(means: _Means, level_s: float | None) -> Recovery:
    if level_s is None:
        return Recovery(means.horizon_s, means.window_s, NAN, False, NAN, NAN)
    if not level_s > 0:
        raise MlscaleError(f"L = {level_s} s", "level_s", "give a positive level")
    over = means.values > level_s
    slo = first_sustained(means.starts, means.values <= level_s, over, means.window_s, means.end_s)
    return Recovery(means.horizon_s, means.window_s, *slo, _over_s(means, over))


def _over_s(means: _Means, over: npt.NDArray[np.bool_]) -> float:
    """The time over L. A window without a value counts as the last one that has one: when a closed loop stalls, no
    request is sent, so the mean is unknown while it is at its worst."""
    last_known = np.maximum.accumulate(np.where(np.isfinite(means.values), np.arange(len(over)), -1))
    return float(means.widths[(last_known >= 0) & over[last_known]].sum())


def _schedule_start(run: Run) -> float:
    """Time zero of the schedule on the run's clock: t0 is the start of a stage, the second if there are several."""
    bounds = run.info.schedule.boundaries_s
    step_s = run.info.step_s or 0.0
    return 0.0 if any(abs(bound - step_s) < 1e-6 for bound in bounds) else step_s - bounds[min(1, len(bounds) - 1)]


def first_sustained(
    starts: Floats, met: Flags, violated: Flags, hold_s: float, end_s: float
) -> tuple[float, bool, float]:
    """First t from which the condition is met for all u in [t, t + hold_s]; t + hold_s may not pass ``end_s``.

    Returns t, whether it is censored (then ``end_s`` - hold_s), and when the condition was first violated (not merely
    unknown; NaN if never), each in s since starts[0].

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
            return t_s - t0_s, False, violated_s
    return end_s - hold_s - t0_s, True, violated_s


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
    cumulative: Floats = np.cumsum(weights[known][order])
    return float(values[known][order][np.searchsorted(cumulative, cumulative[-1] / 2)])
