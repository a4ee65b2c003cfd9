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
from mlscale.analysis.summary import summarise
from mlscale.plots.captions import figure
from mlscale.plots.style import (
    BAND,
    INK,
    NOT_VALID,
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

BIN_S: Final = 2.0
BEFORE_S: Final = 20.0


@figure
def resources(runs: Sequence[Run], level_s: float, *, rows: pd.DataFrame | None = None) -> npt.NDArray[Any]:
    """CPU per correct answer by role, and cores in use by everything that serves, around the step.

    Raises:
        MlscaleError: see `cores_panel`.
    """
    rows = summarise(runs, level_s) if rows is None else rows
    bars = rows["environment"].nunique() * len(_spans(rows))
    pair: npt.NDArray[Any] = new_axes(1, 2, 2.6 + 0.22 * bars, width_ratios=[1, 1.15])[0]
    cost_panel(pair[0], rows)
    cores_panel(pair[1], runs)
    handles = [handle for panel in pair for handle in panel.get_legend_handles_labels()[0]]
    pair[0].figure.legend(handles=handles, loc="outside lower center", ncols=4, handlelength=1.2)
    headline(pair[0], _headline(rows), rows["mode"])
    return pair


def cost_panel(axes: Axes, rows: pd.DataFrame) -> Axes:
    """Mean CPU per correct answer after the step, stacked by role; dots are the totals of single runs. With start-ups,
    and, where the rows tell it, in steady state.

    `plotted`: environment, span ("" or "steady_"), role ("total" for single runs), run_id, cpu_ms.
    """
    names, spans = in_order(list(rows["environment"])), _spans(rows)
    numbers: list[dict[str, Any]] = []
    places: list[float] = []
    labels = []
    for name in names:
        env_rows = rows[rows["environment"] == name]
        for span, words in spans.items():
            y = -(len(places) + 0.5 * (len(places) // len(spans)))
            left = 0.0
            for role in SERVING:
                ms = 1000 * float(env_rows[f"cpu_per_answer_{role}_{span}s"].mean())
                if np.isfinite(ms):
                    tint = shade(tone(name, env_rows["valid"]), ROLE_SHADES[role])
                    axes.barh(y, ms, left=left, height=0.55, color=tint, edgecolor="white", lw=0.8)
                    left += ms
                numbers.append({"environment": name, "span": span, "role": role, "run_id": "mean", "cpu_ms": ms})
            totals = 1000 * env_rows[f"cpu_per_answer_{span}s"].to_numpy(dtype=float)
            axes.plot(
                totals,
                y - 0.38 + spread(len(totals), 0.1),
                "o",
                ms=2.6,
                color=INK,
                mec="white",
                mew=0.3,
                ls="",
                zorder=3,
            )
            numbers += [
                {"environment": name, "span": span, "role": "total", "run_id": run_id, "cpu_ms": total}
                for run_id, total in zip(env_rows["run_id"], totals, strict=True)
            ]
            if left:
                axes.annotate(f" {left:.0f} ms", (left, y), va="center", fontsize=8)
            places.append(y)
            labels.append(
                f"{short_name(name)},\n{words}" if len(spans) > 1 else short_name(name).replace(" + ", "\n+ ")
            )
    axes.set_yticks(places, labels)
    axes.tick_params(axis="y", length=0)
    axes.set_ylim(min(places) - 0.6, 0.5)
    axes.margins(x=0.14)
    axes.set_xlim(left=0.0)
    axes.set_xlabel("CPU per correct answer (ms)")
    for role in SERVING:
        axes.bar([0], [0], color=shade("#444444", ROLE_SHADES[role]), label=ROLE_NAMES[role])
    axes.plot([], [], "o", ms=2.6, color=INK, ls="", label="single runs")
    mark_modes(axes, rows["mode"])
    return attach(axes, pd.DataFrame(numbers))


def cores_panel(axes: Axes, runs: Sequence[Run]) -> Axes:
    """Cores in use by replicas, data plane and control plane together: median over runs, and where 80 % of them lie.

    Means over bins of 2 s; runs without a step, or without samples, are left out. `plotted`: environment, run_id, t_s
    (since the step), cores.

    Raises:
        MlscaleError: none is left.
    """
    numbers = pd.concat([_cores(run) for run in runs], ignore_index=True)
    if numbers.empty:
        what = "no run has a load step and samples of the CPU used to serve"
        raise MlscaleError(what, "cores in use", "name runs that mlscale measured")
    names = in_order(list(numbers["environment"]))
    tones = {name: tone(name, [run.info.valid for run in runs if run.info.environment == name]) for name in names}
    over_runs = numbers.groupby(["environment", "t_s"])["cores"].quantile([0.1, 0.5, 0.9]).unstack()
    for name in names:
        band = over_runs.loc[name]
        axes.fill_between(band.index, band[0.1], band[0.9], color=tones[name], alpha=0.18, lw=0)
        words = short_name(name) + " (not valid)" * (tones[name] == NOT_VALID)
        axes.plot(band.index, band[0.5], color=tones[name], lw=2.0, label=words)
    if len(runs) > len(names):
        axes.fill_between([], [], [], color=BAND, label="80 % of runs (line: median)")
    middle = over_runs[0.5].rename("cores").reset_index().assign(run_id="median")
    axes.axvline(0.0, color=INK, lw=0.8)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel("time since the load step (s)")
    axes.set_ylabel("cores in use to serve")
    mark_modes(axes, [run.info.mode for run in runs])
    return attach(axes, pd.concat([numbers, middle], ignore_index=True))


def _spans(rows: pd.DataFrame) -> dict[str, str]:
    """Over which spans the rows tell the CPU per answer: part of the columns' names, and what it is called."""
    spans = {"": "with start-ups", "steady_": "steady state"}
    return {span: words for span, words in spans.items() if f"cpu_per_answer_{span}s" in rows}


def _headline(rows: pd.DataFrame) -> str:
    """Means over valid runs, the lowest first."""
    columns = [f"cpu_per_answer_{span}s" for span in _spans(rows)]
    means = 1000 * rows[rows["valid"].astype(bool)].groupby("environment")[columns].mean().sort_values(columns[0])
    texts = [
        f"{short_name(str(name))} {row.iloc[0]:.0f} ms" + "".join(f" (steady state {ms:.0f} ms)" for ms in row.iloc[1:])
        for name, row in means.iterrows()
    ]
    return f"CPU per correct answer, start-ups included: {', '.join(texts) or 'no valid run'}"


def _cores(run: Run) -> pd.DataFrame:
    t0 = float(run.info.step_s or 0.0)
    used = used_over_time(run.resources[run.resources["role"].isin(SERVING)])
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
