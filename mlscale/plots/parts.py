"""Milestones after a load step, per environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.summary import summarise
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    INK,
    attach,
    headline,
    in_order,
    labelled,
    mark_modes,
    marker,
    new_axes,
    short_name,
    spread,
    tone,
)
from mlscale.runs import MlscaleError, Run

# What clients see, on their clock. When replicas were created and ready, says the framework, is within a second or two
# of these, and in `summarise`'s rows.
MILESTONES: Final = (
    ("detection_s", "decision to scale up"),
    ("machine_first_s", "first machine registered (its boot time)"),
    ("first_answer_s", "first correct answer\nof a new replica"),
    ("last_answer_s", "first correct answer\nof the last replica needed"),
    ("t_slo_s", "$m_t$ ≤ L for the next W ($T_{slo}$)"),
    ("t_settle_s", "at its own level ±10 % ($T_{settle}$)"),
)
_CENSORED: Final = {"t_slo_s": "t_slo_censored", "t_settle_s": "t_settle_censored"}


@figure
def response(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Axes:
    """Milestones after the step: first decision, first replica, last needed replica, back under L; a dot per run, a bar
    at the median.

    Hollow triangles are censored (not reached by H - W); a milestone that no run has is left out; an environment
    without a valid run is grey. The parts are descriptive.
    `plotted`: milestone, environment, run_id, value_s, censored.
    Raises:
        MlscaleError: no run has a load step with time after it.
    """
    rows = summarise(runs, level_s) if rows is None else rows
    if "detection_s" not in rows:
        raise MlscaleError("no run has a load step with time after it", "milestones", "name runs that do")
    names = in_order(list(rows["environment"]))
    milestones = [(column, label) for column, label in MILESTONES if column in rows and rows[column].notna().any()]
    numbers = []
    axes: Axes = new_axes(1, 1, 1.2 + (0.3 + 0.12 * len(names)) * len(milestones))[0, 0]
    headline(axes, _headline(rows, names), rows["mode"])
    height = 0.8 / max(1, len(names))
    for row, (column, _) in enumerate(milestones):
        if row % 2 == 0:
            axes.axhspan(-row - 0.5, -row + 0.5, color="#F4F4F4", lw=0, zorder=0)
        for lane, name in enumerate(names):
            env_rows = rows[(rows["environment"] == name) & rows[column].notna()]
            y = -row + 0.4 - height * (lane + 0.5)
            numbers.append(_lane(axes, env_rows, column, name, y, height))
    axes.set_yticks([-row for row in range(len(milestones))], [label for _, label in milestones])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(milestones) + 0.5, 0.5)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("time since the load step (s)")
    for name in names:
        shade = tone(name, rows.loc[rows["environment"] == name, "valid"])
        axes.plot([], [], marker(name), color=shade, ls="", ms=5, label=labelled(name, rows))
    axes.plot([], [], "|", color=INK, ms=9, mew=2.2, ls="", label="median")
    if any(frame["censored"].any() for frame in numbers):
        axes.plot([], [], ">", mfc="none", mec=INK, ls="", ms=5, label="censored at H − W")
    axes.figure.legend(loc="outside lower center", ncols=3 if rows["valid"].all() else 2)
    mark_modes(axes, rows["mode"])
    return attach(axes, pd.concat(numbers, ignore_index=True) if numbers else pd.DataFrame())


def _headline(rows: pd.DataFrame, names: list[str]) -> str:
    """Of valid runs, the median of the first new replica's first answer, the shortest first, and of the decision."""
    valid = rows[rows["valid"].astype(bool)]
    medians = valid.groupby("environment")[["first_answer_s", "detection_s"]].median().reindex(names).dropna()
    texts = [
        f"{short_name(str(name))} {part['first_answer_s']:.0f} s ({part['detection_s']:.0f} s)"
        for name, part in medians.sort_values("first_answer_s").iterrows()
    ]
    return f"from the load step to a new replica's first answer (the decision alone): {', '.join(texts)}"


def _lane(axes: Axes, rows: pd.DataFrame, column: str, name: str, y: float, height: float) -> pd.DataFrame:
    values = rows[column].to_numpy(dtype=float)
    censored = rows[_CENSORED[column]].to_numpy(dtype=bool) if column in _CENSORED else np.zeros(len(rows), dtype=bool)
    at, shade = y + spread(len(values), 0.55 * height), tone(name, rows["valid"])
    axes.plot(values[~censored], at[~censored], marker(name), ms=3.6, color=shade, alpha=0.65, mew=0, ls="", zorder=3)
    axes.plot(values[censored], at[censored], ">", ms=4.5, mfc="none", mec=shade, ls="", zorder=3)
    if len(values):
        middle = float(np.median(values))
        axes.plot([middle] * 2, [y - 0.42 * height, y + 0.42 * height], color=shade, lw=2.2, zorder=4)
    return pd.DataFrame(
        {"milestone": column, "environment": name, "run_id": rows["run_id"], "value_s": values, "censored": censored}
    )
