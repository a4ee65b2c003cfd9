"""Waking up from zero replicas: how long it takes, against what it saves at rest."""

from __future__ import annotations

from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from mlscale.plots.captions import figure
from mlscale.plots.style import attach, colour, headline, in_order, mark_modes, marker, new_axes, short_name
from mlscale.runs import Run

_SIZE: Final = 60


@figure
def wake_up(runs: list[Run], rows: pd.DataFrame, saved_usd: dict[str, float]) -> Axes:
    """Each environment a point: seconds from the first request while nothing runs to its right answer (mean over
    wake-ups, bar from the quickest to the slowest), and what nothing costs less than one replica at rest.

    Args:
        rows: `mlscale.analysis.wakeup.wake_ups` of ``runs``. saved_usd: by environment, USD a month.
    `plotted`: environment, wake_s, low, high, saved_usd.
    """
    times = rows.dropna(subset="wake_s").groupby("environment")["wake_s"].agg(["mean", "min", "max"])
    axes: Axes = new_axes(1, 1, 3.0)[0, 0]
    names = [name for name in in_order(list(times.index)) if name in saved_usd]
    for name in names:
        mean, low, high = times.loc[name]
        place, tone = saved_usd[name], colour(name)
        axes.errorbar(place, mean, [[mean - low], [high - mean]], color=tone, capsize=3, lw=1.2)
        axes.scatter(place, mean, s=_SIZE, color=tone, marker=marker(name), label=short_name(name), zorder=3)
        axes.annotate(f"  {mean:.1f} s", (place, mean), va="center", color=tone)
    axes.set_ylim(bottom=0.0)
    axes.set_xlim(0.0, 1.3 * max([saved_usd[name] for name in names], default=1.0))
    axes.set_xlabel("saved at rest by zero instead of one replica (USD a month)")
    axes.set_ylabel("first request to first right answer (s)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3)
    modes = {run.info.mode for run in runs}
    if names:
        quickest = min(names, key=lambda name: times.loc[name, "mean"])
        mean = times.loc[quickest, "mean"]
        headline(axes, f"{short_name(quickest)} wakes up soonest: {mean:.1f} s on average", modes)
    mark_modes(axes, modes)
    table = times.loc[names].reset_index().set_axis(["environment", "wake_s", "low", "high"], axis=1)
    return attach(axes, table.assign(saved_usd=[saved_usd[name] for name in names]))
