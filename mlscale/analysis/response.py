"""The upscaling response to a load step at t0 (METHOD §3): T_slo, T_settle, and the parts before them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.analysis.durations import By
from mlscale.analysis.moving import KNOWN_SHARE, WINDOW_S, moving_exact
from mlscale.analysis.provisioning import Provisioning, grew_before, provisioning
from mlscale.analysis.sustained_crossing import SustainedCrossing, first_sustained, knots, weighted_median
from mlscale.analysis.windows import Floats
from mlscale.runs import MlscaleError, Run

SETTLE_BAND: Final = 0.10
NAN: Final = float("nan")


@dataclass(frozen=True)
class Recovery:
    """T_slo, as `UpscalingResponse` has it."""

    horizon_s: float
    t_slo_s: float
    t_slo_censored: bool
    first_over_s: float
    over_level_s: float


@dataclass(frozen=True)
class UpscalingResponse(Provisioning):
    """Seconds; ``*_first_s``/``*_last_s`` of milestones count from t0, to the first and to the last needed new replica.

    NaN where a part did not happen (no new replica, no machines) or can't be judged (no level given). ``t_slo_s`` and
    ``t_settle_s`` are H - W where censored. The parts are descriptive and may overlap.
    """

    horizon_s: float
    window_s: float
    by: By
    pre_scaled: bool
    level_s: float
    t_slo_s: float
    t_slo_censored: bool
    first_over_s: float
    over_level_s: float
    settle_level_s: float
    t_settle_s: float
    t_settle_censored: bool

    @property
    def confirmed_s(self) -> float:
        """T_slo + W: when the recovery is established, since only then is m_u <= L known to have held for W.

        In [W, H], H where censored: always positive, so its logarithm needs no added constant (see inference).
        """
        return self.t_slo_s + self.window_s

    def row(self) -> dict[str, Any]:
        """All fields, for one row of a table."""
        return asdict(self) | {"t_slo_confirmed_s": self.confirmed_s}


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


def upscaling_response(
    run: Run,
    level_s: float | None,
    *,
    window_s: float = WINDOW_S,
    horizon_s: float | None = None,
    by: By = "intended",
) -> UpscalingResponse:
    """T_slo, T_settle and parts.

    Args:
        level_s: L, one for all environments; None: T_slo is NaN.
        window_s: W of m_u, and how long m_u has to stay.
        horizon_s: H; default `horizon_of` the run.
        by: m_u by intended time (default: at the step it has no survivor's bias, and it is about the same requests
            as P1 and P2), or by completion.
    Raises:
        MlscaleError: the schedule has no step, the horizon is not longer than the window, or L is not positive.
    """
    means = _means(run, window_s, horizon_of(run) if horizon_s is None else horizon_s, by)
    recovered = _recovery(means, level_s, window_s)
    quarter_s = means.t0 + 0.75 * means.horizon_s
    in_quarter = np.clip(means.starts + means.widths - np.maximum(means.starts, quarter_s), 0.0, None)
    settle_level = weighted_median(means.values, in_quarter)
    inside = np.abs(means.values - settle_level) <= SETTLE_BAND * settle_level
    settle = SustainedCrossing(NAN, False, NAN)
    if np.isfinite(settle_level):
        outside = np.isfinite(means.values) & ~inside
        settle = first_sustained(means.starts, inside, outside, window_s, means.t0 + means.horizon_s)
    parts: Provisioning = provisioning(run, means.t0, means.horizon_s)
    return UpscalingResponse(
        window_s=window_s,
        by=by,
        pre_scaled=grew_before(run, means.t0),
        **asdict(parts),
        **asdict(recovered),
        level_s=NAN if level_s is None else level_s,
        settle_level_s=settle_level,
        t_settle_s=settle.time_s,
        t_settle_censored=settle.censored,
    )


def recovery(run: Run, level_s: float | None, *, window_s: float = WINDOW_S, by: By = "intended") -> Recovery:
    """T_slo alone, as `upscaling_response` has it, without the parts before it: a fraction of the work.

    Raises:
        MlscaleError: see `upscaling_response`.
    """
    return _recovery(_means(run, window_s, horizon_of(run), by), level_s, window_s)


def confirmed_s(run: Run, level_s: float | None, window_s: float) -> float:
    """T_slo + W; NaN where the mean of the window is known for less than `KNOWN_SHARE` of the horizon (METHOD §2)."""
    means = _means(run, window_s, horizon_of(run), "intended")
    known = means.widths[np.isfinite(means.values)].sum() >= KNOWN_SHARE * means.horizon_s
    return _recovery(means, level_s, window_s).t_slo_s + window_s if known else NAN


@dataclass(frozen=True)
class _Means:
    """m_u from t0 to t0 + H: ``values`` hold from ``starts`` on for ``widths``, s."""

    t0: float
    horizon_s: float
    starts: Floats
    widths: Floats
    values: Floats


def _means(run: Run, window_s: float, horizon_s: float, by: By) -> _Means:
    t0 = run.info.step_s
    if t0 is None:
        raise MlscaleError("the schedule has no step, so there is no response to one", str(run.path), "leave it out")
    if not horizon_s > window_s:
        raise MlscaleError(
            f"the horizon of {horizon_s:g} s is not longer than the window of {window_s:g} s",
            str(run.path),
            "load for longer after the step, or take a smaller window",
        )
    exact = moving_exact(run.requests, window_s, by, timeout_s=run.info.timeout_s)
    starts, values = knots(exact, t0, t0 + horizon_s)
    return _Means(t0, horizon_s, starts, np.diff(np.append(starts, t0 + horizon_s)), values)


def _recovery(means: _Means, level_s: float | None, window_s: float) -> Recovery:
    if level_s is None:
        return Recovery(means.horizon_s, NAN, False, NAN, NAN)
    if not level_s > 0:
        raise MlscaleError(f"L = {level_s} s", "level_s", "give a positive level")
    over = means.values > level_s
    slo = first_sustained(means.starts, means.values <= level_s, over, window_s, means.t0 + means.horizon_s)
    return Recovery(means.horizon_s, slo.time_s, slo.censored, slo.violated_s, _over_s(means, over))


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
