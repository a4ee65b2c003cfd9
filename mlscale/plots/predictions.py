"""Simulated runs of several environments side by side: where their figures lie, and what that says of claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mlscale.plots.style import (
    INK,
    MUTED,
    attach,
    colour,
    display_name,
    mark_modes,
    marker,
    new_axes,
    spread,
    style,
)

SHOWN: Final[Mapping[str, str]] = {
    "mean_response_s": "mean response (s)",
    "sd_response_s": "standard deviation (s)",
    "t_slo_s": "$T_{slo}$ (s)",
}
TONES: Final = {"implied": "#009E73", "undecided": MUTED, "contradicted": "#B00020"}


def predictions(rows: pd.DataFrame) -> npt.NDArray[Any]:
    """One panel a figure, a row an environment: dots are draws, the bar reaches over 90 % of them.

    Args:
        rows: ``environment`` and the figures of `SHOWN`, a row a draw.
    Returns:
        Axes 1 x figures; `plotted`: environment, figure, middle, low, high.
    """
    names = list(dict.fromkeys(rows["environment"]))
    with style():
        grid = new_axes(1, len(SHOWN), 0.8 + 0.42 * len(names), sharey=True)
        for column, (figure, words) in enumerate(SHOWN.items()):
            axes, numbers = grid[0, column], []
            for place, name in enumerate(names):
                values = rows[rows["environment"] == name][figure].dropna().to_numpy(dtype=float)
                low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
                axes.plot([low, high], [place, place], color=colour(name), lw=3.0, solid_capstyle="butt")
                axes.plot(middle, place, marker(name), ms=6, color=colour(name), mec="white", mew=0.6)
                axes.plot(values, place + 0.28 + spread(len(values), 0.12), ".", ms=2.5, color=INK, alpha=0.6, ls="")
                numbers.append({"environment": name, "figure": figure, "middle": middle, "low": low, "high": high})
            axes.set_xlim(left=0.0)
            axes.set_xlabel(words)
            axes.set_yticks(range(len(names)), [display_name(name) for name in names])
            mark_modes(axes, {"simulated"})
            attach(axes, pd.DataFrame(numbers))
        grid[0, 0].invert_yaxis()
    return grid


def claim_ratios(table: pd.DataFrame) -> Axes:
    """A row a claim: by which factor the side that the paper calls worse is worse, and where 90 % of draws lie.

    Args:
        table: ``claim``, ``ratio``, ``low``, ``high``, ``verdict``.
    Returns:
        The axes; `plotted`: the table.
    """
    with style():
        axes: Axes = new_axes(1, 1, 0.9 + 0.27 * len(table))[0, 0]
        for place, row in enumerate(table.to_dict("records")):
            tone = TONES[row["verdict"]]
            axes.plot([row["low"], row["high"]], [place, place], color=tone, lw=2.2, solid_capstyle="butt")
            axes.plot(row["ratio"], place, "o", ms=5, color=tone)
            axes.annotate(
                row["verdict"], (1.01, place), xycoords=("axes fraction", "data"), va="center", color=tone, fontsize=8
            )
        axes.axvline(1.0, color=INK, lw=0.8)
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_locator(LogLocator(base=2))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_yticks(range(len(table)), list(table["claim"]))
        axes.invert_yaxis()
        axes.set_xlabel("how many times as large on the side that the paper calls worse")
        mark_modes(axes, {"simulated"})
        attach(axes, table)
    return axes
