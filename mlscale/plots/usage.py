"""CPU per correct answer by role."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.resources import SERVING
from mlscale.analysis.summary import summarise
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    INK,
    ROLE_NAMES,
    ROLE_SHADES,
    attach,
    headline,
    in_order,
    mark_modes,
    new_axes,
    shade,
    short_name,
    spread,
    tone,
)
from mlscale.runs import MlscaleError, Run

# Part of the columns' names -> the span over which CPU per answer is taken.
_SPANS: Final = {"": "with start-ups", "steady_": "steady state"}


@figure
def resources(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> Axes:
    """CPU per correct answer after the step, stacked by role, with start-ups and in steady state; dots are single runs.

    `plotted`: environment, span ("" or "steady_"), role ("total" for single runs), run_id, cpu_ms.
    Raises:
        MlscaleError: the CPU used to serve was sampled in no run.
    """
    rows = summarise(runs, level_s) if rows is None else rows
    if rows["cpu_per_answer_s"].isna().all():
        raise MlscaleError(
            "no run has samples of the CPU used to serve", "resources", "name runs that mlscale measured"
        )
    names = in_order(list(rows["environment"]))
    axes: Axes = new_axes(1, 1, 1.6 + 0.44 * len(names))[0, 0]
    numbers: list[dict[str, Any]] = []
    positions: list[float] = []
    labels = []
    for name in names:
        env_rows = rows[rows["environment"] == name]
        for span, words in _SPANS.items():
            y = -(len(positions) + 0.5 * (len(positions) // len(_SPANS)))
            left = 0.0
            for role in SERVING:
                ms = 1000 * float(env_rows[f"cpu_per_answer_{role}_{span}s"].mean())
                if np.isfinite(ms):
                    tint = shade(tone(name, env_rows["valid"]), ROLE_SHADES[role])
                    axes.barh(y, ms, left=left, height=0.55, color=tint, edgecolor="white", lw=0.8)
                    left += ms
                numbers.append({"environment": name, "span": span, "role": role, "run_id": "mean", "cpu_ms": ms})
            totals = 1000 * env_rows[f"cpu_per_answer_{span}s"].to_numpy(dtype=float)
            at = y - 0.38 + spread(len(totals), 0.1)
            axes.plot(totals, at, "o", ms=2.6, color=INK, mec="white", mew=0.3, ls="", zorder=3)
            numbers += [
                {"environment": name, "span": span, "role": "total", "run_id": run_id, "cpu_ms": total}
                for run_id, total in zip(env_rows["run_id"], totals, strict=True)
            ]
            if left:
                axes.annotate(f" {left:.0f} ms", (left, y), va="center", fontsize=8)
            positions.append(y)
            labels.append(f"{short_name(name)}, {words}")
    axes.set_yticks(positions, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(min(positions) - 0.6, 0.5)
    axes.margins(x=0.14)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("CPU per correct answer (ms)")
    for role in SERVING:
        axes.bar([0], [0], color=shade("#444444", ROLE_SHADES[role]), label=ROLE_NAMES[role])
    axes.plot([], [], "o", ms=2.6, color=INK, ls="", label="single runs")
    axes.figure.legend(loc="outside lower center", ncols=4, handlelength=1.2)
    headline(axes, _headline(rows), rows["mode"])
    mark_modes(axes, rows["mode"])
    return attach(axes, pd.DataFrame(numbers))


def _headline(rows: pd.DataFrame) -> str:
    """Means over valid runs, the lowest first."""
    columns = [f"cpu_per_answer_{span}s" for span in _SPANS]
    means = 1000 * rows[rows["valid"].astype(bool)].groupby("environment")[columns].mean().sort_values(columns[0])
    texts = [
        f"{short_name(str(name))} {row.iloc[0]:.0f} ms" + "".join(f" (steady state {ms:.0f} ms)" for ms in row.iloc[1:])
        for name, row in means.iterrows()
    ]
    return f"CPU per correct answer, start-ups included: {', '.join(texts) or 'no valid run'}"
