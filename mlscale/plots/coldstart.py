"""Cold starts of containers, pod by pod: how the time from the request for a pod to its first answer was spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.coldstart import cold_starts_of
from mlscale.plots.captions import figure
from mlscale.plots.style import INK, attach, headline, new_axes
from mlscale.runs import Run

PHASES: Final = {
    "schedule_s": ("scheduled", "#999999"),
    "pull_s": ("image pulled", "#E69F00"),
    "start_s": ("container started", "#56B4E9"),
    "python_s": ("interpreter, server", "#CC79A7"),
    "import_s": ("imports", "#0072B2"),
    "weights_s": ("weights", "#D55E00"),
    "first_s": ("first answer", "#009E73"),
    "probe_s": ("seen by the readiness probe", "#F0E442"),
}
# Phases shorter than this in every pod are too narrow to see, and are left out of the legend.
LEAST_S: Final = 0.1


@figure
def cold_starts(runs: Sequence[Run]) -> Axes:
    """One bar a pod, its phases one after another, pods of a run in the order of their creation; what is not known is
    left out.
    `plotted`: subject, phase, seconds.
    """
    starts = cold_starts_of(runs).sort_values(["readiness_period_s", "run_id", "created_s"], ignore_index=True)
    seconds = starts.reindex(columns=list(PHASES)).fillna(0.0).clip(lower=0.0)
    visible = [name for name in PHASES if seconds[name].max() >= LEAST_S]
    number = starts.groupby("run_id").cumcount() + 1
    positions = np.arange(len(starts)) + 0.6 * starts["run_id"].ne(starts["run_id"].shift()).cumsum().to_numpy()
    axes: Axes = new_axes(1, 1, 1.7 + 0.26 * max(1, len(starts)))[0, 0]
    ends = np.zeros(len(starts))
    for name in PHASES:
        label, tone = PHASES[name]
        known = label if name in visible else None
        axes.barh(positions, seconds[name], left=ends, height=0.62, color=tone, ec="white", lw=0.6, label=known)
        ends = ends + seconds[name].to_numpy()
    for y, end in zip(positions, ends, strict=True):
        axes.annotate(f" {end:.1f} s", (end, y), va="center", fontsize=8, color=INK)
    periods = ["" if pd.isna(every_s) else f"probe every {every_s:g} s, " for every_s in starts["readiness_period_s"]]
    axes.set_yticks(positions, [f"{period}pod {count}" for period, count in zip(periods, number, strict=True)])
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    too_short = [PHASES[name][0] for name in PHASES if name not in visible and starts[name].notna().any()]
    note = f"; under {LEAST_S:g} s each: {', '.join(too_short)}" if too_short else ""
    axes.set_xlabel(f"time since the pod was created (s){note}")
    axes.margins(x=0.1)
    axes.set_xlim(left=0.0)
    if visible:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, handlelength=1.0, columnspacing=1.0)
        longest = seconds.mean().idxmax()
        share = seconds[longest].sum() / seconds.to_numpy().sum()
        headline(
            axes,
            f"{PHASES[longest][0].capitalize()}: {100 * share:.0f} % of a cold start of {ends.mean():.1f} s "
            f"(mean of {len(starts)} pods)",
        )
    long = seconds.assign(subject=starts["subject"]).melt("subject", var_name="phase", value_name="seconds")
    return attach(axes, long)
