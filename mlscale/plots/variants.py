"""m_t around the step for several variants of one thing, on one pair of axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale import environments
from mlscale.analysis.moving import WINDOW_S, around_step
from mlscale.analysis.response import horizon_of, recovery
from mlscale.plots.captions import figure
from mlscale.plots.style import INK, MUTED, attach, colour, headline, mark_modes, new_axes
from mlscale.runs import Run

BEFORE_S: Final = 10.0
END_S: Final = 600.0
EVERY_S: Final = 0.5


@figure
def variants(groups: Mapping[str, Sequence[Run]], colours: Sequence[str], level_s: float) -> Axes:
    """The moving mean of each group of runs until 600 s after the step: the line is the median over its runs, the band
    reaches from the lowest run to the highest; the legend has the mean of T_slo.

    Args:
        groups: variant -> its runs, with a step; in the order of the legend.
        colours: one per group, matplotlib colours or names of environments.
    `plotted`: variant, run_id ("median" for medians), t_s since the step, mean_s.
    """
    tones = {
        name: colour(tone) if tone in environments.names() else tone for name, tone in zip(groups, colours, strict=True)
    }
    numbers = pd.concat(
        [mean_around_step(run, END_S).assign(variant=name) for name, runs in groups.items() for run in runs],
        ignore_index=True,
    )
    over_runs = numbers.groupby(["variant", "t_s"])["mean_s"].agg(["min", "median", "max"])
    slo = {name: _t_slo(runs, level_s) for name, runs in groups.items()}
    axes: Axes = new_axes(1, 1, 3.2)[0, 0]
    for name, runs in groups.items():
        band = over_runs.loc[name]
        label = f"{name} (n = {len(runs)}): $T_{{slo}}$ {slo[name][1]}"
        axes.fill_between(band.index, band["min"], band["max"], color=tones[name], alpha=0.2, lw=0)
        axes.plot(band.index, band["median"], color=tones[name], lw=1.8, label=label)
    axes.axhline(level_s, color=MUTED, lw=0.9, ls=(0, (1, 1)), label=f"L = {level_s:g} s")
    axes.axvline(0.0, color=INK, lw=0.8)
    axes.set_xlim(-BEFORE_S, END_S)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("time since the load step (s)")
    axes.set_ylabel(f"mean response $m_t$, W = {WINDOW_S:g} s (s)")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, columnspacing=1.2)
    soonest, latest = min(slo, key=lambda name: slo[name][0]), max(slo, key=lambda name: slo[name][0])
    rest = f"; {latest}: {slo[latest][1]}" if len(slo) > 1 else ""
    modes = {run.info.mode for runs in groups.values() for run in runs}
    headline(axes, f"{soonest}: back under L after {slo[soonest][1]}{rest}", modes)
    mark_modes(axes, modes)
    medians = over_runs["median"].rename("mean_s").reset_index().assign(run_id="median")
    attach(axes, pd.concat([numbers, medians], ignore_index=True))
    return axes


def _t_slo(runs: Sequence[Run], level_s: float) -> tuple[float, str]:
    """Mean over runs, and in words: where one is censored, a lower bound."""
    responses = [recovery(run, level_s) for run in runs]
    mean_s = float(np.mean([response.t_slo_s for response in responses]))
    return mean_s, f"{'at least ' if any(response.t_slo_censored for response in responses) else ''}{mean_s:.0f} s"


def mean_around_step(run: Run, end_s: float = np.inf) -> pd.DataFrame:
    """m_t until ``end_s`` after the step, or until H: mean_s, t_s (since the step), run_id."""
    at = np.arange(-BEFORE_S, min(end_s, horizon_of(run)), EVERY_S)
    return pd.DataFrame({"mean_s": around_step(run, at), "t_s": at, "run_id": run.info.run_id})
