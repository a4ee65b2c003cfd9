"""The twin held against formulas and against live runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from mlscale.analysis.likeness import MARGINS
from mlscale.analysis.moving import WINDOW_S, around_step
from mlscale.analysis.response import horizon_of
from mlscale.plots.style import BAND, INK, MUTED, attach, colour, display_name, mark_modes, new_axes, style
from mlscale.runs import Run

Floats = npt.NDArray[np.float64]
VERDICTS: Final = {"equivalent": "#009E73", "inconclusive": MUTED, "different": "#B00020"}
WORDS: Final = {
    "mean_response_s": "mean response",
    "sd_response_s": "standard deviation",
    "p95_response_s": "95th percentile",
    "light_response_s": "before the step",
    "service_s": "service time",
    "overlooked_share": "wait beside an idle one",
    "detection_s": "until the decision",
    "ready_first_s": "first replica ready",
    "ready_last_s": "last replica ready",
    "t_slo_s": "$T_{slo}$",
}
BEFORE_S: Final = 10.0
EVERY_S: Final = 0.5
BAND_SHARE: Final = 0.9
FARTHEST: Final = 3.2
"""Margins to either side that are shown."""


def queue_distributions(queues: Mapping[str, tuple[Floats, ...]]) -> npt.NDArray[Any]:
    """One column a queue: above its density, below its distribution function; bars and steps are the twin's, lines the
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
        grid[0, 0].legend(frameon=False)
        grid[1, 0].legend(frameon=False, loc="lower right")
    return grid


def verdicts(table: pd.DataFrame) -> npt.NDArray[Any]:
    """One column an environment: the twin's figures over the live ones with their 90 % intervals, each in units of its
    margin, so that the grey band is the same for all: inside it is equivalent.

    Args:
        table: `mlscale.analysis.likeness.likeness`.
    Returns:
        Axes 1 x environments; `plotted`: figure, estimate, low, high (in margins), verdict.
    """
    names = list(dict.fromkeys(table["environment"]))
    with style():
        grid = new_axes(1, len(names), 3.6, sharey=True)
        for column, name in enumerate(names):
            axes, mine = grid[0, column], table[table["environment"] == name].reset_index(drop=True)
            axes.axvspan(-1, 1, color=BAND, lw=0, zorder=0)
            axes.axvline(0, color=INK, lw=0.6, zorder=1)
            rows = [_in_margins(row) for row in mine.to_dict("records")]
            for place, row in enumerate(rows):
                tone = VERDICTS[row["verdict"]]
                axes.plot([row["low"], row["high"]], [place, place], color=tone, lw=2.0, solid_capstyle="butt")
                if abs(row["estimate"]) > FARTHEST:  # beyond what is shown
                    side = np.sign(row["estimate"])
                    axes.plot(side * (FARTHEST - 0.1), place, ">" if side > 0 else "<", ms=5, color=tone)
                axes.plot(row["estimate"], place, "o", ms=4.5, color=tone)
                axes.plot([-row["noise"], row["noise"]], [place + 0.3] * 2, color=MUTED, lw=0.8)
            axes.set_yticks(range(len(mine)), [WORDS[each] for each in mine["figure"]])
            axes.set_ylim(len(mine) - 0.3, -0.6)
            axes.set_xlim(-FARTHEST, FARTHEST)
            axes.set_title(
                display_name(name).replace(" (", "\n(").replace(" + our", "\n+ our"), color=colour(name), fontsize=8.5
            )
            axes.set_xlabel("twin - live, in margins")
            attach(axes, pd.DataFrame(rows))
    return grid


def _in_margins(row: Mapping[str, Any]) -> dict[str, Any]:
    relative = MARGINS[str(row["figure"])].relative
    width = np.log1p(row["margin"]) if relative else row["margin"]
    scaled = {name: float(np.log(row[name]) if relative else row[name]) / width for name in ("estimate", "low", "high")}
    noise = float(np.log1p(row["noise"]) if relative else row["noise"]) / width
    return {"figure": row["figure"], "verdict": row["verdict"], "noise": noise, **scaled}


def twin_trajectories(
    live: Mapping[str, Sequence[Run]], twins: Mapping[str, Sequence[Run]], level_s: float
) -> npt.NDArray[Any]:
    """One panel a setup: m_t of the live runs (thin), of the twin (its mean, and where 90 % of its draws lie); a row a
    schedule, a column an environment.

    Args:
        live, twins: by "environment/schedule".
    Returns:
        Axes; `plotted`: setup, run ("live", "twin", "low", "high"), t_s since the step, mean_s.
    """
    environments = sorted({name.partition("/")[0] for name in live})
    schedules = sorted({name.partition("/")[2] for name in live})
    with style():
        grid = new_axes(len(schedules), len(environments), 1.7 * len(schedules) + 0.8, sharey="row")
        for row, schedule in zip(grid, schedules, strict=True):
            for axes, environment in zip(row, environments, strict=True):
                name = f"{environment}/{schedule}"
                if name in live:
                    _compared(axes, name, live[name], twins[name], level_s)
                else:
                    axes.set_visible(False)
        for row in grid:
            row[0].set_ylabel(f"mean $m_t$, W = {WINDOW_S:g} s (s)")
        for axes in grid[-1]:
            axes.set_xlabel("time since the step (s)")
    return grid


def _compared(axes: Axes, name: str, live: Sequence[Run], twins: Sequence[Run], level_s: float) -> None:
    environment = live[0].info.environment
    at = np.arange(-BEFORE_S, min(horizon_of(run) for run in live), EVERY_S)
    moved = [around_step(run, at) for run in live]
    drawn = np.array([around_step(run, at) for run in twins])
    low, high = np.nanquantile(drawn, [0.5 - BAND_SHARE / 2, 0.5 + BAND_SHARE / 2], axis=0)
    middle = np.nanmean(drawn, axis=0)
    axes.fill_between(at, low, high, color=BAND, lw=0)
    for one in moved:
        axes.plot(at, one, color=colour(environment), lw=0.7, alpha=0.9)
    axes.plot(at, middle, color=INK, lw=1.4)
    axes.axhline(level_s, color=MUTED, lw=0.8, ls=(0, (1, 1)))
    axes.axvline(0.0, color=INK, lw=0.6)
    axes.set_xlim(at[0], at[-1])
    axes.set_ylim(bottom=0.0)
    axes.set_title(name.replace("/", ", "), color=colour(environment), fontsize=8.5)
    mark_modes(axes, {run.info.mode for run in twins}, size=12)
    parts = [pd.DataFrame({"run": "live", "t_s": at, "mean_s": one}) for one in moved]
    parts += [
        pd.DataFrame({"run": word, "t_s": at, "mean_s": values})
        for word, values in (("twin", middle), ("low", low), ("high", high))
    ]
    attach(axes, pd.concat(parts, ignore_index=True).assign(setup=name))


def control_rejections(table: pd.DataFrame) -> Axes:
    """In how many resamples each twin is found different, a row each; a wrong one should be in 80 % at least.

    Args:
        table: environment, twin, rejected (a share).
    Returns:
        The axes; `plotted`: the table.
    """
    names, environments = list(dict.fromkeys(table["twin"])), list(dict.fromkeys(table["environment"]))
    with style():
        axes: Axes = new_axes(1, 1, 0.5 + 0.42 * len(names))[0, 0]
        for place, environment in enumerate(environments):
            mine = table[table["environment"] == environment].set_index("twin")["rejected"].reindex(names)
            offset = (place - (len(environments) - 1) / 2) * 0.18
            axes.barh(
                np.arange(len(names)) + offset, 100 * mine, height=0.16, color=colour(environment),
                label=display_name(environment),
            )  # fmt: skip
        axes.axvline(80, color=INK, lw=0.8, ls=(0, (3, 2)))
        axes.set_yticks(range(len(names)), names)
        axes.invert_yaxis()
        axes.set_xlim(0, 101)
        axes.set_xlabel("resamples in which it is found different (%)")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2)
        attach(axes, table)
    return axes
