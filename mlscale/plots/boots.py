"""What the time that a machine takes to boot does to the upscaling response: a line, parts as bars, trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mlscale.analysis.boot_time_response import NO_MACHINES, PARTS, Slope, slope_on_boot, variant_of
from mlscale.analysis.moving import WINDOW_S
from mlscale.analysis.response import horizon_of
from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    NOT_VALID,
    attach,
    colour,
    headline,
    mark_modes,
    marker,
    new_axes,
    shade,
    spread,
    style,
    tone,
)
from mlscale.plots.variants import BEFORE_S, mean_around_step
from mlscale.runs import Run

_MODES: Final = ("rehearsal",)
_COLOUR, _MARKER = colour("eks"), marker("eks")
_WORDS: Final = {
    "detection": "until the HPA decided",
    "machine": "until the last pending pod had a machine",
    "container": "until it was ready",
    "recovery": "until $m_t$ was below L again",
}
# The darker, the later.
_SHADES: Final = {"detection": 0.2, "machine": 0.45, "container": 0.75, "recovery": 1.0}


def boot_response(rows: pd.DataFrame) -> npt.NDArray[Any]:
    """T_slo, one point a run: left over the observed boot time, with the line by least squares where it can be drawn;
    right where nobody waited for a machine, on an axis of its own.

    Args:
        rows: `mlscale.analysis.boot_time_response.boot_time_rows`. Open points: censored, so T_slo is at least that.

    Returns:
        Two axes, or one where every run waited; `plotted`: variant, boot_s, t_slo_s, t_slo_censored, block.
    """
    no_wait = rows["boot_s"].isna() | rows["variant"].str.contains("kept free")
    with style():
        sides = [rows[~no_wait], rows[no_wait]] if no_wait.any() else [rows]
        pair = new_axes(1, len(sides), 3.4, sharey=True, width_ratios=[3.2, 1.0][: len(sides)])[0]
        line, waiting = slope_on_boot(rows), sides[0]
        longest = max(float(waiting["boot_s"].max()) if len(waiting) else 1.0, 1.0)
        if line is not None:
            ends = np.array([0.0, longest])
            pair[0].plot(ends, line.intercept_s + line.slope * ends, color=_COLOUR, lw=1.2, zorder=1)
        headline(pair[0], _slope_text(line), _MODES)
        _points(pair[0], waiting["boot_s"], waiting, _MARKER, _COLOUR)
        pair[0].set_xlim(-0.03 * longest, 1.06 * longest)
        pair[0].set_xlabel("boot time of a machine (s)")
        pair[0].set_ylabel("$T_{slo}$ after the load step (s)")
        if no_wait.any():
            groups = list(sides[1].groupby(sides[1]["boot_s"].isna()))
            for place, (no_machines, group) in enumerate(groups):
                point_style = ("D", colour("k3s")) if no_machines else ("P", INK)
                _points(pair[1], place + spread(len(group), 0.3), group, *point_style)
                pair[1].plot([place - 0.3, place + 0.3], [group["t_slo_s"].mean()] * 2, color=INK, lw=1.2)
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


def boot_twin(rows: pd.DataFrame, twins: pd.DataFrame) -> Axes:
    """T_slo over the boot time: rehearsed runs (filled) beside the twin's of the same setups (hollow), shifted a little
    to the right, each with its mean.

    Args:
        rows, twins: `mlscale.analysis.boot_time_response.boot_time_rows` of both.
    Returns:
        The axes; `plotted`: mode, variant, boot_s, t_slo_s.
    """
    with style():
        axes: Axes = new_axes(1, 1, 3.2)[0, 0]
        longest = max(float(rows["boot_s"].max()), 1.0)
        for shift, frame, face, word in ((0.0, rows, _COLOUR, "rehearsed"), (0.015, twins, "white", "simulated")):
            waiting = frame[frame["boot_s"].notna()]
            positions = waiting["boot_s"] + shift * longest
            look: dict[str, Any] = {"ls": "", "ms": 5, "mec": _COLOUR, "mfc": face, "label": word}
            axes.plot(positions, waiting["t_slo_s"], _MARKER, **look)
            for name, group in waiting.groupby("variant"):
                at = float(group["boot_s"].mean()) + shift * longest
                axes.plot([at - 2, at + 2], [group["t_slo_s"].mean()] * 2, color=INK, lw=1.2)
                if word == "rehearsed":
                    with_room = "kept free" in str(name)
                    axes.annotate(
                        "room kept free" if with_room else str(name).removeprefix("boot "),
                        (at, float(group["t_slo_s"].min() if with_room else group["t_slo_s"].max())),
                        xytext=(0, -14 if with_room else 6), textcoords="offset points",
                        ha="center", fontsize=7.5, color=MUTED,
                    )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlabel("boot time of a machine (s)")
        axes.set_ylabel("$T_{slo}$ after the load step (s)")
        axes.legend(loc="upper left")
        means = [frame.groupby("variant")["t_slo_s"].mean() for frame in (twins, rows)]
        max_error = float((means[0] / means[1] - 1.0).abs().max())
        text = f"the twin's mean $T_{{slo}}$ is off by at most {max_error:.0%} over all boot times"
        headline(axes, text, {"rehearsal", "simulated"})
        mark_modes(axes, {"rehearsal", "simulated"})
        columns = ["variant", "boot_s", "t_slo_s"]
        both = [rows[columns].assign(mode="rehearsal"), twins[columns].assign(mode="simulated")]
        attach(axes, pd.concat(both, ignore_index=True))
    return axes


def boot_parts(rows: pd.DataFrame) -> Axes:
    """Where the time went after the step, one bar a variant: the means over its runs; a dot is one run's T_slo.

    Returns:
        The axes; `plotted`: variant and the mean of each part, s.
    """
    order = _order(rows)
    means = rows.groupby("variant")[[f"{part}_s" for part in PARTS]].mean().reindex(order)
    with style():
        axes: Axes = new_axes(1, 1, 1.6 + 0.42 * len(order))[0, 0]
        left = np.zeros(len(means))
        for part in PARTS:
            width = means[f"{part}_s"].fillna(0.0).to_numpy()
            tint = shade(_COLOUR, _SHADES[part])
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
        for place, name in enumerate(order):
            group = rows[rows["variant"] == name]
            hollow = group["t_slo_censored"].astype(bool)
            axes.plot(
                group["t_slo_s"][~hollow], [place] * int((~hollow).sum()), "o", ms=3.5, color=INK, mec="white", mew=0.4
            )
            axes.plot(group["t_slo_s"][hollow], [place] * int(hollow.sum()), "o", ms=4, mec=INK, mfc="white", ls="")
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


def boot_trajectories(runs: Sequence[Run], rows: pd.DataFrame, level_s: float) -> npt.NDArray[Any]:
    """m_t around the step, a panel a set of boot times: thick the mean over its runs, thin the runs, each to the end of
    its H; marked is their mean T_slo.

    Args:
        runs: with a step; rows: of `mlscale.analysis.boot_time_response.boot_time_rows` over the same runs.
    Returns:
        The axes, one below another; `plotted`: variant, run_id ("mean" for means), t_s since the step, mean_s.
    """
    order, end_s = _order(rows), max(horizon_of(run) for run in runs)
    with style():
        column = new_axes(len(order), 1, 1.3 + 0.62 * len(order), sharex=True, sharey=True)[:, 0]
        for axes, name in zip(column, order, strict=True):
            of_variant = [run for run in runs if variant_of(run) == name]
            numbers = pd.concat([mean_around_step(run) for run in of_variant], ignore_index=True).assign(variant=name)
            means = numbers.groupby(["variant", "t_s"], as_index=False)["mean_s"].mean().assign(run_id="mean")
            base_colour = tone(of_variant[0].info.environment, [run.info.valid for run in of_variant])
            for _, single in numbers.groupby("run_id", sort=False):
                axes.plot(single["t_s"], single["mean_s"], color=base_colour, lw=0.5, alpha=0.6)
            axes.plot(means["t_s"], means["mean_s"], color=base_colour, lw=1.8)
            axes.axvspan(float(means["t_s"].max()), end_s, color=BAND, alpha=0.5, lw=0, zorder=0)
            axes.axhline(level_s, color=MUTED, lw=0.9, ls=(0, (1, 1)))
            axes.axvline(0.0, color=INK, lw=0.8)
            variant_rows = rows[rows["variant"] == name]
            back_s, censored = float(variant_rows["t_slo_s"].mean()), bool(variant_rows["t_slo_censored"].any())
            axes.plot(back_s, level_s, "v", ms=6, color=INK, mec="white", mew=0.7, zorder=6)
            words = f"{_label(name)} (n = {len(of_variant)}): back under L after {'at least ' * censored}{back_s:.0f} s"
            words += ", not valid" * (base_colour == NOT_VALID)
            axes.set_title(words, fontsize=8, pad=2, fontweight="normal", color=INK)
            mark_modes(axes, {run.info.mode for run in of_variant}, size=11)
            attach(axes, pd.concat([numbers, means], ignore_index=True))
        column[0].set_xlim(-BEFORE_S, end_s)
        column[0].set_ylim(bottom=0.0)
        column[-1].set_xlabel("time since the load step (s)")
        column[0].figure.supylabel(f"response time (s), mean $m_t$, W = {WINDOW_S:g} s", fontsize=8.5)
        handles = [
            Line2D([], [], color=INK, marker="v", ls="", ms=6, label="mean $T_{slo}$"),
            Line2D([], [], color=MUTED, lw=0.9, ls=(0, (1, 1)), label=f"L = {level_s:g} s"),
            Line2D([], [], color=MUTED, lw=0.5, label="single runs (thick: mean)"),
            Patch(color=BAND, alpha=0.5, label="after H: not observed"),
        ]
        column[0].figure.legend(handles=handles, loc="outside lower center", ncols=4)
        headline(column[0], _slope_text(slope_on_boot(rows)), {run.info.mode for run in runs})
    return np.asarray(column)


def _order(rows: pd.DataFrame) -> list[str]:
    """Variants by the boot time that was observed, those without machines first."""
    boot_times = rows.assign(sort=rows["boot_s"].fillna(-1.0)).groupby("variant")["sort"].mean().sort_values()
    return [str(name) for name in boot_times.index]


def _label(variant: str) -> str:
    """A variant in the words of figures."""
    return "room always there" if variant == NO_MACHINES else variant


def _headline(means: pd.DataFrame) -> str:
    """What waiting for machines is of the response, at the longest boot time that was tried."""
    last = means.iloc[-1]
    machine_s, *others = np.nan_to_num([last["machine_s"], *(last[f"{part}_s"] for part in PARTS)])
    return f"{_label(str(last.name))}: {machine_s:.0f} of {sum(others):.0f} s are a wait for machines"


def _slope_text(line: Slope | None) -> str:
    if line is None:
        return "time until $m_t$ is below L again, by machine boot time"
    reach = f"95 % interval {line.low:.2f} to {line.high:.2f}, n = {line.n}{line.left_out}"
    return f"each second of boot makes the recovery {line.slope:.2f} s later ({reach})"
