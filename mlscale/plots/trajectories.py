"""The main figure: m_t with its sigma_t around a load step, and the replicas that answered it, on one time axis."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import fill
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from mlscale.analysis.components import replicas_in_all
from mlscale.analysis.design import MAX_INVALID_SHARE
from mlscale.analysis.durations import By
from mlscale.analysis.moving import WINDOW_S, moving
from mlscale.analysis.response import horizon_of, recovery
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    NOT_VALID,
    NOT_VALID_LINE,
    attach,
    colour,
    headline,
    in_order,
    invalid_runs,
    mark_modes,
    new_axes,
    not_valid,
    short_name,
)
from mlscale.runs import ClosedLoop, MlscaleError, Run

STEP_S: Final = 0.25
BEFORE_S: Final = 20.0
_DASHES: Final = (0, (3, 1.5))
_DOTS: Final = (0, (1, 1))


@figure
def trajectory(runs: Sequence[Run], level_s: float | None = None) -> npt.NDArray[Any]:
    """Moving mean and spread of the response, and replicas, around the step; a column per environment.

    Thin lines are runs, the thick line is their median m_t by completion, the band reaches from median m_t -
    median sigma_t to median m_t + median sigma_t, the dashed line is the median m_t by intended time (no
    survivor's bias), on which the median T_slo is marked. Invalid runs are thin grey dashed lines and enter no median;
    an environment without a valid run stays, in grey, with the reason.

    Args:
        runs: with a load step; every run given is drawn.
    `plotted`: environment, run_id ("median" for medians), view (done / intended), t_s, mean_s, sd_s for the upper row,
    environment, run_id, t_s, ready, desired for the lower one.
    Raises:
        MlscaleError: a run without a step.
    """
    if any(run.info.step_s is None for run in runs):
        raise MlscaleError("a trajectory needs runs with a load step", "trajectory", "leave the others out")
    names = in_order([run.info.environment for run in runs])
    grid = new_axes(2, len(names), 4.8, sharex="col", sharey="row", gridspec_kw={"height_ratios": [2.6, 1]})
    for column, name in enumerate(names):
        env_runs = [run for run in runs if run.info.environment == name]
        response_panel(grid[0, column], env_runs, level_s)
        replica_panel(grid[1, column], env_runs)
        valid = len(_valid(env_runs))
        count = f"n = {valid}" + (f", {len(env_runs) - valid} invalid" if valid < len(env_runs) else "")
        tone = colour(name) if valid else NOT_VALID
        grid[0, column].set_title(f"{short_name(name)}\n{count}", color=tone, fontsize=9)
        grid[1, column].set_xlabel("time since the load step (s)")
    grid[0, 0].set_ylabel("response time (s)")
    grid[1, 0].set_ylabel("replicas")
    _same_limits(grid)
    _explain(grid, level_s, any(not run.info.valid for run in runs))
    headline(grid[0, 0], _headline(runs, level_s), {run.info.mode for run in runs})
    return grid


def response_panel(axes: Axes, runs: Sequence[Run], level_s: float | None) -> Axes:
    """m_t and sigma_t of runs of one environment, the medians of the valid ones, the step and L."""
    name, valid = runs[0].info.environment, _valid(runs)
    at = _times(runs)
    done, intended = _views(runs, at)
    _single_runs(axes, done, "mean_s", name, valid)
    counted = [run.info.run_id for run in valid]
    middle = done[done["run_id"].isin(counted)].groupby("t_s")[["mean_s", "sd_s"]].median()
    by_intended = intended[intended["run_id"].isin(counted)].groupby("t_s")["mean_s"].median()
    if valid:
        low, high = middle["mean_s"] - middle["sd_s"], middle["mean_s"] + middle["sd_s"]
        axes.fill_between(at, np.maximum(low, 0.0), high, color=colour(name), alpha=0.18, lw=0)
        axes.plot(at, by_intended.to_numpy(), color=INK, lw=0.9, ls=_DASHES)
        axes.plot(at, middle["mean_s"].to_numpy(), color=colour(name), lw=2.0)
    else:
        reasons = ["; ".join(run.info.validity.reasons) if run.info.validity else "" for run in runs]
        _say(axes, fill(not_valid(reasons), 34))
    axes.axvline(0.0, color=INK, lw=0.8)
    if level_s is not None:
        axes.axhline(level_s, color=MUTED, lw=0.9, ls=_DOTS)
        if valid:
            _mark_recovery(axes, valid, level_s, by_intended)
    axes.set_xlim(at[0], at[-1])
    mark_modes(axes, {run.info.mode for run in runs})
    medians = [
        middle.reset_index().assign(run_id="median", view="done"),
        by_intended.reset_index().assign(run_id="median", view="intended"),
    ]
    return attach(axes, pd.concat([done, intended, *medians], ignore_index=True).assign(environment=name))


def replica_panel(axes: Axes, runs: Sequence[Run]) -> Axes:
    """Replicas ready (thin: runs, thick: median) and desired (dashed: median), against time since the step."""
    name, valid = runs[0].info.environment, _valid(runs)
    at = _times(runs)
    numbers = pd.concat([_replicas(run, at) for run in runs], ignore_index=True)
    _single_runs(axes, numbers, "ready", name, valid)
    counted = [run.info.run_id for run in valid]
    middle = numbers[numbers["run_id"].isin(counted)].groupby("t_s")[["ready", "desired"]].median()
    if valid:
        axes.step(at, middle["desired"], where="post", color=INK, lw=0.9, ls=_DASHES)
        axes.step(at, middle["ready"], where="post", color=colour(name), lw=2.0)
    axes.axvline(0.0, color=INK, lw=0.8)
    axes.annotate(
        _step_text(runs[0]),
        (0.0, 0.03),
        xycoords=("data", "axes fraction"),
        xytext=(4, 0),
        textcoords="offset points",
        fontsize=7.5,
        color=INK,
        va="bottom",
        ha="left",
    )
    axes.set_xlim(at[0], at[-1])
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    everything = pd.concat([numbers, middle.reset_index().assign(run_id="median")], ignore_index=True)
    return attach(axes, everything.assign(environment=name))


def _valid(runs: Sequence[Run]) -> list[Run]:
    return [run for run in runs if run.info.valid]


def _single_runs(axes: Axes, numbers: pd.DataFrame, column: str, name: str, valid: Sequence[Run]) -> None:
    counted, drawstyle = {run.info.run_id for run in valid}, "steps-post" if column == "ready" else "default"
    for run_id, run in numbers.groupby("run_id", sort=False):
        line_style = {"color": colour(name), "lw": 0.5, "alpha": 0.45} if run_id in counted else NOT_VALID_LINE
        axes.plot(run["t_s"], run[column], drawstyle=drawstyle, **line_style)


def _mark_recovery(axes: Axes, runs: Sequence[Run], level_s: float, by_intended: pd.Series[float]) -> None:
    """Mark the median T_slo on the intended-time curve, and write the median time over L.

    The latter adds what T_slo can't show: a controller may remove replicas again, so that m_t rises once more.
    A censored median is written, not drawn.
    """
    responses = [recovery(run, level_s) for run in runs]
    middle = float(np.median([response.t_slo_s for response in responses]))
    over = float(np.median([response.over_level_s for response in responses]))
    text = f"over L {over:.0f} of {responses[0].horizon_s:.0f} s"
    if middle >= responses[0].horizon_s - WINDOW_S:
        text = f"never under L for {WINDOW_S:g} s\n{text}"
    elif middle > 0:
        known = by_intended.dropna()
        height = float(np.interp(middle, known.index, known)) if len(known) else level_s
        axes.plot(middle, height, "v", ms=6, color=INK, mec="white", mew=0.7, zorder=6)
        text = f"under L after {middle:.0f} s (▼)\n{text}"
    _say(axes, text)


def _say(axes: Axes, text: str) -> None:
    axes.annotate(
        text,
        (0.99, 0.98),
        xycoords="axes fraction",
        ha="right",
        va="top",
        fontsize=8,
        color=INK,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5},
        zorder=6,
    ).set_in_layout(False)


def _headline(runs: Sequence[Run], level_s: float | None) -> str:
    """The median T_slo of every environment that may be compared, the shortest first, and what is wrong with others."""
    if level_s is None:
        return "response time and replicas around the load step"
    times, others = {}, []
    for name in in_order([run.info.environment for run in runs]):
        env_runs = [run for run in runs if run.info.environment == name]
        valid = _valid(env_runs)
        judged = [run for run in env_runs if run.info.validity is None or not run.info.validity.disturbed] or env_runs
        if (len(judged) - len(valid)) / len(judged) > MAX_INVALID_SHARE:
            others.append(invalid_runs(name, len(judged) - len(valid), len(judged)))
            continue
        responses = [recovery(run, level_s) for run in valid]
        middle = float(np.median([response.t_slo_s for response in responses]))
        censored = middle >= responses[0].horizon_s - WINDOW_S
        outcome = f"not within {responses[0].horizon_s:.0f} s" if censored else f"after {middle:.0f} s"
        times[f"{short_name(name)} {outcome}"] = middle
    text = f"back under L = {level_s:g} s after the load step: " + ", ".join(sorted(times, key=times.__getitem__))
    return "; ".join([*([text] if times else []), *([f"not comparable: {', '.join(others)}"] if others else [])])


def _times(runs: Sequence[Run]) -> npt.NDArray[np.float64]:
    """Moments around the step that every run covers, s since the step."""
    horizon = min(horizon_of(run) for run in runs)
    before = min(BEFORE_S, min(float(run.info.step_s or 0.0) for run in runs))
    return np.asarray(np.arange(-np.floor(before / STEP_S), np.floor(horizon / STEP_S) + 1) * STEP_S, dtype=float)


def _views(runs: Sequence[Run], at: npt.NDArray[np.float64]) -> tuple[pd.DataFrame, pd.DataFrame]:
    sides: tuple[By, By] = ("done", "intended")
    views = []
    for by in sides:
        parts = []
        for run in runs:
            at_s = float(run.info.step_s or 0.0) + at
            parts.append(moving(run.requests, WINDOW_S, by, timeout_s=run.info.timeout_s, at_s=at_s))
        moved = pd.concat(parts, ignore_index=True)[["mean_s", "sd_s"]]
        run_ids = np.repeat([run.info.run_id for run in runs], len(at))
        views.append(moved.assign(t_s=np.tile(at, len(runs)), run_id=run_ids, view=by))
    return views[0], views[1]


def _replicas(run: Run, at: npt.NDArray[np.float64]) -> pd.DataFrame:
    samples = replicas_in_all(run.replicas)
    last = np.searchsorted(samples["t_s"].to_numpy(), float(run.info.step_s or 0.0) + at, side="right")
    ready, desired = (np.append(np.nan, samples[name].to_numpy(dtype=float))[last] for name in ("ready", "desired"))
    return pd.DataFrame({"t_s": at, "ready": ready, "desired": desired, "run_id": run.info.run_id})


def _step_text(run: Run) -> str:
    schedule, t0 = run.info.schedule, float(run.info.step_s or 0.0)
    if not isinstance(schedule, ClosedLoop):
        return "load step"
    before = [stage.clients for stage in schedule.stages if stage.start_s < t0 - 1e-6]
    after = [stage.clients for stage in schedule.stages if stage.start_s >= t0 - 1e-6]
    return f"{before[-1] if before else 0} → {after[0]} clients" if after else "load step"


def _same_limits(grid: npt.NDArray[Any]) -> None:
    """Same limits from 0 for all; isolated peaks of single runs may exceed them, so that the rest stays legible."""
    tops = [1e-3]
    for axes in grid[0]:
        numbers = axes.mlscale_numbers
        middle = numbers[(numbers["run_id"] == "median") & (numbers["view"] == "done")]
        single = numbers[numbers["run_id"] != "median"]
        tops += [
            float(middle["mean_s"].max()),
            float((middle["mean_s"] + middle["sd_s"]).quantile(0.985)),
            float(single["mean_s"].quantile(0.985)),
        ]
    grid[0, 0].set_ylim(0.0, 1.35 * float(np.nanmax(tops)))
    maxima = [axes.mlscale_numbers[["ready", "desired"]].max(axis=None) for axes in grid[1]]
    grid[1, 0].set_ylim(0.0, max([1.0, *(float(count) for count in maxima if np.isfinite(count))]) + 0.5)


def _explain(grid: npt.NDArray[Any], level_s: float | None, invalid: bool) -> None:
    handles = [
        Line2D([], [], color=MUTED, lw=2.0, label="mean $m_t$ by completion (below: ready), median"),
        Line2D([], [], color=INK, lw=0.9, ls=_DASHES, label="$m_t$ by intended time (below: desired), median"),
        Patch(color=BAND, label=rf"$m_t$ ± standard deviation $\sigma_t$, over W = {WINDOW_S:g} s"),
        Line2D([], [], color=MUTED, lw=0.5, label="single runs"),
    ]
    if invalid:
        handles.append(Line2D([], [], **NOT_VALID_LINE, label="invalid runs, not in the median"))
    if level_s is not None:
        handles += [
            Line2D([], [], color=MUTED, lw=0.9, ls=_DOTS, label=f"L = {level_s:g} s"),
            Line2D(
                [], [], color=INK, marker="v", ls="", ms=6, label=rf"median $T_{{slo}}$: under L for {WINDOW_S:g} s"
            ),
        ]
    grid[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=7.5, handlelength=2.4)
