"""Simulated runs of several environments side by side: where their figures lie, and what that says of claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    attach,
    colour,
    display_name,
    headline,
    mark_modes,
    marker,
    new_axes,
    shade,
    short_name,
    spread,
    style,
)

SHOWN: Final[Mapping[str, str]] = {
    "mean_response_s": "mean response (s)",
    "sd_response_s": "standard deviation (s)",
    "t_slo_s": "$T_{slo}$ (s)",
}
# What the paper says, by the names of its findings.
CLAIMS: Final[Mapping[str, str]] = {
    "F1": "local frameworks are faster and steadier than clouds",
    "F2": "starting machines delays the response",
    "F3": "ECS is better than EKS, in mean and spread",
    "F4": "locally the application level, in the cloud ECS",
}
TONES: Final = {"implied": INK, "undecided": MUTED, "contradicted": "#B00020"}
SIGNS: Final = {"mean": "o", "spread": "D", "recovery": "s"}

_PLAIN: Final = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}


def predictions(rows: pd.DataFrame) -> npt.NDArray[Any]:
    """One panel a figure, a row an environment: dots are draws, the bar reaches over 90 % of them, the number is their
    median.

    Args:
        rows: ``environment`` and the figures of `SHOWN`, a row a draw.
    Returns:
        Axes 1 x figures; `plotted`: environment, figure, middle, low, high.
    """
    names = list(dict.fromkeys(rows["environment"]))
    with style():
        grid = new_axes(1, len(SHOWN), 1.5 + 0.42 * len(names), sharey=True)
        for column, (figure, words) in enumerate(SHOWN.items()):
            axes, numbers = grid[0, column], []
            for place, name in enumerate(names):
                values = rows[rows["environment"] == name][figure].dropna().to_numpy(dtype=float)
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
                axes.barh(place, high - low, left=low, height=0.5, color=shade(colour(name), 0.45), lw=0)
                axes.plot([middle] * 2, [place - 0.25, place + 0.25], color=INK, lw=1.6, solid_capstyle="butt")
                axes.plot(
                    values, place + spread(len(values), 0.3), marker(name), ms=3, color=colour(name), mec="white",
                    mew=0.3, ls="",
                )  # fmt: skip
                axes.annotate(
                    f"{middle:.2g}" if middle < 10 else f"{middle:.0f}", (max(high, values.max()), place),
                    xytext=(5, 0), textcoords="offset points", va="center", fontsize=7.5,
                )  # fmt: skip
                numbers.append({"environment": name, "figure": figure, "middle": middle, "low": low, "high": high})
            axes.margins(x=0.16)
            axes.set_xlim(left=0.0)
            axes.set_xlabel(words)
            axes.set_yticks(range(len(names)), [display_name(name) for name in names])
            mark_modes(axes, {"simulated"})
            attach(axes, pd.DataFrame(numbers))
        grid[0, 0].invert_yaxis()
        handles = [
            Line2D([], [], marker="o", ms=3, color=MUTED, ls="", label="one draw"),
            Patch(color=BAND, label="90 % of the draws"),
            Line2D([], [], marker="|", ms=9, mew=1.6, color=INK, ls="", label="median"),
        ]
        grid[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=3)
        middles = rows.groupby("environment")["mean_response_s"].median().sort_values()
        first, last = short_name(str(middles.index[0])), short_name(str(middles.index[-1]))
        headline(grid[0, 0], f"mean response lowest on {first}, highest on {last}", {"simulated"})
    return grid


def claim_ratios(judged: Mapping[str, Any], evidence: Mapping[str, str] | None = None) -> Axes:
    """The claims, each with one verdict and why, and below it a row per pair and mark per figure: by which factor the
    side that the paper calls worse is worse. Thick, around their median: 90 % of draws if the twin had no error; thin:
    with its error, by which the verdict goes.

    Args:
        judged: one arm of `mlscale_paper.claims.judge_all`. evidence: by claim, what live runs say of it.
    Returns:
        The axes; `plotted`: the rows.
    """
    table = pd.DataFrame(judged["rows"]).drop(columns="matters")
    claims = list(judged["verdicts"])
    pairs = table.drop_duplicates(["claim", "what"])
    with style():
        axes: Axes = new_axes(1, 1, 1.5 + 0.215 * (len(pairs) + 2.3 * len(claims)))[0, 0]
        y, ticks = 0.0, {}
        for claim in claims:
            own = table[table["claim"] == claim]
            word, early = judged["verdicts"][claim], judged["early_verdicts"][claim]
            why = _counts(own["verdict"]) + (f", and F3 {judged['verdicts']['F3']}" if claim == "F4" else "")
            exact = judged["exact_verdicts"][claim]
            below = [f"if the twin had no error: {exact}"] * (exact != word)
            below += [f"after 120 s: {early}"] * (early != word) + [(evidence or {}).get(claim, "")]
            for text, at, align, weight, ink in (
                (f"{claim}: {CLAIMS.get(claim, claim)}", 0.0, "left", "bold", INK),
                (word.upper(), 1.0, "right", "bold", TONES[word]),
            ):
                axes.annotate(
                    text, (at, y), xycoords=("figure fraction" if align == "left" else "axes fraction", "data"),
                    ha=align, va="center", fontweight=weight, fontsize=9, color=ink, bbox=_PLAIN,
                ).set_in_layout(False)  # fmt: skip
            y += 0.95
            axes.annotate(
                "; ".join([why, *filter(None, below)]), (1.0, y), xycoords=("axes fraction", "data"), ha="right",
                va="center", fontsize=7.5, color=MUTED, bbox=_PLAIN,
            )  # fmt: skip
            for what, group in own.groupby("what", sort=False):
                y += 1.0
                ticks[y] = str(what)
                for row, shift in zip(group.to_dict("records"), (-0.2, 0.2), strict=False):
                    _mark_ratio(axes, row, y + shift)
            y += 1.45
        axes.axvline(1.0, color=INK, lw=0.8, zorder=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(list(ticks), list(ticks.values()), fontsize=8)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(y - 0.8, -0.8)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ratio: the side that the paper calls worse / the other")
        handles = [Line2D([], [], color=TONES[word], lw=4, label=word) for word in TONES]
        handles += [
            Line2D([], [], marker=sign, ms=5, color=MUTED, mec="white", ls="", label=name)
            for name, sign in SIGNS.items()
        ]
        handles += [
            Line2D([], [], color=MUTED, lw=3, label="90 % of draws"),
            Line2D([], [], color=MUTED, lw=1, label="and the twin's error"),
        ]
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=4)
        headline(axes, ", ".join(f"{claim} {word}" for claim, word in judged["verdicts"].items()), {"simulated"})
        mark_modes(axes, {"simulated"})
        attach(axes, table)
    return axes


def _mark_ratio(axes: Axes, row: Mapping[Any, Any], y: float) -> None:
    ink = TONES[row["verdict"]]
    axes.plot([row["low"], row["high"]], [y, y], lw=1.0, color=ink)
    axes.plot([row["exact_low"], row["exact_high"]], [y, y], lw=3.0, color=ink, solid_capstyle="butt")
    axes.plot(row["exact_ratio"], y, SIGNS[row["figure"]], ms=5, color=ink, mec="white", mew=0.5)


def _counts(parts: pd.Series[str]) -> str:
    """Why a conjunction has its verdict: it needs every comparison (METHOD §7)."""
    counts = parts.value_counts().reindex(list(TONES)).dropna().astype(int)
    return ", ".join(f"{number} of {len(parts)} {name}" for name, number in counts.items())
