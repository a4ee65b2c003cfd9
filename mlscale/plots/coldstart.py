"""Cold starts of containers, pod by pod: where each second between the wish and the first ready answer went."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.plots.style import INK, attach, new_axes, style

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


def cold_start(starts: pd.DataFrame, *, axes: Axes | None = None) -> Axes:
    """One bar a pod, its phases one after another; what is not known is left out.

    Args:
        starts: of `mlscale.analysis.coldstart.cold_starts`, of one run or several; where readiness probes had
            different periods (readiness_period_s), each bar says which.
    Returns:
        The axes. `plotted`: subject, phase, seconds.
    """
    known = [name for name in PHASES if name in starts and starts[name].notna().any()]
    numbers = []
    with style():
        if axes is None:
            axes = new_axes(1, 1, 1.5 + 0.28 * max(1, len(starts)))[0, 0]
        ends = np.zeros(len(starts))
        places = -np.arange(len(starts), dtype=float)
        for name in known:
            label, colour = PHASES[name]
            seconds = starts[name].fillna(0.0).clip(lower=0.0).to_numpy(dtype=float)
            axes.barh(places, seconds, left=ends, height=0.62, color=colour, edgecolor="white", lw=0.6, label=label)
            ends = ends + seconds
            numbers.append(pd.DataFrame({"subject": starts["subject"], "phase": name, "seconds": seconds}))
        for place, end in zip(places, ends, strict=True):
            axes.annotate(f" {end:.1f} s", (end, place), va="center", fontsize=8, color=INK)
        axes.set_yticks(places, _names(starts))
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel("time since the pod was created (s)")
        axes.margins(x=0.1)
        axes.set_xlim(left=0.0)
        if known:
            axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=4, handlelength=1.0, columnspacing=1.0)
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _names(starts: pd.DataFrame) -> list[str]:
    pods = starts["subject"].astype(str)
    periods = starts.get("readiness_period_s", pd.Series(dtype=float))
    if periods.nunique() < 2:
        return list(pods)
    return [f"{pod.rpartition('-')[2]}, probe every {period:g} s" for pod, period in zip(pods, periods, strict=True)]
