"""Cost of strategies against the share of slow requests; replicas of one beside the demand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, StrMethodFormatter

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
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.strategy.strategies import Strategy
from mlscale_twin.strategy.trial import Question, replicas_over_time

# Lower shares of slow requests are drawn here, where the axis ends.
_LEAST: Final = 1e-4
_LEAST_USD: Final = 0.1
_STAGES: Final = {"windows": (9, 0.2), "whole trace": (22, 0.8)}
_SHORT: Final = {
    "local-shared": "on shared machines",
    "local-dedicated": "on machines for this alone",
    "cloud": "in the cloud",
}


def cost_and_slow(table: pd.DataFrame, objective: Objective) -> npt.NDArray[Any]:
    """A mark for each strategy: monthly cost and share of slow requests, both logarithmic. Rings with a label: advised;
    lines: the Pareto fronts of what was simulated over the whole trace; small and pale: in windows. Of machines for
    this alone, whose cost hardly depends on the strategy, only the advised one is drawn; what constant numbers of
    replicas ruled out has no mark.

    Args:
        table: `mlscale_twin.strategy.advice.strategy_table`. objective: what was asked for.

    Returns:
        Axes 1 x 1; `plotted`: place, environment, stage, usd_per_month, slow.
    """
    drawn = table[table["stage"].isin(_STAGES) & ((table["place"] != "local-dedicated") | table["advised"])]
    shown = drawn.assign(slow=100 * drawn["slow"].clip(lower=_LEAST), usd=drawn["usd_per_month"].clip(lower=_LEAST_USD))
    with style():
        grid = new_axes(1, 1, 3.8)
        axes = grid[0, 0]
        if objective.shares:
            axes.axhspan(100 * _LEAST / 12, 100 * objective.shares[0], color="#E4EEE0", lw=0, zorder=0)
            text = f"green: at most {100 * objective.shares[0]:g} % are slow"
            axes.text(0.985, 100 * _LEAST / 9, text, transform=axes.get_yaxis_transform(), color=MUTED, ha="right")
        for name in in_order(list(shown["environment"])):
            for stage, (size, alpha) in _STAGES.items():
                mine = shown[(shown["environment"] == name) & (shown["stage"] == stage)]
                look = {"s": size, "alpha": alpha, "color": colour(name), "marker": marker(name), "lw": 0}
                axes.scatter(mine["usd"], mine["slow"], **look)
            axes.scatter([], [], s=24, color=colour(name), marker=marker(name), lw=0, label=short_name(name))
        for place in ("local-shared", "cloud"):
            front = shown[shown["on_front"] & (shown["place"] == place)].sort_values("usd")
            axes.plot(front["usd"], front["slow"], color=INK, lw=0.9, drawstyle="steps-post", zorder=1)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(100 * _LEAST / 12, 120)
        advised = shown[shown["advised"]]
        axes.scatter(advised["usd"], advised["slow"], s=150, facecolor="none", edgecolor=INK, lw=1.8, zorder=4)
        labels = [_label(axes, advised.iloc[number]) for number in range(len(advised))]
        axes.set_xlabel("cost (USD per month)")
        axes.set_ylabel(f"requests slower than {objective.limit_s:g} s")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _percent(value)))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        axes.xaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))
        axes.legend(loc="upper left", bbox_to_anchor=(0.0, -0.17), ncols=5, handletextpad=0.1, columnspacing=1.2)
        headline(axes, _message(advised), {"simulated"})
        mark_modes(axes, {"simulated"})
        _make_room(axes, labels)
        attach(axes, shown[["place", "environment", "stage", "usd_per_month", "slow"]])
    return grid


def replicas_and_demand(question: Question, strategy: Strategy) -> Any:
    """How many replicas a strategy has over the trace, and how many the traffic keeps busy.

    `plotted`: hours, busy (the highest mean of a minute within each step), replicas (the most within it).
    """
    changes = replicas_over_time(question, strategy)
    demand = question.demand
    step_s = 60 * math.ceil(demand.duration_s / 60 / _STEPS)
    starts_s = np.arange(0, math.ceil(demand.duration_s), step_s)
    busy = demand.peaks(step_s) * question.busy_s(strategy)
    numbers = np.array([number for _, number in changes])
    first, last = (
        np.searchsorted([t_s for t_s, _ in changes], at_s, side="right") for at_s in (starts_s, starts_s + step_s)
    )
    most = np.array([numbers[begin - 1 : end].max() for begin, end in zip(first, last, strict=True)])
    hours = starts_s / 3600
    with style():
        axes: Axes = new_axes(1, 1, 2.6)[0, 0]
        axes.fill_between(hours, busy, step="post", color=MUTED, alpha=0.35, lw=0, label="kept busy by the traffic")
        axes.step(hours, most, where="post", color=colour(strategy.environment), lw=1.6, label="replicas")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlim(0, demand.duration_s / 3600)
        axes.set_xlabel(
            f"hours from {demand.begins:%Y-%m-%d %H:%M}" if demand.begins else "hours from the trace's start"
        )
        axes.set_ylabel("replicas")
        axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.99), ncols=2)
        low, high = int(numbers.min()), int(most.max())
        held = f"{low} to {high} replicas" if low != high else f"{high} replica{'s' * (high > 1)} all the time"
        text = f"{short_name(strategy.environment)}, {strategy.policy}: {held}, of which the traffic needs"
        headline(axes, f"{text} {busy.min():.2g} to {busy.max():.2g}", {"simulated"})
        mark_modes(axes, {"simulated"})
        attach(axes, pd.DataFrame({"hours": hours, "busy": busy, "replicas": most}))
    return axes.figure


# A trace has at most so many steps in that figure.
_STEPS: Final = 1500


def _percent(value: float) -> str:
    if value < 99 * _LEAST:
        return ""
    return "none" if value <= 101 * _LEAST else f"{value:.4g} %"


def _label(axes: Axes, row: pd.Series) -> Annotation:
    """What is advised, beside its ring."""
    text = f"{_SHORT[row['place']]}:\n{short_name(row['environment'])}, {row['policy']}\n{row['usd_per_month']:.3g} USD"
    up = row["place"] == "cloud"  # away from the others, where all of them are at the lower end
    return axes.annotate(
        text,
        (row["usd"], row["slow"]),
        xytext=(-11, 9 if up else -9),  # nothing is both cheaper and faster than the front
        textcoords="offset points",
        ha="right",
        va="bottom" if up else "top",
        fontsize=8,
    )


def _make_room(axes: Axes, labels: Sequence[Annotation]) -> None:
    """Let the horizontal axis begin far enough to the left for labels that end at their marks."""
    left, right = np.log(axes.get_xlim())
    for label in labels:
        share = 1.05 * (axes.transData.transform(label.xy)[0] - label.get_window_extent().x0) / axes.bbox.width
        left = min(left, (np.log(label.xy[0]) - share * right) / (1 - share))
    axes.set_xlim(np.exp(left), np.exp(right))


def _message(advised: pd.DataFrame) -> str:
    """What is advised, by place: the cheapest that meets the objective, or that none does."""
    if not advised["meets_objective"].any():
        return "No strategy meets the objective; the rings come closest"
    texts = [
        f"{row.usd_per_month:.3g} USD a month {_SHORT[row.place]}"
        if row.meets_objective
        else f"not {_SHORT[row.place]}"
        for row in advised.itertuples()
    ]
    return f"Fast enough for {', '.join(texts)}"
