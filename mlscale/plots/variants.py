"""m_t around the step for several variants of one thing, on one pair of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.moving import WINDOW_S, around_step
from mlscale.analysis.response import horizon_of
from mlscale.plots.style import INK, MUTED, attach, mark_modes, new_axes, style
from mlscale.runs import Run

BEFORE_S: Final = 10.0
EVERY_S: Final = 0.5
Tone = str | tuple[float, float, float]


def variant_trajectories(
    groups: Mapping[str, Sequence[Run]], tones: Mapping[str, Tone], level_s: float, end_s: float
) -> Axes:
    """One colour a variant: thick the mean over its runs, thin the runs.

    Args:
        groups: variant -> its runs, with a step; in the order of the legend. end_s: of the axis, since the step.

    Returns:
        The axes; `plotted`: variant, run_id ("mean" for means), t_s since the step, mean_s.
    """
    numbers = pd.concat(
        [_moved(run, end_s).assign(variant=name) for name, runs in groups.items() for run in runs], ignore_index=True
    )
    means = numbers.groupby(["variant", "t_s"], as_index=False)["mean_s"].mean().assign(run_id="mean")
    with style():
        axes: Axes = new_axes(1, 1, 3.2)[0, 0]
        for (name, _), one in numbers.groupby(["variant", "run_id"], sort=False):
            axes.plot(one["t_s"], one["mean_s"], color=tones[str(name)], lw=0.4, alpha=0.5)
        for name, runs in groups.items():
            mine = means[means["variant"] == name]
            axes.plot(mine["t_s"], mine["mean_s"], color=tones[name], lw=1.8, label=f"{name} (n = {len(runs)})")
        axes.axhline(level_s, color=MUTED, lw=0.9, ls=(0, (1, 1)), label=f"L = {level_s:g} s")
        axes.axvline(0.0, color=INK, lw=0.8)
        axes.set_xlim(-BEFORE_S, end_s)
        axes.set_ylim(bottom=0.0)
        axes.set_xlabel("time since the load step (s)")
        axes.set_ylabel(f"response time (s), mean $m_t$, W = {WINDOW_S:g} s")
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
        mark_modes(axes, {run.info.mode for runs in groups.values() for run in runs})
        attach(axes, pd.concat([numbers, means], ignore_index=True))
    return axes


def _moved(run: Run, end_s: float) -> pd.DataFrame:
    at = np.arange(-BEFORE_S, min(end_s, horizon_of(run)), EVERY_S)
    return pd.DataFrame({"mean_s": around_step(run, at), "t_s": at, "run_id": run.info.run_id})
