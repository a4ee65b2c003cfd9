"""The twin compared with formulas and with live runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, NullLocator

from mlscale.analysis.moving import WINDOW_S, around_step
from mlscale.plots.style import (
    BAND,
    INK,
    MUTED,
    attach,
    colour,
    headline,
    in_order,
    mark_modes,
    new_axes,
    short_name,
    style,
)
from mlscale.runs import Run
from mlscale_twin.likeness import MARGINS, judged_span
from mlscale_twin.negative_controls import NOTICED_SHARE

Floats = npt.NDArray[np.float64]
_COLUMNS: Final = 4
# Line colour, marker and face colour by verdict; no environment has these colours.
VERDICTS: Final = {
    "equivalent": (INK, "o", INK),
    "inconclusive": (MUTED, "o", "white"),
    "different": ("#B00020", "D", "#B00020"),
}
WORDS: Final = {
    "mean_response_s": "mean response",
    "sd_response_s": "standard deviation",
    "p95_response_s": "95th percentile",
    "light_response_s": "before the step",
    "service_s": "service time",
    "overlooked_share": "waiting while a replica is idle",
    "detection_s": "until the decision",
    "ready_first_s": "first replica ready",
    "ready_last_s": "last replica ready",
    "t_slo_s": "$T_{slo}$",
}
BEFORE_S: Final = 10.0
EVERY_S: Final = 0.5
BAND_SHARE: Final = 0.9


def queue_distributions(queues: Mapping[str, tuple[Floats, ...]]) -> npt.NDArray[Any]:
    """One column per queue: density above, distribution function below; bars and steps are the twin's, lines the
    formula's.

    Args:
        queues: name -> edges of bins, s (bins + 1,); the twin's density (bins,) and distribution function (bins + 1,);
            the formula's density, mean over each bin (bins,), and distribution function (bins + 1,).
    Returns:
        Axes 2 x queues; `plotted`: queue, t_s, twin, formula.
    """
    with style():
        grid = new_axes(2, len(queues), 3.8, sharex="col")
        for column, (name, (edges, density, shares, theory, distribution)) in enumerate(queues.items()):
            above, below = grid[0, column], grid[1, column]
            above.bar(edges[:-1], density, np.diff(edges), align="edge", color=BAND, lw=0, label="twin")
            above.stairs(theory, edges, color="#0072B2", lw=1.2, label="formula")
            below.plot(edges, shares, color=INK, lw=2.6, alpha=0.3, label="twin")
            below.plot(edges, distribution, color="#0072B2", lw=1.0, ls=(0, (4, 2)), label="formula")
            above.set_title(name)
            below.set_xlabel("response (mean services)")
            below.set_ylim(0, 1.02)
            attach(above, pd.DataFrame({"queue": name, "t_s": edges[:-1], "twin": density, "formula": theory}))
            attach(below, pd.DataFrame({"queue": name, "t_s": edges, "twin": shares, "formula": distribution}))
        grid[0, 0].set_ylabel("density")
        grid[1, 0].set_ylabel("share done")
        grid[0, 0].legend()
        grid[1, 0].legend(loc="lower right")
        gaps = [float(np.abs(shares - distribution).max()) for _, _, shares, _, distribution in queues.values()]
        headline(
            grid[0, 0],
            f"Shares from the twin and from formulas differ by {100 * max(gaps):.1f} percentage points at most",
        )
    return grid


def verdicts(table: pd.DataFrame, runs: str = "live runs") -> npt.NDArray[Any]:
    """One column per environment: the twin's figures relative to the live ones, with 90 % intervals, in units of their
    margins, so that the grey band is the same for all: within it is equivalent. Linear within a margin, logarithmic
    beyond.

    Args:
        table: `mlscale_twin.likeness.likeness`.
        runs: what the live runs are to the twin, for the title.
    Returns:
        Axes 1 x environments; `plotted`: figure, estimate, low, high, noise (in margins), verdict.
    """
    names = in_order(list(table["environment"]))
    scaled = pd.DataFrame([_in_margins(row) for row in table.to_dict("records")])
    reach = 1.1 * float(scaled[["low", "high", "noise"]].abs().to_numpy().max(initial=1.0))
    counts = table["verdict"].value_counts()
    with style():
        grid = new_axes(1, len(names), 4.4, sharey=True)
        for axes, name in zip(grid[0], names, strict=True):
            figures = scaled[(table["environment"] == name).to_numpy()].reset_index(drop=True)
            axes.axvspan(-1, 1, color=BAND, lw=0, zorder=0)
            axes.axvline(0, color=INK, lw=0.6, zorder=1)
            for place, row in enumerate(figures.to_dict("records")):
                tone, sign, face = VERDICTS[row["verdict"]]
                axes.plot([row["low"], row["high"]], [place, place], color=tone, lw=2.0, solid_capstyle="butt")
                axes.plot(row["estimate"], place, sign, ms=4.5, mec=tone, mfc=face)
                axes.plot([-row["noise"], row["noise"]], [place + 0.3] * 2, color=MUTED, lw=0.8)
            axes.set_yticks(range(len(figures)), [WORDS[figure] for figure in figures["figure"]])
            axes.set_ylim(len(figures) - 0.3, -0.6)
            axes.set_xscale("symlog", linthresh=1, linscale=0.7)
            axes.set_xlim(-reach, reach)
            ticks = [tick for tick in (1, 5, 20, 80) if tick <= reach]
            axes.set_xticks([*(-tick for tick in reversed(ticks)), 0, *ticks])
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_locator(NullLocator())
            live = table[table["environment"] == name]["n"].max()
            axes.set_title(short_name(name).replace(" + ", "\n+ ").replace(" (", "\n("), fontsize=8.5)
            axes.set_xlabel(f"twin - live, in margins\n90 % interval, n = {live}")
            attach(axes, figures)
        for word, (tone, sign, face) in VERDICTS.items():
            grid[0, 0].plot([], [], color=tone, marker=sign, mec=tone, mfc=face, ms=4.5, lw=2.0, label=word)
        grid[0, 0].plot([], [], color=MUTED, lw=0.8, label="variation among live runs")
        grid[0, 0].figure.legend(loc="outside lower center", ncols=4)
        summary = ", ".join(f"{counts.get(word, 0)} {word}" for word in VERDICTS) + f" of {len(table)}"
        headline(grid[0, 0], f"Simulated twin against {runs}: {summary}")
    return grid


def _in_margins(row: Mapping[Any, Any]) -> dict[str, Any]:
    relative = MARGINS[str(row["figure"])].relative
    width = np.log1p(row["margin"]) if relative else row["margin"]
    scaled = {name: float(np.log(row[name]) if relative else row[name]) / width for name in ("estimate", "low", "high")}
    noise = float(np.log1p(row["noise"]) if relative else row["noise"]) / width
    return {"figure": row["figure"], "verdict": row["verdict"], "noise": noise, **scaled}


def twin_trajectories(
    live: Mapping[str, Sequence[Run]], twins: Mapping[str, Sequence[Run]], level_s: float
) -> npt.NDArray[Any]:
    """One panel per setup: m_t of the live runs (thin) and of the twin (median, and the range of 90 % of draws), on
    a logarithmic axis.

    Args:
        live, twins: by "environment/variant".
    Returns:
        Axes; `plotted`: setup, run ("live", "twin", "low", "high"), t_s since the step, mean_s.
    """
    environments = in_order([name.partition("/")[0] for name in live])
    names = sorted(live, key=lambda name: (environments.index(name.partition("/")[0]), name))
    rows = math.ceil(len(names) / _COLUMNS)
    with style():
        grid = new_axes(rows, min(_COLUMNS, len(names)), 1.9 * rows + 1.2, sharey=True)
        for axes in grid.flat[len(names) :]:
            axes.set_visible(False)
        for axes, name in zip(grid.flat, names, strict=False):
            environment, _, variant = name.partition("/")
            modes = {run.info.mode for run in live[name]} - {"live"}
            _plot_setup(axes, name, live[name], twins[name], level_s)
            title = ", ".join((variant, *sorted(modes)))
            axes.set_title(f"{short_name(environment)}\n{title}", color=colour(environment), fontsize=8)
            axes.set_xlabel("time since the step (s)")
        for row in grid:
            row[0].set_ylabel("mean $m_t$ (s)")
        grid[0, 0].set_yscale("log")
        grid[0, 0].set_ylim(top=3 * grid[0, 0].get_ylim()[1])  # room for the numbers of runs
        grid[0, 0].yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        grid[0, 0].plot([], [], color=MUTED, lw=0.7, label="live runs (in colour)")
        grid[0, 0].plot([], [], color=INK, lw=1.4, label="twin, median of draws")
        grid[0, 0].fill_between([], [], [], color=BAND, lw=0, label=f"{100 * BAND_SHARE:g} % of draws")
        grid[0, 0].plot([], [], color=MUTED, lw=0.8, ls=(0, (1, 1)), label=f"L = {level_s:g} s")
        grid[0, 0].figure.legend(loc="outside lower center", ncols=4)
        headline(grid[0, 0], f"Live runs and their twins: mean response of the last {WINDOW_S:g} s")
    return grid


def _plot_setup(axes: Axes, name: str, live: Sequence[Run], twins: Sequence[Run], level_s: float) -> None:
    environment = live[0].info.environment
    at = np.arange(-BEFORE_S, min(to_s - from_s for from_s, to_s in map(judged_span, live)), EVERY_S)
    live_m_s = [around_step(run, at) for run in live]
    twin_m_s = np.array([around_step(run, at) for run in twins])
    low, high = np.nanquantile(twin_m_s, [0.5 - BAND_SHARE / 2, 0.5 + BAND_SHARE / 2], axis=0)
    middle = np.nanmedian(twin_m_s, axis=0)
    axes.fill_between(at, low, high, color=BAND, lw=0)
    for mean_s in live_m_s:
        axes.plot(at, mean_s, color=colour(environment), lw=0.7, alpha=0.9)
    axes.plot(at, middle, color=INK, lw=1.4)
    axes.axhline(level_s, color=MUTED, lw=0.8, ls=(0, (1, 1)))
    axes.axvline(0.0, color=INK, lw=0.6)
    axes.set_xlim(at[0], at[-1])
    axes.annotate(
        f"n = {len(live)}, {len(twins)} draws", (0.97, 0.97), xycoords="axes fraction", ha="right", va="top", fontsize=7
    )
    mark_modes(axes, {run.info.mode for run in twins}, size=12)
    parts = [pd.DataFrame({"run": "live", "t_s": at, "mean_s": mean_s}) for mean_s in live_m_s]
    parts += [
        pd.DataFrame({"run": word, "t_s": at, "mean_s": values})
        for word, values in (("twin", middle), ("low", low), ("high", high))
    ]
    attach(axes, pd.concat(parts, ignore_index=True).assign(setup=name))


def control_rejections(table: pd.DataFrame) -> Axes:
    """Share of resamples in which each twin is found different: one row per twin, the right one first, one column per
    environment.

    Args:
        table: environment, twin, rejected (a share).
    Returns:
        The axes; `plotted`: the table.
    """
    names, environments = list(dict.fromkeys(table["twin"])), in_order(list(table["environment"]))
    percent = 100 * table.pivot(index="twin", columns="environment", values="rejected").loc[names, environments]
    missed = percent.iloc[1:] < 100 * NOTICED_SHARE
    with style():
        axes: Axes = new_axes(1, 1, 0.9 + 0.36 * len(names))[0, 0]
        sns.heatmap(percent, annot=True, fmt=".0f", cmap="Greys", vmin=-10, vmax=130, cbar=False, lw=2, ax=axes)
        for row, column in np.argwhere(missed.to_numpy()):
            axes.add_patch(Rectangle((column, row + 1), 1, 1, fill=False, ec="#B00020", lw=2, zorder=3, clip_on=False))
        axes.set_xticklabels([short_name(name) for name in environments], rotation=0)
        axes.set_xlabel(
            f"resamples in which it detects a difference (%); red: a wrong twin in under {100 * NOTICED_SHARE:g} %"
        )
        axes.set_ylabel("")
        axes.tick_params(length=0, rotation=0)
        detected = int((~missed).to_numpy().sum())
        right = f"the unaltered one is found different in up to {percent.iloc[0].max():.0f} %"
        headline(axes, f"{detected} of {missed.size} wrong twins are noticed; {right}")
        attach(axes, table)
    return axes
