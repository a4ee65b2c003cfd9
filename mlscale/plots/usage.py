"""What serving costs: CPU per correct answer by role, and cores in use around the step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.resources import SERVING, used_over_time
from mlscale.analysis.response import horizon_of
from mlscale.plots.style import (
    INK,
    ROLE_NAMES,
    ROLE_SHADES,
    attach,
    colour,
    display_name,
    in_order,
    mark_modes,
    new_axes,
    shade,
    spread,
    style,
)
from mlscale.runs import Run

BIN_S: Final = 2.0
BEFORE_S: Final = 20.0


def resources(runs: Sequence[Run], rows: pd.DataFrame, *, axes: npt.NDArray[Any] | None = None) -> npt.NDArray[Any]:
    """Left: CPU per correct answer by role. Right: cores in use by everything that serves, around the step.

    Args:
        runs: for the right side, all with a step; rows: of `summarise` over the same runs.
    Returns:
        Two axes. `plotted`: of `cost_panel` and `cores_panel`.
    """
    with style():
        pair = new_axes(1, 2, 2.9, width_ratios=[1, 1.15])[0] if axes is None else axes
        cost_panel(pair[0], rows)
        cores_panel(pair[1], runs)
    return pair


def cost_panel(axes: Axes, rows: pd.DataFrame) -> Axes:
    """Mean CPU per correct answer after the step, stacked by role; dots are the totals of single runs.

    `plotted`: environment, role ("total" for single runs), run_id, cpu_ms.
    """
    names = in_order(list(rows["environment"]))
    numbers = []
    for place, name in enumerate(names):
        mine = rows[rows["environment"] == name]
        left = 0.0
        for role in SERVING:
            ms = 1000 * float(mine[f"cpu_per_answer_{role}_s"].mean())
            if np.isfinite(ms):
                tint = shade(colour(name), ROLE_SHADES[role])
                axes.barh(-place, ms, left=left, height=0.5, color=tint, edgecolor="white", lw=0.8)
                left += ms
            numbers.append({"environment": name, "role": role, "run_id": "mean", "cpu_ms": ms})
        totals = 1000 * mine["cpu_per_answer_s"].to_numpy(dtype=float)
        axes.plot(
            totals,
            -place - 0.36 + spread(len(totals), 0.12),
            "o",
            ms=2.6,
            color=INK,
            mec="white",
            mew=0.3,
            ls="",
            zorder=3,
        )
        numbers += [
            {"environment": name, "role": "total", "run_id": run_id, "cpu_ms": total}
            for run_id, total in zip(mine["run_id"], totals, strict=True)
        ]
        if left:
            axes.annotate(f" {left:.1f} ms", (left, -place), va="center", fontsize=8)
    axes.set_yticks([-place for place in range(len(names))], [_two_lines(name) for name in names])
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(-len(names) + 0.4, 0.6)
    axes.margins(x=0.14)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("CPU per correct answer (ms)")
    for role in SERVING:
        axes.bar([0], [0], color=shade("#444444", ROLE_SHADES[role]), label=ROLE_NAMES[role])
    axes.plot([], [], "o", ms=2.6, color=INK, ls="", label="single runs")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=2, handlelength=1.0, columnspacing=1.0)
    mark_modes(axes, rows["mode"])
    return attach(axes, pd.DataFrame(numbers))


def cores_panel(axes: Axes, runs: Sequence[Run]) -> Axes:
    """Cores in use by replicas, data plane and control plane together: median over runs, thin lines single runs.

    Means over bins of 2 s. `plotted`: environment, run_id, t_s (since the step), cores.
    """
    numbers = pd.concat([_cores(run) for run in runs], ignore_index=True)
    for name in in_order([run.info.environment for run in runs]):
        mine = numbers[numbers["environment"] == name]
        for _, run in mine.groupby("run_id", sort=False):
            axes.plot(run["t_s"], run["cores"], color=colour(name), lw=0.5, alpha=0.4)
        middle = mine.groupby("t_s")["cores"].median()
        axes.plot(middle.index, middle, color=colour(name), lw=2.0, label=display_name(name))
        numbers = pd.concat(
            [numbers, middle.reset_index().assign(environment=name, run_id="median")], ignore_index=True
        )
    axes.axvline(0.0, color=INK, lw=0.8)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("time since the load step (s)")
    axes.set_ylabel("cores in use to serve")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), handlelength=1.4)
    mark_modes(axes, [run.info.mode for run in runs])
    return attach(axes, numbers)


def _cores(run: Run) -> pd.DataFrame:
    t0 = float(run.info.step_s or 0.0)
    used = used_over_time(run.resources)
    used = used[used["role"].isin(SERVING)]
    total = used.groupby("t_s", as_index=False)["cpu_cores"].sum()
    since = total["t_s"] - t0
    inside = (since >= -min(BEFORE_S, t0)) & (since < horizon_of(run))
    bins = (np.floor(since[inside] / BIN_S) + 0.5) * BIN_S
    width_s = total["t_s"].diff()[inside]  # a sample is the mean since the one before
    used_s = (total.loc[inside, "cpu_cores"] * width_s).groupby(bins).sum()
    mean = used_s / width_s.groupby(bins).sum()
    return pd.DataFrame(
        {
            "environment": run.info.environment,
            "run_id": run.info.run_id,
            "t_s": mean.index.to_numpy(dtype=float),
            "cores": mean.to_numpy(dtype=float),
        }
    )


def _two_lines(name: str) -> str:
    return display_name(name).replace(" + ", "\n+ ")
