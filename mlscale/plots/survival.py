"""How long runs stay above L: Kaplan-Meier curves of T_slo."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.survival import kaplan_meier, restricted_mean
from mlscale.plots.style import INK, attach, headline, in_order, labelled, mark_modes, new_axes, short_name, style, tone
from mlscale.runs import MlscaleError


def survival(rows: pd.DataFrame) -> Axes:
    """Share of runs that are still not back under L, against seconds since the step; one curve per environment.

    Ticks on a curve are censored runs; the shade is the pointwise 95 % log-log interval; an environment without a
    valid run is grey and dashed.

    Args:
        rows: of `summarise`.
    Returns:
        The axes. `plotted`: environment, t_s, survival, low, high, events, censored, restricted_mean_s.
    Raises:
        MlscaleError: no run has a load step with time after it.
    """
    if rows["t_slo_s"].isna().all():
        raise MlscaleError("no run has a load step with time after it", "survival", "name runs that do")
    numbers, texts = [], {}
    with style():
        axes: Axes = new_axes(1, 1, 3.5)[0, 0]
        until_s = float((rows["horizon_s"] - rows["window_s"]).min())
        for name in in_order(list(rows["environment"])):
            runs = rows[(rows["environment"] == name) & rows["t_slo_s"].notna()]
            curve = kaplan_meier(runs["t_slo_s"], runs["t_slo_censored"])
            mean_s = restricted_mean(runs["t_slo_s"], runs["t_slo_censored"], until_s)
            line_style = {"color": tone(name, runs["valid"]), "ls": "-" if runs["valid"].any() else "--"}
            _draw(axes, curve, line_style, until_s, f"{labelled(name, rows)}, restricted mean {mean_s:.1f} s")
            numbers.append(curve.assign(environment=name, restricted_mean_s=mean_s))
            recovered, last_s = int((~runs["t_slo_censored"].astype(bool)).sum()), float(runs["t_slo_s"].max())
            text = f"{recovered} of {len(runs)} within {until_s:.0f} s"
            if recovered == len(runs):
                text = f"within {last_s:.0f} s"
            if runs["valid"].any():
                texts[f"{short_name(name)} {text}"] = last_s
        reached = [float(frame["t_s"].max()) for frame in numbers]
        unrecovered = any(frame["survival"].iloc[-1] > 0 for frame in numbers)
        axes.set_xlim(0, until_s if unrecovered or not reached else min(until_s, 1.08 * max(*reached, 1.0)))
        axes.set_ylim(0, 1.03)
        axes.set_xlabel("time since the load step (s)")
        axes.set_ylabel("share of runs still above L")
        axes.figure.legend(loc="outside lower center")
        times = ", ".join(sorted(texts, key=texts.__getitem__)) or "no valid run"
        headline(axes, f"runs below L again, for W: {times}", rows["mode"])
        mark_modes(axes, rows["mode"])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _draw(axes: Axes, curve: pd.DataFrame, line_style: dict[str, Any], until_s: float, label: str) -> None:
    extended = curve
    if curve["survival"].iloc[-1] > 0:
        last = curve.iloc[[-1]].assign(t_s=max(until_s, float(curve["t_s"].iloc[-1])))
        extended = pd.concat([curve, last], ignore_index=True)
    t = extended["t_s"].to_numpy(dtype=float)
    axes.step(t, extended["survival"], where="post", lw=2.0, label=label, **line_style)
    low, high = extended["low"].to_numpy(dtype=float), extended["high"].to_numpy(dtype=float)
    known = np.isfinite(low) & np.isfinite(high)
    axes.fill_between(t, low, high, where=known, step="post", color=line_style["color"], alpha=0.12, lw=0)
    cut = curve[curve["censored"] > 0]
    if len(cut):
        axes.plot(cut["t_s"], cut["survival"], "|", color=INK, ms=8, mew=1.2, ls="", clip_on=False)
