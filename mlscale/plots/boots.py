"""What the time that a machine takes to boot does to the upscaling response: a line, parts as bars, trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.dose import NO_MACHINES, PARTS, slope_on_boot, variant_of
from mlscale.analysis.moving import WINDOW_S, moving
from mlscale.analysis.response import horizon_of
from mlscale.plots.style import INK, MUTED, attach, colour, mark_modes, marker, new_axes, shade, style
from mlscale.runs import Run

BEFORE_S: Final = 10.0
EVERY_S: Final = 0.5
_WORDS: Final = {
    "detection": "until the HPA decided",
    "machine": "until the last pod waited for had a machine",
    "container": "until it was ready",
    "recovery": "until $m_t$ was back under L",
}
_SHADES: Final = {"detection": 0.25, "machine": 1.0, "container": 0.6, "recovery": 0.12}


def boot_response(rows: pd.DataFrame, environment: str = "eks", modes: tuple[str, ...] = ("rehearsal",)) -> Axes:
    """T_slo over the observed boot time, one point a run; the line by least squares, where it can be drawn.

    Args:
        rows: `mlscale.analysis.dose.dose_rows`. Open points: censored, so T_slo is at least that.

    Returns:
        The axes; `plotted`: variant, boot_s, t_slo_s, t_slo_censored, block.
    """
    tone = colour(environment)
    with style():
        axes: Axes = new_axes(1, 1, 3.4)[0, 0]
        line = slope_on_boot(rows)
        dosed = rows[rows["boot_s"].notna()]
        plain = dosed[~dosed["variant"].str.contains("kept free")]
        longest = max(float(plain["boot_s"].max()) if len(plain) else 1.0, 1.0)
        if line is not None:
            ends = np.array([0.0, longest])
            axes.plot(ends, line.intercept_s + line.slope * ends, color=tone, lw=1.2, zorder=1)
            axes.set_title(
                f"Each second of boot: {line.slope:.2f} s [{line.low:.2f}, {line.high:.2f}] later", color=tone
            )
        for late, group in plain.groupby(plain["t_slo_censored"].astype(bool)):
            face = "white" if late else tone
            axes.plot(group["boot_s"], group["t_slo_s"], marker(environment), ls="", ms=5, mec=tone, mfc=face)
        _references(axes, rows, longest)
        axes.set_xlim(-0.03 * longest, 1.3 * longest)
        axes.set_ylim(0, 1.08 * float(rows["t_slo_s"].max()))
        axes.set_xlabel("time that a machine took to boot (s)")
        axes.set_ylabel("$T_{slo}$ after the load step (s)")
        mark_modes(axes, modes)
        attach(axes, rows[["variant", "boot_s", "t_slo_s", "t_slo_censored", "block"]].reset_index(drop=True))
    return axes


def _references(axes: Axes, rows: pd.DataFrame, longest: float) -> None:
    """Runs that wait for no machine, at the right."""
    for name, sign, tone, beside in ((NO_MACHINES, "D", colour("k3s"), 4), ("kept free", "P", INK, -11)):
        group = rows[rows["variant"].str.contains(name)]
        if group.empty:
            continue
        mean_s = float(group["t_slo_s"].mean())
        axes.axhline(mean_s, color=tone, lw=0.8, ls=(0, (3, 2)), zorder=0)
        axes.plot([1.08 * longest] * len(group), group["t_slo_s"], sign, ls="", ms=5, color=tone)
        words = "room always there" if name == NO_MACHINES else "room kept free"
        axes.annotate(
            words, (1.12 * longest, mean_s), xytext=(0, beside), textcoords="offset points", color=tone, fontsize=8
        )


def boot_parts(rows: pd.DataFrame, environment: str = "eks", modes: tuple[str, ...] = ("rehearsal",)) -> Axes:
    """Where the time went after the step, one bar a variant: the means over its runs; a dot is one run's T_slo.

    Returns:
        The axes; `plotted`: variant and the mean of each part, s.
    """
    order = _order(rows)
    means = rows.groupby("variant")[[f"{part}_s" for part in PARTS]].mean().reindex(order)
    with style():
        axes: Axes = new_axes(1, 1, 1.2 + 0.42 * len(order))[0, 0]
        left = np.zeros(len(means))
        for part in PARTS:
            width = means[f"{part}_s"].fillna(0.0).to_numpy()
            tint = shade(colour(environment), _SHADES[part])
            axes.barh(range(len(means)), width, left=left, color=tint, height=0.62, label=_WORDS[part], lw=0)
            left = left + width
        for place, name in enumerate(order):
            group = rows[rows["variant"] == name]
            hollow = group["t_slo_censored"].astype(bool)
            axes.plot(group["t_slo_s"][~hollow], [place] * int((~hollow).sum()), "o", ms=3.5, color=INK, ls="")
            axes.plot(group["t_slo_s"][hollow], [place] * int(hollow.sum()), "o", ms=4, mec=INK, mfc="white", ls="")
        axes.set_yticks(range(len(order)), list(order))
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("time since the load step (s)")
        axes.legend(ncols=2, loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
        axes.spines["left"].set_color(MUTED)
        mark_modes(axes, modes)
        attach(axes, means.reset_index())
    return axes


def boot_trajectories(runs: Sequence[Run], rows: pd.DataFrame, level_s: float) -> Axes:
    """m_t around the step, one colour a variant: thick the mean over its runs, thin the runs.

    Args:
        runs: with a step; rows: of `mlscale.analysis.dose.dose_rows` over the same runs.

    Returns:
        The axes; `plotted`: variant, run_id ("mean" for means), t_s since the step, mean_s.
    """
    order = _order(rows)
    end_s = min(1.2 * float(rows["t_slo_s"].max()), max(horizon_of(run) for run in runs))
    numbers = pd.concat([_moved(run, end_s) for run in runs], ignore_index=True)
    means = numbers.groupby(["variant", "t_s"], as_index=False)["mean_s"].mean().assign(run_id="mean")
    tones = _tones(order)
    with style():
        axes: Axes = new_axes(1, 1, 3.2)[0, 0]
        for (name, _), one in numbers.groupby(["variant", "run_id"], sort=False):
            axes.plot(one["t_s"], one["mean_s"], color=tones[str(name)], lw=0.4, alpha=0.5)
        for name in order:
            mine = means[means["variant"] == name]
            count = int((rows["variant"] == name).sum())
            axes.plot(mine["t_s"], mine["mean_s"], color=tones[name], lw=1.8, label=f"{name} (n = {count})")
        axes.axhline(level_s, color=MUTED, lw=0.9, ls=(0, (1, 1)), label=f"L = {level_s:g} s")
        axes.axvline(0.0, color=INK, lw=0.8)
        axes.set_xlim(-BEFORE_S, end_s)
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("time since the load step (s)")
        axes.set_ylabel(f"response time (s), mean $m_t$, W = {WINDOW_S:g} s")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        mark_modes(axes, {run.info.mode for run in runs})
        attach(axes, pd.concat([numbers, means], ignore_index=True))
    return axes


def _order(rows: pd.DataFrame) -> list[str]:
    """Variants by the boot time that was observed, those without machines first."""
    sort = rows.assign(sort=rows["boot_s"].fillna(-1.0)).groupby("variant")["sort"].mean().sort_values()
    return [str(name) for name in sort.index]


def _moved(run: Run, end_s: float) -> pd.DataFrame:
    t0 = float(run.info.step_s or 0.0)
    at = np.arange(-BEFORE_S, min(end_s, horizon_of(run)), EVERY_S)
    frame = moving(run.requests, WINDOW_S, "done", timeout_s=run.info.timeout_s, at_s=t0 + at)
    return frame[["mean_s"]].assign(t_s=at, run_id=run.info.run_id, variant=variant_of(run))


def _tones(order: Sequence[str]) -> dict[str, str | tuple[float, float, float]]:
    """Machines: the darker, the longer they take to boot."""
    dosed = [name for name in order if name != NO_MACHINES and "kept free" not in name]
    tones: dict[str, str | tuple[float, float, float]] = dict.fromkeys(order, INK)
    tones |= {name: shade(colour("eks"), 0.3 + 0.7 * (k + 1) / len(dosed)) for k, name in enumerate(dosed)}
    return tones | {NO_MACHINES: colour("k3s")}
