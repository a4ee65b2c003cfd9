"""Equivalence of twin and live runs within margins fixed beforehand (METHOD §8), compared with the noise of the live
runs themselves. Pure functions from tables to verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mlscale.analysis.durations import answered, durations
from mlscale.analysis.idle_while_queued import idle_while_queued_share
from mlscale.analysis.moving import around_step
from mlscale.analysis.provisioning import grew_before, provisioning
from mlscale.analysis.response import recovery
from mlscale.runs import Run

Floats = npt.NDArray[np.float64]
Verdict = Literal["equivalent", "different", "inconclusive"]
NAN: Final = float("nan")
# Of the confidence interval that has to lie within the margins: two one-sided tests at 5 %.
LEVEL: Final = 0.90


@dataclass(frozen=True)
class Margin:
    """``share`` of the live value, either way. ``minimum``: for figures judged by the difference, in the figure's
    unit."""

    share: float
    minimum: float | None = None

    @property
    def relative(self) -> bool:
        """Whether the ratio is judged, rather than the difference."""
        return self.minimum is None

    def width(self, live: float) -> float:
        """Margin either way: a share of the live value, or in the figure's unit."""
        return self.share if self.minimum is None else max(self.minimum, self.share * live)


MARGINS: Final[dict[str, Margin]] = {
    "mean_response_s": Margin(0.10),
    "sd_response_s": Margin(0.20),
    "p95_response_s": Margin(0.15),
    "light_response_s": Margin(0.10),
    "service_s": Margin(0.10),
    "overlooked_share": Margin(0.10, 0.10),
    "detection_s": Margin(0.10, 1.0),
    "ready_first_s": Margin(0.10, 1.0),
    "ready_last_s": Margin(0.10, 1.0),
    "t_slo_s": Margin(0.10, 1.0),
}
# Fewest values with which sign flips can reject at `LEVEL`: all signs agree in 2 of 2^n cases.
_MIN_VALUES: Final = 5
# Up to so many runs all sign flips are enumerated; for more runs, as many are drawn.
_EXHAUSTIVE_UP_TO: Final = 10
# A request that waited longer went to a replica that had just been busy, and so had no unused quota.
MIN_WAIT_S: Final = 0.05


def likeness_figures(run: Run, level_s: float) -> dict[str, float]:
    """The figures of `MARGINS` for one run: over requests from the step on (a failure counts as the timeout);
    ``light_response_s``: mean before the step, with almost no queueing; ``service_s``: from one answer of a busy
    replica to its next; ``overlooked_share``: share of the waiting time during which another replica was idle; and
    times since the step, s (`_parts_s`). A request belongs to its load stage: published times are cut off, which puts
    the step's first requests microseconds before it."""
    from_s, to_s = judged_span(run)
    taken = durations(run.requests, timeout_s=run.info.timeout_s)
    light = taken["load_stage"] == 0 if run.info.step_s is not None else taken["intended_s"] < from_s
    inside = taken[~light & (taken["intended_s"] < to_s)]["response_s"]
    return {
        "mean_response_s": float(inside.mean()),
        "sd_response_s": float(inside.std(ddof=0)),
        "p95_response_s": float(inside.quantile(0.95)),
        "light_response_s": float(taken[light]["response_s"].mean()),
        "service_s": _service_s(run, from_s, to_s),
        "overlooked_share": idle_while_queued_share(run, from_s, to_s),
        **_parts_s(run, from_s, to_s),
        "t_slo_s": recovery(run, level_s, horizon_s=to_s - from_s).t_slo_s,
    }


def judged_span(run: Run) -> tuple[float, float]:
    """From the first change of load to the schedule's end, whatever the load does in between; all of it where there is
    no change."""
    bounds_s, duration_s = run.info.schedule.boundaries_s, run.info.schedule.duration_s
    t0 = run.info.step_s
    return (0.0, duration_s) if t0 is None else (t0, t0 - bounds_s[1] + duration_s)


def _parts_s(run: Run, from_s: float, to_s: float) -> dict[str, float]:
    """Times since the step of the first decision to grow, and of the first and last needed replica becoming ready.

    Missing values are replaced, or a twin that grows before the step could not be found different. What does not happen
    within the horizon counts as the horizon. If a run had begun to grow before the step, a missing decision counts as
    0, and missing replicas as those that were starting at the step.
    """
    horizon_s = to_s - from_s
    parts = provisioning(run, from_s, horizon_s)
    missing = {"detection_s": horizon_s, "ready_first_s": horizon_s, "ready_last_s": horizon_s}
    if grew_before(run, from_s):
        ready = run.events[(run.events["kind"] == "replica_ready") & run.events["t_s"].between(from_s, to_s)]
        ready_s = [0.0, *(ready["t_s"].sort_values() - from_s)]
        missing = {"detection_s": 0.0, "ready_first_s": ready_s[min(1, len(ready_s) - 1)], "ready_last_s": ready_s[-1]}
    known = {name: float(getattr(parts, name)) for name in missing}
    return {name: value if np.isfinite(value) else missing[name] for name, value in known.items()}


def _service_s(run: Run, from_s: float, to_s: float) -> float:
    """Mean time from one answer of a replica to its next, if that one waited meanwhile. Unlike the mean response, it
    does not depend on how long starts take."""
    served = answered(run.requests).sort_values("done_s", kind="stable")
    before_s = served.groupby("replica_id")["done_s"].shift()
    busy = (served["queue_s"] > MIN_WAIT_S) & (before_s > served["intended_s"])
    inside = busy & served["intended_s"].between(from_s, to_s)
    return float((served["done_s"] - before_s)[inside].mean())


def differences(live: pd.DataFrame, twin: pd.DataFrame, figure: str) -> pd.Series:
    """Twin less live for each live run that has the figure, by ``run_id``: of logarithms where the margin is relative,
    else in its unit; NaN where no twin has it.

    Args:
        live: one row per run: ``run_id`` and figures. twin: rows of the same setups, ``run_id`` of the live run whose
            setup it is; their mean (of logarithms) stands for the setup.
    """
    live_values = live.dropna(subset=[figure]).set_index("run_id")[figure]
    twin_values = twin.dropna(subset=[figure]).set_index("run_id")[figure]
    if MARGINS[figure].relative:
        live_values, twin_values = np.log(live_values), np.log(twin_values)
    return twin_values.groupby(level=0).mean().reindex(live_values.index) - live_values


@dataclass(frozen=True)
class Likeness:
    """One figure's verdict. ``estimate``, ``low``, ``high``: the ratio twin / live, or the difference; ``margin``
    in the same unit, either way; ``noise``: what live runs differ among themselves, as half of such an interval."""

    figure: str
    n: int
    live: float
    twin: float
    estimate: float
    low: float
    high: float
    margin: float
    noise: float
    verdict: Verdict


def judge_figure(live: pd.DataFrame, twin: pd.DataFrame, figure: str) -> Likeness:
    """Two one-sided t-tests: equivalent if the 90 % interval lies within the margins; different if it excludes "no
    difference" and its middle lies outside the margins; else inconclusive."""
    margin = MARGINS[figure]
    gaps = differences(live, twin, figure).dropna().to_numpy(dtype=float)
    mean_live, mean_twin = float(live[figure].mean()), float(twin.groupby("run_id")[figure].mean().mean())
    if len(gaps) < 2:
        return Likeness(figure, len(gaps), mean_live, mean_twin, NAN, NAN, NAN, NAN, NAN, "inconclusive")
    middle, half_width = float(gaps.mean()), _half_width(gaps)
    noise = _noise(live, figure)
    width = margin.width(mean_live)
    verdict = _verdict(middle, half_width, *_bounds(margin, width))
    interval = [middle, middle - half_width, middle + half_width]
    if margin.relative:
        interval, noise = [float(np.exp(value)) for value in interval], float(np.expm1(noise))
    estimate, low, high = interval
    return Likeness(figure, len(gaps), mean_live, mean_twin, estimate, low, high, width, noise, verdict)


def _bounds(margin: Margin, width: float) -> tuple[float, float]:
    """Bounds on the difference, on the scale on which it is judged."""
    return (float(np.log(1 - width)), float(np.log(1 + width))) if margin.relative else (-width, width)


def _verdict(middle: float, half_width: float, low: float, high: float) -> Verdict:
    if low < middle - half_width and middle + half_width < high:
        return "equivalent"
    if abs(middle) > half_width and not low < middle < high:
        return "different"
    return "inconclusive"


def _half_width(values: Floats) -> float:
    return float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1)) * float(stats.sem(values))


def _noise(live: pd.DataFrame, figure: str) -> float:
    """Half the 90 % interval of live runs against as many others of their setup. (A perfect twin has many draws, and so
    less noise.) The variance is pooled over the setups that were run more than once."""
    values = np.log(live[figure]) if MARGINS[figure].relative else live[figure]
    groups = [group.dropna().to_numpy(dtype=float) for _, group in values.groupby(live["setup"])]
    groups = [group for group in groups if len(group) > 1]
    freedom = sum(len(group) - 1 for group in groups)
    if not freedom:
        return NAN
    variance = sum(float(group.var(ddof=1)) * (len(group) - 1) for group in groups) / freedom
    number = int(values.notna().sum())
    return float(stats.t.ppf(0.5 + LEVEL / 2, freedom)) * float(np.sqrt(2 * variance / number))


def likeness(live: pd.DataFrame, twin: pd.DataFrame) -> pd.DataFrame:
    """Every figure of every environment: a row each, columns of `Likeness` and ``environment``.

    Args:
        live, twin: rows with ``environment``, ``setup`` (which schedule and settings), ``run_id`` (twin: of the live
            run) and the figures of `likeness_figures`.
    """
    rows = []
    for name, live_rows in live.groupby("environment", sort=False):
        twin_rows = twin[twin["environment"] == name]
        rows += [{"environment": name, **vars(judge_figure(live_rows, twin_rows, figure))} for figure in MARGINS]
    return pd.DataFrame(rows)


def rejected_share(
    live: pd.DataFrame,
    twin: pd.DataFrame,
    figures: Sequence[str] = tuple(MARGINS),
    *,
    resamples: int = 1000,
    seed: int = 0,
) -> float:
    """Share of resamples of one environment's live runs in which a twin is found different in at least one of the
    figures, at a family-wise error rate of 10 % (see `_critical_t`)."""
    rng = np.random.default_rng([seed, 21])
    named = live.set_index("run_id")
    gaps = np.column_stack([differences(live, twin, name).reindex(named.index) for name in figures]).astype(float)
    bounds = [_bounds(MARGINS[name], MARGINS[name].width(float(live[name].mean()))) for name in figures]
    low, high = np.array(bounds).T
    rejected = 0
    for _ in range(resamples):
        values = gaps[rng.integers(0, len(gaps), len(gaps))]
        middle, t = _means_and_t(values, np.ones((1, len(values))))
        outside = (middle[0] < low) | (middle[0] > high)
        rejected += bool((outside & (np.abs(t[0]) > _critical_t(values, rng))).any())
    return rejected / resamples


def _critical_t(values: Floats, rng: np.random.Generator) -> float:
    """Joint critical value of |t|: the largest |t| of all columns exceeds it in 10 % of the flips of rows' signs, which
    assumes differences that are symmetric around 0. Correlated columns count as little more than one.

    Source: P. H. Westfall, S. S. Young, Resampling-Based Multiple Testing (1993), maxT.
    """
    runs = len(values)
    if runs <= _EXHAUSTIVE_UP_TO:
        numbers = np.arange(2 ** (runs - 1))[:, None]
        flipped = (numbers >> np.arange(runs)) & 1
    else:
        flipped = rng.integers(0, 2, (2 ** (_EXHAUSTIVE_UP_TO - 1), runs))
    _, t = _means_and_t(values, np.where(flipped == 1, -1.0, 1.0))
    return float(np.quantile(np.abs(t).max(axis=1), LEVEL))


def _means_and_t(values: Floats, signs: Floats) -> tuple[Floats, Floats]:
    """Means and one-sample t of each column of (runs, figures) with its rows' signs flipped as in (flips, runs): both
    (flips, figures). A column with fewer than `_MIN_VALUES` values has t = 0."""
    present = np.isfinite(values)
    count = np.maximum(present.sum(axis=0), 1)
    known = np.where(present, values, 0.0)
    mean = signs @ known / count
    variance = np.maximum((known**2).sum(axis=0) / count - mean**2, 0.0) / np.maximum(count - 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(mean == 0.0, 0.0, mean / np.sqrt(variance))
    return mean, np.where(count >= _MIN_VALUES, t, 0.0)


def trajectory_errors(live: Sequence[Run], twins: Sequence[Sequence[Run]]) -> tuple[float, float]:
    """Deviation of the twin's m_t from that of the live runs of one setup, mean over time and runs, relative to the
    live m_t; and the deviation of each live run from the mean of the others.

    Args:
        twins: for each live run, those of its setup; their mean is the twin's m_t.
    """
    horizon_s = min(to_s - from_s for from_s, to_s in map(judged_span, live))
    at = np.arange(0.0, horizon_s, 0.5)
    live_m_s = np.array([around_step(run, at) for run in live])
    twin_m_s = np.array([np.mean([around_step(run, at) for run in draws], axis=0) for draws in twins])
    scale = float(np.nanmean(live_m_s))
    error = float(np.nanmean(np.abs(live_m_s - twin_m_s))) / scale
    if len(live) < 2:
        return error, NAN
    others = [_mean_where_known(np.delete(live_m_s, run, axis=0)) for run in range(len(live))]
    return error, float(np.nanmean(np.abs(live_m_s - np.array(others)))) / scale


def _mean_where_known(rows: Floats) -> Floats:
    """Mean over rows, ignoring NaN; NaN if all are."""
    known = np.isfinite(rows)
    number = known.sum(axis=0)
    return np.where(number > 0, np.where(known, rows, 0.0).sum(axis=0) / np.maximum(number, 1), NAN)
