"""How long runs stay above L: Kaplan-Meier curves of T_slo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.survival import kaplan_meier, restricted_mean
from mlscale.plots.style import INK, attach, headline, in_order, labelled, mark_modes, new_axes, short_name, style, tone


def survival(rows: pd.DataFrame, *, axes: Axes | None = None) -> Axes:
    """Share of runs that are still not back under L, against seconds since the step; one curve per environment.

    Ticks on a curve are censored runs; the shade is the pointwise 95 % log-log interval; an environment without a
    valid run is grey and dashed.

    Args:
        rows: of `summarise`.
    Returns:
        The axes. `plotted`: environment, t_s, survival, low, high, events, censored, restricted_mean_s.
    """
    numbers, told = [], {}
    with style():
        new = axes is None
        axes = new_axes(1, 1, 3.5)[0, 0] if axes is None else axes
        until_s = float((rows["horizon_s"] - rows["window_s"]).min())
        for name in in_order(list(rows["environment"])):
            mine = rows[(rows["environment"] == name) & rows["t_slo_s"].notna()]
            curve = kaplan_meier(mine["t_slo_s"], mine["t_slo_censored"])
            mean_s = restricted_mean(mine["t_slo_s"], mine["t_slo_censored"], until_s)
            look = {"color": tone(name, mine["valid"]), "ls": "-" if mine["valid"].any() else "--"}
            _draw(axes, curve, look, until_s, f"{labelled(name, rows)}, restricted mean {mean_s:.1f} s")
            numbers.append(curve.assign(environment=name, restricted_mean_s=mean_s))
            back, last_s = int((~mine["t_slo_censored"].astype(bool)).sum()), float(mine["t_slo_s"].max())
            every = f"within {last_s:.0f} s" if back == len(mine) else f"{back} of {len(mine)} within {until_s:.0f} s"
            if mine["valid"].any():
                told[f"{short_name(name)} {every}"] = last_s
        reached = [float(frame["t_s"].max()) for frame in numbers]
        left_over = any(frame["survival"].iloc[-1] > 0 for frame in numbers)
        axes.set_xlim(0, until_s if left_over or not reached else min(until_s, 1.08 * max(*reached, 1.0)))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("time since the load step (s)")
        axes.set_ylabel("share of runs still over L")
        axes.figure.legend(loc="outside lower center")
        if new:
            found = ", ".join(sorted(told, key=told.__getitem__)) or "no valid run"
            headline(axes, f"all runs back under L for W: {found}", rows["mode"])
        mark_modes(axes, rows["mode"])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _draw(axes: Axes, curve: pd.DataFrame, look: dict[str, Any], until_s: float, label: str) -> None:
    whole = curve
    if curve["survival"].iloc[-1] > 0:
        last = curve.iloc[[-1]].assign(t_s=max(until_s, float(curve["t_s"].iloc[-1])))
        whole = pd.concat([curve, last], ignore_index=True)
    t = whole["t_s"].to_numpy(dtype=float)
    axes.step(t, whole["survival"], where="post", lw=2.0, label=label, **look)
    low, high = whole["low"].to_numpy(dtype=float), whole["high"].to_numpy(dtype=float)
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(t, low, high, where=known, step="post", color=look["color"], alpha=0.12, lw=0)
    cut = curve[curve["censored"] > 0]
    if len(cut):
        axes.plot(cut["t_s"], cut["survival"], "|", color=INK, ms=8, mew=1.2, ls="", clip_on=False)
