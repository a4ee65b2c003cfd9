"""One run on one time axis: every request, m_t and sigma_t, replicas and decisions, cores in use, machines."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from mlscale.analysis.components import replicas_in_all
from mlscale.analysis.durations import durations
from mlscale.analysis.moving import WINDOW_S, moving
from mlscale.analysis.provisioning import decisions, machine_states
from mlscale.analysis.resources import SERVING, used_over_time
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    INK,
    MUTED,
    ROLE_NAMES,
    ROLE_SHADES,
    attach,
    headline,
    mark_modes,
    new_axes,
    not_valid,
    shade,
    short_name,
    tone,
)
from mlscale.runs import Run

_FAILURE: Final = "#B00020"
# Legends stand above their panel, where they hide nothing.
_ABOVE: Final[dict[str, Any]] = {
    "loc": "lower right",
    "bbox_to_anchor": (1.0, 0.99),
    "borderaxespad": 0.1,
    "handlelength": 1.6,
    "columnspacing": 1.2,
}


@figure
def timeline(run: Run, level_s: float | None = None, *, which: str = "") -> npt.NDArray[Any]:
    """One run on its own clock: every response, replicas with their decisions, cores by role, and machines by state
    where they scale. ``which``: how the run was chosen, in words.

    `plotted`: t_s, mean_s, sd_s; t_s, desired, starting, ready; t_s, role, cpu_cores; t_s and machines by state.
    """
    machines = machine_states(run)
    heights = [2.4, 1.1, 1.1, *[1.1] * (len(machines) > 0)]
    column: npt.NDArray[Any] = new_axes(len(heights), 1, 1.13 * sum(heights), sharex=True, height_ratios=heights)[:, 0]
    _responses(column[0], run, level_s)
    _replicas(column[1], run)
    _cores(column[2], run)
    if len(machines):
        _machines(column[3], run, machines)
    for panel in column:
        for bound in run.info.schedule.boundaries_s[1:]:
            panel.axvline(bound, color=INK, lw=0.8, zorder=1)
    headline(column[0], _title(run, which), [run.info.mode])
    column[-1].set_xlabel("time in the run (s)")
    column[-1].set_xlim(0, run.info.schedule.duration_s)
    mark_modes(column[0], [run.info.mode])
    return column


def _title(run: Run, which: str) -> str:
    """Which run a figure shows, how it was chosen (``which``), and why it is not valid."""
    words = [f"one run of {short_name(run.info.environment)} ({run.info.arm})", which]
    if not run.info.valid:
        words.append(not_valid(["; ".join(run.info.validity.reasons) if run.info.validity else ""]))
    return ", ".join(word for word in words if word)


def _responses(axes: Axes, run: Run, level_s: float | None) -> None:
    tint = tone(run.info.environment, [run.info.valid])
    frame = durations(run.requests, timeout_s=run.info.timeout_s)
    ok = frame[frame["ok"]]
    axes.plot(
        ok["ended_s"],
        ok["response_s"],
        ".",
        ms=3,
        color=MUTED,
        alpha=0.5,
        mew=0,
        ls="",
        label="one request",
        rasterized=True,
    )
    by_done = moving(run.requests, WINDOW_S, "done", timeout_s=run.info.timeout_s)
    low = (by_done["mean_s"] - by_done["sd_s"]).clip(lower=0.0)
    axes.fill_between(by_done["t_s"], low, by_done["mean_s"] + by_done["sd_s"], color=tint, alpha=0.22, lw=0)
    axes.plot(by_done["t_s"], by_done["mean_s"], color=tint, lw=1.8, label=r"$m_t$ ± $\sigma_t$, by completion")
    intended = moving(run.requests, WINDOW_S, "intended", timeout_s=run.info.timeout_s)
    axes.plot(intended["t_s"], intended["mean_s"], color=INK, lw=0.9, ls=(0, (3, 1.5)), label="$m_t$, by intended time")
    top = float(ok["response_s"].quantile(0.998)) if len(ok) else run.info.timeout_s
    failed = frame[~frame["ok"]]
    if len(failed):
        label = f"{len(failed)} failures (count as {run.info.timeout_s:g} s)"
        axes.plot(
            failed["ended_s"], [1.04 * top] * len(failed), "x", ms=4, color=_FAILURE, ls="", label=label, clip_on=False
        )
    if level_s is not None:
        axes.axhline(level_s, color=MUTED, lw=0.9, ls=(0, (1, 1)), label=f"L = {level_s:g} s")
        top = max(top, 1.1 * level_s)
    axes.set_ylim(0.0, 1.08 * top)
    axes.set_ylabel("response time (s)")
    axes.legend(ncols=5, markerscale=2, **_ABOVE)
    attach(axes, by_done)


def _replicas(axes: Axes, run: Run) -> None:
    tint = tone(run.info.environment, [run.info.valid])
    numbers = replicas_in_all(run.replicas)
    axes.step(numbers["t_s"], numbers["desired"], where="post", color=INK, lw=0.9, ls=(0, (3, 1.5)), label="desired")
    axes.fill_between(
        numbers["t_s"],
        numbers["ready"],
        numbers["ready"] + numbers["starting"],
        step="post",
        color=tint,
        alpha=0.25,
        lw=0,
        label="starting",
    )
    axes.step(numbers["t_s"], numbers["ready"], where="post", color=tint, lw=1.8, label="ready")
    all_decisions = decisions(run)
    changes = all_decisions[all_decisions["from"] != all_decisions["to"]]
    axes.plot(changes["t_s"], changes["to"], "v", ms=5, color=INK, mec="white", mew=0.5, ls="", label="decision")
    top = float(max(numbers[["desired", "ready"]].max(axis=None), 1.0)) if len(numbers) else 1.0
    axes.set_ylim(0, top + 0.6)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.set_ylabel("replicas")
    axes.legend(ncols=4, **_ABOVE)
    attach(axes, numbers.reset_index(drop=True))


def _cores(axes: Axes, run: Run) -> None:
    base = tone(run.info.environment, [run.info.valid])
    used = used_over_time(run.resources)
    wide = used[used["role"].isin(SERVING)].pivot(index="t_s", columns="role", values="cpu_cores")
    wide = wide.reindex(columns=[role for role in SERVING if role in wide]).fillna(0.0)
    if len(wide):
        tints = [shade(base, ROLE_SHADES[role]) for role in wide.columns]
        labels = [ROLE_NAMES[role] for role in wide.columns]
        axes.stackplot(wide.index, wide.to_numpy().T, colors=tints, labels=labels, lw=0)
        axes.legend(ncols=3, **_ABOVE | {"handlelength": 1.0})
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("cores in use")
    attach(axes, used[used["role"].isin(SERVING)].reset_index(drop=True) if len(used) else pd.DataFrame())


def _machines(axes: Axes, run: Run, steps: pd.DataFrame) -> None:
    tint = tone(run.info.environment, [run.info.valid])
    frame = pd.concat([steps, steps.tail(1).assign(t_s=run.info.schedule.duration_s)]).set_index("t_s")
    frame = frame[["ready", "joining", "booting"]]
    tints = [shade(tint, strength) for strength in (1.0, 0.5, 0.16)]
    axes.stackplot(frame.index, frame.to_numpy().T, labels=frame.columns, colors=tints, step="post", lw=0)
    axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylim(bottom=0.0)
    axes.set_ylabel("machines")
    axes.legend(ncols=3, **_ABOVE | {"handlelength": 1.0})
    attach(axes, steps)
