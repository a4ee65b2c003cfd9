"""Kept against fresh connections: whether new replicas get their share of the work."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.sharing import new_replica_share
from mlscale.plots.style import INK, MUTED, attach, mark_modes, new_axes, style
from mlscale.runs import Run

_LOOKS: Final = {"fresh": ("#009E73", "-", "o"), "kept": ("#D55E00", "--", "s")}


def sharing(runs: Sequence[Run], *, axes: Axes | None = None) -> Axes:
    """Share of right answers that come from replicas made after the step; dotted: what an even spread would give.

    Args:
        runs: with a step; of one environment, some with fresh and some with kept connections.
    Returns:
        The axes. `plotted`: connections, run_id, t_s, share, fair.
    """
    numbers = []
    with style():
        if axes is None:
            axes = new_axes(1, 1, 2.7)[0, 0]
        for run in runs:
            found = new_replica_share(run)
            colour, dash, mark = _LOOKS[run.info.connections]
            axes.plot(found["t_s"], 100 * found["share"], color=colour, ls=dash, marker=mark, ms=3.4, lw=1.3)
            axes.plot(found["t_s"], 100 * found["fair"], color=colour, ls=":", lw=1.1)
            names = {"connections": run.info.connections, "run_id": run.info.run_id}
            numbers.append(found[["t_s", "share", "fair"]].assign(**names))
        for name in dict.fromkeys(run.info.connections for run in runs):
            colour, dash, mark = _LOOKS[name]
            axes.plot([], [], color=colour, ls=dash, marker=mark, ms=4, label=f"{name} connections")
        axes.plot([], [], color=MUTED, ls=":", label="dotted: an even spread over ready replicas")
        axes.axhline(0.0, color=INK, lw=0.6)
        axes.set_ylim(-4, 104)
        axes.set_xlabel("time since the load step (s)")
        axes.set_ylabel("answers from new replicas (%)")
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)
        mark_modes(axes, [run.info.mode for run in runs])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())
