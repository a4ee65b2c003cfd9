"""How long runs stay above L: Kaplan-Meier curves of T_slo."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.survival import kaplan_meier, restricted_mean
from mlscale.plots.style import INK, attach, colour, display_name, in_order, mark_modes, new_axes, style


def survival(rows: pd.DataFrame, *, axes: Axes | None = None) -> Axes:
    """Share of runs that are still not back under L, against seconds since the step; one curve per environment.

    Ticks on a curve are censored runs; the shade is the pointwise 95 % log-log interval.

    Args:
        rows: of `summarise`.
    Returns:
        The axes. `plotted`: environment, t_s, survival, low, high, events, censored, restricted_mean_s.
    """
    numbers = []
    with style():
        if axes is None:
            axes = new_axes(1, 1, 2.9)[0, 0]
        until_s = float((rows["horizon_s"] - rows["window_s"]).min())
        for name in in_order(list(rows["environment"])):
            mine = rows[(rows["environment"] == name) & rows["t_slo_s"].notna()]
            curve = kaplan_meier(mine["t_slo_s"], mine["t_slo_censored"])
            mean_s = restricted_mean(mine["t_slo_s"], mine["t_slo_censored"], until_s)
            _draw(axes, curve, name, until_s, f"{display_name(name)} (n = {len(mine)}, restricted mean {mean_s:.1f} s)")
            numbers.append(curve.assign(environment=name, restricted_mean_s=mean_s))
        reached = [float(frame["t_s"].max()) for frame in numbers]
        left_over = any(frame["survival"].iloc[-1] > 0 for frame in numbers)
        axes.set_xlim(0, until_s if left_over or not reached else min(until_s, 1.6 * max(*reached, 1.0)))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("time since the load step (s)")
        axes.set_ylabel("share of runs in which $m_t$ has\nnot yet come back under L for W")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), borderaxespad=0.2)
        mark_modes(axes, rows["mode"])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _draw(axes: Axes, curve: pd.DataFrame, name: str, until_s: float, label: str) -> None:
    whole = curve
    if curve["survival"].iloc[-1] > 0:
        last = curve.iloc[[-1]].assign(t_s=max(until_s, float(curve["t_s"].iloc[-1])))
        whole = pd.concat([curve, last], ignore_index=True)
    t = whole["t_s"].to_numpy(dtype=float)
    axes.step(t, whole["survival"], where="post", color=colour(name), lw=2.0, label=label)
    low, high = whole["low"].to_numpy(dtype=float), whole["high"].to_numpy(dtype=float)
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(t, low, high, where=known, step="post", color=colour(name), alpha=0.12, lw=0)
    cut = curve[curve["censored"] > 0]
    axes.plot(cut["t_s"], cut["survival"], "|", color=INK, ms=8, mew=1.2, ls="", clip_on=False)
