"""Cost of strategies against the share of slow requests."""

from __future__ import annotations

from typing import Any, Final

import numpy.typing as npt
import pandas as pd
from matplotlib.ticker import NullFormatter, StrMethodFormatter

from mlscale.plots.style import (
    INK,
    MUTED,
    attach,
    colour,
    headline,
    in_order,
    mark_modes,
    marker,
    new_axes,
    short_name,
    style,
)
from mlscale_twin.strategy.objective import SHARE_SLOW

# Lower shares of slow requests are drawn here, where the axis ends.
_LEAST: Final = 1e-4
_STAGES: Final = {"fluid": (8, 0.25), "windows": (18, 0.7), "whole trace": (34, 1.0)}


def cost_and_slow(table: pd.DataFrame, limit_s: float) -> npt.NDArray[Any]:
    """A mark for each strategy: monthly cost and share of slow requests, both logarithmic. Small and pale: by the fluid
    model; larger: by the twin; ring: advised; line: the Pareto front.

    Args:
        table: `mlscale_twin.strategy.advice.strategy_table`. limit_s: a request that takes longer is slow.

    Returns:
        Axes 1 x 1; `plotted`: environment, stage, usd_per_month, slow.
    """
    shown = table.assign(slow=100 * table["slow"].clip(lower=_LEAST))
    with style():
        grid = new_axes(1, 1, 3.6)
        axes = grid[0, 0]
        axes.axhspan(100 * _LEAST / 2, 100 * SHARE_SLOW, color="#F0F4EE", lw=0, zorder=0)
        for name in in_order(list(shown["environment"])):
            for stage, (size, alpha) in _STAGES.items():
                mine = shown[(shown["environment"] == name) & (shown["stage"] == stage)]
                look = {"s": size, "alpha": alpha, "color": colour(name), "marker": marker(name), "lw": 0}
                axes.scatter(mine["usd_per_month"], mine["slow"], **look)
            axes.scatter([], [], s=24, color=colour(name), marker=marker(name), lw=0, label=short_name(name))
        front = shown[shown["on_front"]].sort_values("usd_per_month")
        axes.plot(front["usd_per_month"], front["slow"], color=INK, lw=0.9, drawstyle="steps-post", zorder=1)
        advised = shown[shown["advised"]]
        axes.scatter(advised["usd_per_month"], advised["slow"], s=130, facecolor="none", edgecolor=INK, lw=1.4)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(100 * _LEAST / 1.5, 120)
        axes.set_xlabel("cost (USD per month)")
        axes.set_ylabel(f"requests slower than {limit_s:g} s")
        text = f"green: at most {100 * SHARE_SLOW:g} %"
        axes.text(0.1, 75 * SHARE_SLOW, text, transform=axes.get_yaxis_transform(), color=MUTED, va="top")
        for axis, label in ((axes.xaxis, "{x:g}"), (axes.yaxis, "{x:.4g} %")):
            axis.set_major_formatter(StrMethodFormatter(label))
            axis.set_minor_formatter(StrMethodFormatter(label) if axis is axes.xaxis else NullFormatter())
        axes.legend(loc="upper right", ncols=2)
        headline(axes, _message(shown[shown["advised"]]), {"simulated"})
        mark_modes(axes, {"simulated"})
        attach(axes, shown[["environment", "stage", "usd_per_month", "slow"]])
    return grid


def _message(advised: pd.DataFrame) -> str:
    """What is advised, by place: the cheapest that meets the objective, or that none does."""
    texts = [
        f"{short_name(row.environment)} for {row.usd_per_month:.0f} USD a month"
        if row.meets_objective
        else f"{short_name(row.environment)} comes closest, and misses the objective"
        for row in advised.itertuples()
    ]
    return f"Cheapest that meets the objective, local and cloud: {', '.join(texts)}"
