"""What the time that a machine takes to boot does to the upscaling response: a line, and its parts as bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.boot_time_response import NO_MACHINES, PARTS, Slope, boot_time_rows, slope_on_boot
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    INK,
    MUTED,
    attach,
    colour,
    headline,
    mark_modes,
    marker,
    new_axes,
    shade,
    spread,
)
from mlscale.runs import Run

_MODES: Final = ("rehearsal",)
_WORDS: Final = {
    "detection": "until the autoscaler decided",
    "machine": "until the last pending replica had a machine",
    "container": "until it was ready",
    "recovery": "until $m_t$ was below L again",
}
# The darker, the later.
_SHADES: Final = {"detection": 0.2, "machine": 0.45, "container": 0.75, "recovery": 1.0}


@figure
def boot_response(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> npt.NDArray[Any]:
    """T_slo, one point a run: left over the observed boot time, with the line by least squares where it can be drawn;
    right where nobody waited for a machine, on an axis of its own.
    Open points: censored, so T_slo is at least that. `plotted`: variant, boot_s, t_slo_s, t_slo_censored, block.
    """
    rows = boot_time_rows(runs, level_s) if rows is None else rows
    no_wait = rows["boot_s"].isna() | rows["variant"].str.contains("kept free")
    sides = [rows[~no_wait], rows[no_wait]] if no_wait.any() else [rows]
    pair = new_axes(1, len(sides), 3.4, sharey=True, width_ratios=[3.2, 1.0][: len(sides)])[0]
    line, waiting, name = slope_on_boot(rows), sides[0], _environment(rows)
    longest = max(float(waiting["boot_s"].max()) if len(waiting) else 1.0, 1.0)
    if line is not None:
        ends = np.array([0.0, longest])
        pair[0].plot(ends, line.intercept_s + line.slope * ends, color=colour(name), lw=1.2, zorder=1)
    headline(pair[0], _slope_text(line), _MODES)
    _points(pair[0], waiting["boot_s"], waiting, marker(name), colour(name))
    pair[0].set_xlim(-0.03 * longest, 1.06 * longest)
    pair[0].set_xlabel("boot time of a machine (s)")
    pair[0].set_ylabel("$T_{slo}$ after the load step (s)")
    if no_wait.any():
        groups = list(sides[1].groupby(sides[1]["boot_s"].isna()))
        for x, (no_machines, group) in enumerate(groups):
            point_style = ("D", colour("k3s")) if no_machines else ("P", INK)
            _points(pair[1], x + spread(len(group), 0.3), group, *point_style)
            pair[1].plot([x - 0.3, x + 0.3], [group["t_slo_s"].mean()] * 2, color=INK, lw=1.2)
        words = ["room\nalways there" if no_machines else "room\nkept free" for no_machines, _ in groups]
        pair[1].set_xticks(range(len(groups)), words)
        pair[1].set_xlim(-0.6, len(groups) - 0.4)
        pair[1].set_xlabel("no machine to wait for")
    pair[0].set_ylim(0, max(1.0, 1.08 * float(rows["t_slo_s"].max())))
    mark_modes(pair[0], _MODES)
    for panel, side in zip(pair, sides, strict=True):
        attach(panel, side[["variant", "boot_s", "t_slo_s", "t_slo_censored", "block"]].reset_index(drop=True))
    return np.asarray(pair)


def _points(axes: Axes, x: Any, rows: pd.DataFrame, symbol: str, base_colour: str) -> None:
    censored = rows["t_slo_censored"].to_numpy(dtype=bool)
    for mask, face in ((~censored, base_colour), (censored, "white")):
        axes.plot(np.asarray(x)[mask], rows["t_slo_s"][mask], symbol, ls="", ms=5, mec=base_colour, mfc=face)


@figure
def boot_parts(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Axes:
    """Where the time went after the step, one bar a variant: the means over its runs; a dot is one run's T_slo.
    `plotted`: variant and the mean of each part, s.
    """
    rows = boot_time_rows(runs, level_s) if rows is None else rows
    order = _order(rows)
    means = rows.groupby("variant")[[f"{part}_s" for part in PARTS]].mean().reindex(order)
    axes: Axes = new_axes(1, 1, 1.6 + 0.42 * len(order))[0, 0]
    left = np.zeros(len(means))
    for part in PARTS:
        width = means[f"{part}_s"].fillna(0.0).to_numpy()
        tint = shade(colour(_environment(rows)), _SHADES[part])
        axes.barh(
            range(len(means)),
            width,
            left=left,
            color=tint,
            height=0.62,
            label=_WORDS[part],
            edgecolor="white",
            lw=0.8,
        )
        left = left + width
    for y, name in enumerate(order):
        group = rows[rows["variant"] == name]
        hollow = group["t_slo_censored"].astype(bool)
        axes.plot(group["t_slo_s"][~hollow], [y] * int((~hollow).sum()), "o", ms=3.5, color=INK, mec="white", mew=0.4)
        axes.plot(group["t_slo_s"][hollow], [y] * int(hollow.sum()), "o", ms=4, mec=INK, mfc="white", ls="")
    counts = rows["variant"].value_counts()
    axes.set_yticks(range(len(order)), [f"{_label(name)} (n = {counts[name]})" for name in order])
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("time since the load step (s)")
    axes.plot([], [], "o", ms=3.5, color=INK, label="$T_{slo}$ of one run (open: at least)")
    handles, _ = axes.get_legend_handles_labels()
    axes.figure.legend(handles=[*handles[1:], handles[0]], ncols=2, loc="outside lower center")
    axes.spines["left"].set_color(MUTED)
    headline(axes, _headline(means), _MODES)
    mark_modes(axes, _MODES)
    attach(axes, means.reset_index())
    return axes


def _environment(rows: pd.DataFrame) -> str:
    """The environment whose machines are waited for."""
    waited = rows[rows["boot_s"].notna()]
    return str((waited if len(waited) else rows)["environment"].iloc[0])


def _order(rows: pd.DataFrame) -> list[str]:
    """Variants by the boot time that was observed, those without machines first."""
    boot_times = rows.assign(sort=rows["boot_s"].fillna(-1.0)).groupby("variant")["sort"].mean().sort_values()
    return [str(name) for name in boot_times.index]


def _label(variant: str) -> str:
    """A variant in the words of figures."""
    return "room always there" if variant == NO_MACHINES else variant


def _headline(means: pd.DataFrame) -> str:
    """The share of the response that is waiting for machines, at the longest boot time tried."""
    last = means.iloc[-1]
    machine_s, *others = np.nan_to_num([last["machine_s"], *(last[f"{part}_s"] for part in PARTS)])
    return f"{_label(str(last.name))}: {machine_s:.0f} of {sum(others):.0f} s are a wait for machines"


def _slope_text(line: Slope | None) -> str:
    if line is None:
        return "time until $m_t$ is below L again, by machine boot time"
    reach = f"95 % interval {line.low:.2f} to {line.high:.2f}, n = {line.n}{line.left_out}"
    return f"each second of boot makes the recovery {line.slope:.2f} s later ({reach})"
