"""Simulated runs of several environments side by side: where their figures lie, and what that says of claims."""

from __future__ import annotations

import re
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
    NAMES,
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
}
TONES: Final = {"implied": INK, "undecided": MUTED, "contradicted": "#B00020"}
SIGNS: Final = {"implied": "o", "undecided": "D", "contradicted": "X"}

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


def claim_ratios(table: pd.DataFrame) -> Axes:
    """The claims, each with one verdict and why, and below it a row a comparison: by which factor the side that the
    paper calls worse is worse, and where 90 % of draws lie.

    Args:
        table: ``claim`` ("F1, torchserve and ecs, mean"), ``ratio``, ``low``, ``high``, ``verdict``.
    Returns:
        The axes; `plotted`: the table.
    """
    parts = table["claim"].str.partition(", ")
    groups = [(str(name), table[parts[0] == name], parts.loc[parts[0] == name, 2]) for name in parts[0].unique()]
    verdicts = {name: _verdict(group["verdict"]) for name, group, _ in groups}
    with style():
        axes: Axes = new_axes(1, 1, 1.3 + 0.24 * (len(table) + 1.6 * len(groups)))[0, 0]
        y, ticks = 0.0, {}
        for name, group, labels in groups:
            word, why = verdicts[name]
            axes.annotate(
                f"{name}: {CLAIMS.get(name, name)}", (0.01, y), xycoords=("figure fraction", "data"),
                va="center", fontweight="bold", fontsize=8.5, color=INK, bbox=_PLAIN,
            ).set_in_layout(False)  # fmt: skip
            axes.annotate(
                f"{word.upper()}{why}", (1.0, y), xycoords=("axes fraction", "data"), va="center", ha="right",
                fontweight="bold", fontsize=8.5, color=TONES[word], bbox=_PLAIN,
            )  # fmt: skip
            for row, label in zip(group.to_dict("records"), labels, strict=True):
                y += 1.0
                ink, sign = TONES[row["verdict"]], SIGNS[row["verdict"]]
                axes.plot([row["low"], row["high"]], [y, y], lw=2.4, color=ink, solid_capstyle="butt")
                axes.plot(row["ratio"], y, sign, ms=5.5, color=ink, mec="white", mew=0.5)
                ticks[y] = re.sub("|".join(NAMES), lambda name: short_name(name.group()), label)
            y += 1.6
        axes.axvline(1.0, color=INK, lw=0.8, zorder=1)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(list(ticks), list(ticks.values()))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(y - 0.8, -0.8)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("ratio: the side that the paper calls worse / the other")
        handles = [
            Line2D([], [], marker=SIGNS[word], ms=5.5, color=TONES[word], mec="white", lw=2.4, label=word)
            for word in TONES
        ]
        handles.append(Line2D([], [], color=MUTED, lw=2.4, label="90 % of draws"))
        axes.figure.legend(handles=handles, loc="outside lower center", ncols=4)
        headline(axes, ", ".join(f"{name} {word}" for name, (word, _) in verdicts.items()), {"simulated"})
        mark_modes(axes, {"simulated"})
        attach(axes, table)
    return axes


def _verdict(parts: pd.Series[str]) -> tuple[str, str]:
    """One word for a claim, and why: it is a conjunction, so that it needs every comparison (METHOD §7)."""
    counts = parts.value_counts().reindex(list(TONES)).dropna().astype(int)
    word = next(word for word in ("contradicted", "undecided", "implied") if word in counts)
    why = ", ".join(f"{number} {name}" for name, number in counts.items()) if len(counts) > 1 else f"all {len(parts)}"
    return word, f" ({why})" if len(parts) > 1 else ""
