"""Containers and machines that scale, on one time axis: load, response, pods, machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mlscale.analysis.components import replicas_in_all
from mlscale.analysis.durations import durations
from mlscale.analysis.moving import WINDOW_S, moving
from mlscale.analysis.populations import MACHINES, PODS, populations
from mlscale.plots.style import INK, MUTED, attach, colour, mark_modes, new_axes, shade, style
from mlscale.plots.timelines import ABOVE, FAILURE, finish_timeline
from mlscale.runs import ClosedLoop, Run

_STRENGTHS: Final = {"ready": 1.0, "starting": 0.5, "joining": 0.5, "pending": 0.16, "booting": 0.16}
_WORDS: Final = {
    "ready": "ready",
    "starting": "starting",
    "pending": "pending, on no machine",
    "joining": "joining",
    "booting": "requested, booting",
}
_ABOVE: Final[dict[str, Any]] = ABOVE | {"bbox_to_anchor": (1.0, 0.98), "handlelength": 1.4}


def joined_timeline(run: Run, level_s: float | None = None, *, which: str = "") -> npt.NDArray[Any]:
    """Four axes under one another: load; m_t with its sigma_t band; pods by state; machines by state.

    Args:
        which: how the run was chosen, in words.
    Returns:
        The axes. `plotted`: t_s, clients (or requests/s, as they were sent); t_s, mean_s, sd_s; t_s and pods; t_s and
        machines.
    """
    with style():
        column = new_axes(4, 1, 6.2, sharex=True, height_ratios=[0.55, 2.0, 1.1, 1.1])[:, 0]
        _load(column[0], run)
        _response(column[1], run, level_s)
        _states(column[2], run, PODS, "pods")
        _states(column[3], run, MACHINES, "machines")
        numbers = replicas_in_all(run.replicas)
        column[2].step(
            numbers["t_s"], numbers["desired"], where="post", color=INK, lw=0.9, ls=(0, (3, 1.5)), label="desired"
        )
        column[2].legend(ncols=4, **_ABOVE)
        finish_timeline(column, run, which)
        mark_modes(column[1], [run.info.mode])
    return column


def _load(axes: Axes, run: Run) -> None:
    schedule = run.info.schedule
    if isinstance(schedule, ClosedLoop):
        unit, starts, levels = "clients", list(schedule.boundaries_s), list(schedule.levels)
    else:
        unit, starts = "requests/s", list(np.arange(0.0, schedule.duration_s))
        levels = list(np.histogram(run.requests["intended_s"], [*starts, schedule.duration_s])[0].astype(float))
    axes.fill_between([*starts, schedule.duration_s], [*levels, levels[-1]], step="post", color=MUTED, alpha=0.35, lw=0)
    axes.set_ylim(0, 1.15 * max(levels))
    axes.yaxis.set_major_locator(MaxNLocator(2, integer=True))
    axes.set_ylabel(unit)
    attach(axes, pd.DataFrame({"t_s": starts, unit: levels}))


def _response(axes: Axes, run: Run, level_s: float | None) -> None:
    table = moving(run.requests, WINDOW_S, "done", timeout_s=run.info.timeout_s)
    tone = colour(run.info.environment)
    low = (table["mean_s"] - table["sd_s"]).clip(lower=0.0)
    axes.fill_between(table["t_s"], low, table["mean_s"] + table["sd_s"], color=tone, alpha=0.22, lw=0)
    axes.plot(table["t_s"], table["mean_s"], color=tone, lw=1.8, label=r"$m_t$ ± $\sigma_t$")
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    failed = frame[~frame["ok"]]
    top = float(np.nanmax((table["mean_s"] + table["sd_s"]).to_numpy(), initial=0.1))
    if len(failed):
        axes.plot(failed["ended_s"], [top] * len(failed), "x", ms=4, color=FAILURE, ls="", label="failures")
    if level_s is not None:
        axes.axhline(level_s, color=MUTED, lw=0.9, ls=(0, (1, 1)), label=f"L = {level_s:g} s")
    axes.set_ylim(0.0, 1.05 * max(top, level_s or 0.0))
    axes.set_ylabel("response time (s)")
    axes.legend(ncols=3, **_ABOVE)
    attach(axes, table)


def _states(axes: Axes, run: Run, states: Mapping[str, str], label: str) -> None:
    steps = populations(run, states)
    end_s = run.info.schedule.duration_s
    frame = pd.concat([steps, steps.tail(1).assign(t_s=end_s)]) if len(steps) else steps
    tone, floor = colour(run.info.environment), np.zeros(len(frame))
    for state in reversed([name for name in frame.columns if name != "t_s"]):
        height = floor + frame[state].to_numpy(dtype=float)
        fill = shade(tone, _STRENGTHS[state])
        hatch = "////" if state in ("pending", "booting") else None
        axes.fill_between(
            frame["t_s"],
            floor,
            height,
            step="post",
            facecolor=fill,
            edgecolor=MUTED if hatch else "none",
            hatch=hatch,
            lw=0,
            label=_WORDS[state],
        )
        floor = height
    axes.set_ylim(0, max(float(floor.max(initial=1.0)), 1.0) + 0.6)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylabel(label)
    axes.legend(ncols=4, **_ABOVE)
    attach(axes, steps)
