"""What the time that a machine takes to boot does to the upscaling response: a line, parts as bars, trajectories."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.dose import NO_MACHINES, PARTS, slope_on_boot, variant_of
from mlscale.analysis.response import horizon_of
from mlscale.plots.style import INK, MUTED, attach, colour, mark_modes, marker, new_axes, shade, style
from mlscale.plots.variants import Tone, variant_trajectories
from mlscale.runs import Run

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


def boot_twin(rows: pd.DataFrame, twins: pd.DataFrame, environment: str = "eks") -> Axes:
    """T_slo over the boot time: rehearsed runs (filled) beside the twin's of the same setups (hollow), shifted a little
    to the right, each with its mean.

    Args:
        rows, twins: `mlscale.analysis.dose.dose_rows` of both.
    Returns:
        The axes; `plotted`: mode, variant, boot_s, t_slo_s.
    """
    tone = colour(environment)
    with style():
        axes: Axes = new_axes(1, 1, 3.2)[0, 0]
        longest = max(float(rows["boot_s"].max()), 1.0)
        for shift, frame, face, word in ((0.0, rows, tone, "rehearsed"), (0.015, twins, "white", "simulated")):
            dosed = frame[frame["boot_s"].notna()]
            where = dosed["boot_s"] + shift * longest
            axes.plot(where, dosed["t_slo_s"], marker(environment), ls="", ms=5, mec=tone, mfc=face, label=word)
            for name, group in dosed.groupby("variant"):
                at = float(group["boot_s"].mean()) + shift * longest
                axes.plot([at - 2, at + 2], [group["t_slo_s"].mean()] * 2, color=INK, lw=1.2)
                if word == "rehearsed":
                    kept = "kept free" in str(name)
                    axes.annotate(
                        "room kept free" if kept else str(name).removeprefix("boot "),
                        (at, float(group["t_slo_s"].min() if kept else group["t_slo_s"].max())),
                        xytext=(0, -14 if kept else 6), textcoords="offset points",
                        ha="center", fontsize=7.5, color=MUTED,
                    )  # fmt: skip
        axes.set_ylim(bottom=0)
        axes.set_xlabel("time that a machine took to boot (s)")
        axes.set_ylabel("$T_{slo}$ after the load step (s)")
        axes.legend(loc="upper left")
        mark_modes(axes, {"rehearsal", "simulated"})
        shown = ["variant", "boot_s", "t_slo_s"]
        both = [rows[shown].assign(mode="rehearsal"), twins[shown].assign(mode="simulated")]
        attach(axes, pd.concat(both, ignore_index=True))
    return axes


def _references(axes: Axes, rows: pd.DataFrame, longest: float) -> None:
    """Runs that wait for no machine, at the right; the words of the later ones stand above, of the earlier ones below
    their line."""
    kinds = (
        (NO_MACHINES, "room always there", "D", colour("k3s")),
        ("kept free", "room kept free", "P", INK),
    )
    groups = [(rows[rows["variant"].str.contains(name)]["t_slo_s"], *look) for name, *look in kinds]
    there = sorted((group for group in groups if len(group[0])), key=lambda group: group[0].mean())
    for place, (found, words, sign, tone) in enumerate(there):
        mean_s = float(found.mean())
        axes.axhline(mean_s, color=tone, lw=0.8, ls=(0, (3, 2)), zorder=0)
        axes.plot([(1.06 + 0.03 * place) * longest] * len(found), found, sign, ls="", ms=5, color=tone)
        axes.annotate(
            words, (1.13 * longest, mean_s), xytext=(0, 4 if place else -11), textcoords="offset points",
            color=tone, fontsize=8,
        )  # fmt: skip


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
    """m_t around the step, one colour a set of boot times (`mlscale.plots.variants.variant_trajectories`).

    Args:
        runs: with a step; rows: of `mlscale.analysis.dose.dose_rows` over the same runs.
    """
    order = _order(rows)
    end_s = min(1.2 * float(rows["t_slo_s"].max()), max(horizon_of(run) for run in runs))
    groups = {name: [run for run in runs if variant_of(run) == name] for name in order}
    return variant_trajectories(groups, _tones(order), level_s, end_s)


def _order(rows: pd.DataFrame) -> list[str]:
    """Variants by the boot time that was observed, those without machines first."""
    sort = rows.assign(sort=rows["boot_s"].fillna(-1.0)).groupby("variant")["sort"].mean().sort_values()
    return [str(name) for name in sort.index]


def _tones(order: Sequence[str]) -> dict[str, Tone]:
    """Machines: the darker, the longer they take to boot."""
    dosed = [name for name in order if name != NO_MACHINES and "kept free" not in name]
    tones: dict[str, Tone] = dict.fromkeys(order, INK)
    tones |= {name: shade(colour("eks"), 0.3 + 0.7 * (k + 1) / len(dosed)) for k, name in enumerate(dosed)}
    return tones | {NO_MACHINES: colour("k3s")}
