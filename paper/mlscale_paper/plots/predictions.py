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
from mlscale_paper.claims import deciding

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
    """A row per claim: its verdict, and by which factor the side that the paper calls worse is worse in the comparison
    that decides. Thick: 90 % of draws if the twin had no error; thin: with its error, by which the verdict goes.

    Args:
        judged: one arm of `mlscale_paper.claims.judge_all`. evidence: by claim, what live runs say of it.
    Returns:
        The axes; `plotted`: the deciding rows.
    """
    rows = {claim: deciding(judged["rows"], claim) for claim in judged["verdicts"]}
    with style():
        axes: Axes = new_axes(1, 1, 1.2 + 0.75 * len(rows))[0, 0]
        for y, (claim, row) in enumerate(rows.items()):
            word = judged["verdicts"][claim]
            ink = TONES[word]
            axes.plot([row["low"], row["high"]], [y, y], lw=1.2, color=ink)
            axes.plot([row["exact_low"], row["exact_high"]], [y, y], lw=4.0, color=ink, solid_capstyle="butt")
            axes.plot(row["ratio"], y, "o", ms=6, color=ink, mec="white", mew=0.6)
            said = "; ".join(filter(None, [f"{row['what']}, {row['figure']}", (evidence or {}).get(claim, "")]))
            for text, shift, size, weight, tone in (
                (f"{claim}: {CLAIMS.get(claim, claim)}", 20, 9, "bold", INK),
                (said, -14, 7.5, "normal", MUTED),
            ):
                axes.annotate(
                    text, (0.0, y), xytext=(2, shift), xycoords=("axes fraction", "data"), textcoords="offset points",
                    va="center", fontsize=size, fontweight=weight, color=tone,
                )  # fmt: skip
            axes.annotate(
                word.upper(), (1.0, y), xytext=(-2, 20), xycoords=("axes fraction", "data"), textcoords="offset points",
                ha="right", va="center", fontweight="bold", fontsize=9, color=ink,
            )  # fmt: skip
        axes.axvline(1.0, color=INK, lw=0.8, zorder=1)
        axes.set_xscale("log", base=2)
        axes.set_xlim(min(0.45, axes.get_xlim()[0]), max(2.2, axes.get_xlim()[1]))
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks([])
        axes.set_ylim(len(rows) - 0.5, -0.75)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ratio: the side that the paper calls worse / the other")
        handles = [
            Line2D([], [], color=MUTED, lw=4, label="90 % of draws"),
            Line2D([], [], color=MUTED, lw=1.2, label="and the twin's error"),
        ]
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=2)
        headline(axes, ", ".join(f"{claim} {word}" for claim, word in judged["verdicts"].items()), {"simulated"})
        mark_modes(axes, {"simulated"})
        attach(axes, pd.DataFrame(rows.values())[["claim", "what", "figure", "ratio", "low", "high"]])
    return axes
