"""The live check of the advice: what the twin predicted of each setting, and what was measured."""

from __future__ import annotations

from itertools import cycle
from typing import Any, Final

import numpy.typing as npt
import pandas as pd
from matplotlib.lines import Line2D

from mlscale.plots.style import INK, MUTED, attach, colour, headline, in_order, new_axes, short_name, style
from mlscale_paper.advice_check import BEST_TWO
from mlscale_twin.strategy.objective import SHARE_SLOW

_SIGNS: Final = ("o", "D", "s", "^")


def predicted_and_measured(settings: pd.DataFrame, judged: pd.DataFrame, limit_s: float) -> npt.NDArray[Any]:
    """A panel per environment, a mark per setting: share of slow requests by the twin, and live with its range over
    blocks. Rings: advised. On the line, the twin was right.

    Args:
        settings: `mlscale_paper.advice_published.AdviceCheck.settings`. judged: its ``judged``. limit_s: a request that
            takes longer is slow.
    Returns:
        Axes 1 x environments; `plotted`: ``settings`` of the panel.
    """
    signs = dict(zip(dict.fromkeys(settings["traffic"]), cycle(_SIGNS), strict=False))
    names = in_order(list(settings["environment"]))
    with style():
        grid = new_axes(1, len(names), 3.1, sharex=True, sharey=True)
        for axes, name in zip(grid[0], names, strict=True):
            mine = settings[settings["environment"] == name]
            axes.axhspan(-4, 100 * SHARE_SLOW, color="#E4EEE0", lw=0, zorder=0)
            axes.plot([0, 100], [0, 100], color=MUTED, lw=0.8, ls=(0, (4, 2)), zorder=1)
            axes.vlines(mine["twin"], mine["low"], mine["high"], color=colour(name), lw=1.0, zorder=2)
            for traffic, sign in signs.items():
                own = mine[mine["traffic"] == traffic]
                axes.plot(own["twin"], own["live"], sign, ms=5, color=colour(name), mec="white", mew=0.5, zorder=3)
            advised = mine[mine["advised"]]
            axes.scatter(advised["twin"], advised["live"], s=110, facecolor="none", edgecolor=INK, lw=1.5, zorder=4)
            axes.set_title(short_name(name))
            axes.set_xlim(-4, 104)
            axes.set_ylim(-4, 104)
            attach(axes, mine)
        grid[0, 0].set_ylabel(f"live: requests slower than {limit_s:g} s (%)")
        grid[0, len(names) // 2].set_xlabel("simulated beforehand (%)")
        handles = [
            *(Line2D([], [], marker=sign, ms=5, color=MUTED, ls="", label=name) for name, sign in signs.items()),
            Line2D([], [], marker="o", ms=9, mfc="none", mec=INK, mew=1.5, ls="", label="advised"),
            Line2D([], [], color=MUTED, lw=0.8, ls=(0, (4, 2)), label="as simulated"),
        ]
        grid[0, 0].figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
        good = int((judged["verdict"] == BEST_TWO).sum())
        headline(grid[0, 0], f"The advised setting is {BEST_TWO} in {good} of {len(judged)} cases")
    return grid
