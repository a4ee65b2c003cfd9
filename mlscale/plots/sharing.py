"""Kept against fresh connections: whether new replicas get their share of the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from mlscale.analysis.sharing import new_replica_share
from mlscale.plots.captions import figure
from mlscale.plots.style import INK, attach, colour, headline, mark_modes, new_axes
from mlscale.runs import Run

_FILL: Final = {"alpha": 0.2, "lw": 0}


@figure
def sharing(runs: Sequence[Run]) -> Axes:
    """Share of right answers that come from replicas made after the step, by connections: the line is the mean over
    runs, the band reaches from the lowest run to the highest; dotted: what an even spread would give.

    Args:
        runs: with a step; of one environment, some with fresh and some with kept connections.
    `plotted`: connections, run_id, t_s, share, fair.
    """
    tones = {"fresh": colour(runs[0].info.environment), "kept": INK}
    numbers = pd.concat([_shares(run) for run in runs], ignore_index=True)
    percent = numbers.assign(share=100 * numbers["share"], fair=100 * numbers["fair"])
    axes: Axes = new_axes(1, 1, 3.0)[0, 0]
    looks: dict[str, Any] = {"x": "t_s", "hue": "connections", "palette": tones, "ax": axes, "legend": False}
    sns.lineplot(percent, y="share", errorbar=("pi", 100), err_kws=_FILL, lw=1.8, **looks)
    sns.lineplot(percent, y="fair", errorbar=None, ls=":", lw=1.1, **looks)
    counts = numbers.groupby("connections")["run_id"].nunique()
    for name, count in counts.items():
        axes.plot([], [], color=tones[str(name)], lw=1.8, label=f"{name} connections (n = {count})")
    axes.plot([], [], color=INK, ls=":", lw=1.1, label="dotted: even spread over ready replicas")
    axes.set_ylim(-4, 104)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("time since the load step (s)")
    axes.set_ylabel("answers from new replicas (%)")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, columnspacing=1.2)
    grown = numbers[numbers["fair"] > 0].groupby("connections")["share"].mean()
    shares = ", ".join(f"{100 * share:.0f} % with {name}" for name, share in grown.items())
    text = f"answers from new replicas, once ready: {shares} connections" if shares else "no new replica was ready"
    modes = [run.info.mode for run in runs]
    headline(axes, text, modes)
    mark_modes(axes, modes)
    return attach(axes, numbers)


def _shares(run: Run) -> pd.DataFrame:
    table = new_replica_share(run).round({"t_s": 3})  # the bins of all runs are the same
    return table.assign(connections=run.info.connections, run_id=run.info.run_id)
