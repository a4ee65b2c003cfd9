"""The document's figures: as wide as a column for print, and as wide as the page for the screen.

Print is PDF with embedded TrueType fonts (Type 42, `mlscale.plots.style`); the screen gets SVG. The colours are those
of all figures, which every common colour blindness can tell apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from mlscale import figures
from mlscale.analysis.endpoints import PRIMARY
from mlscale.plots.captions import caption
from mlscale.plots.estimates import effect_panel, with_words
from mlscale.plots.style import in_order, new_axes, short_name, style
from mlscale.plots.trajectories import response_panel
from mlscale.runs import Run
from mlscale_paper.plots.predictions import claim_ratios

COLUMN_IN: Final = 3.4


@dataclass(frozen=True)
class Drawn:
    """A figure's file name without suffix, what it finds (its headline), and what it was drawn from."""

    name: str
    finding: str
    caption: str
    wide: bool = False


def draw_compared(
    runs: Sequence[Run], rows: pd.DataFrame, good: Sequence[Run], effects: pd.DataFrame, level_s: float, folder: Path
) -> list[Drawn]:
    """The figures of the comparison.

    Args:
        runs: all of the cell; rows: of `summarise` over them; good: those of the comparison alone.
        effects: of `mlscale.compare` of the rows.
    """
    good_rows = rows[rows["run_id"].isin([run.info.run_id for run in good])]
    estimation = figures.estimation(runs, level_s, rows=rows, table=effects)
    cost = figures.resources(good, level_s, rows=good_rows)
    return [
        _saved("trajectory", figures.trajectory(runs, level_s), lambda: _trajectory(runs, level_s), folder),
        _saved("effects", estimation, lambda: _effects(effects, rows), folder),
        _saved("cost", cost, lambda: _cost(cost), folder),
    ]


def draw_rehearsed(runs: Sequence[Run], rows: pd.DataFrame, level_s: float, folder: Path) -> Drawn:
    """The time until the response is good again, against the machines' boot time."""
    figure = figures.boot_response(runs, level_s, rows=rows)

    def column() -> Figure:
        for axes in figure.axes[1:]:  # runs that waited for no machine: a narrow panel
            axes.tick_params(axis="x", rotation=90)
            axes.set_xlabel("")
        return _narrow(figure, 3.2)

    return _saved("boots", figure, column, folder)


def draw_claims(judged: Mapping[str, Any], evidence: Mapping[str, str], note: str, folder: Path) -> Drawn:
    """The claims about clouds, simulated; too wide for a column."""
    figure = _figure_of(claim_ratios(judged, evidence))
    figure.set_label(caption([], note=note))
    return replace(_saved("claims", figure, lambda: figure, folder), wide=True)


def _saved(name: str, screen: Figure, column: Callable[[], Figure], folder: Path) -> Drawn:
    """Write both versions. The headline goes into the caption, so that the column's version has room."""
    finding = " ".join(screen.get_suptitle().split())
    with style(), plt.rc_context({"svg.fonttype": "path", "svg.hashsalt": name}):
        screen.suptitle("")
        screen.savefig(folder / f"{name}.svg", bbox_inches="tight", metadata={"Date": None})
        printed = column()
        printed.savefig(folder / f"{name}.pdf", bbox_inches="tight", metadata={"CreationDate": None})
    return Drawn(name, finding, str(screen.get_label()))


def _narrow(figure: Figure, height_in: float) -> Figure:
    """The same figure for one column."""
    figure.set_size_inches(COLUMN_IN, height_in)
    for legend in figure.legends:
        legend.set_ncols(1)
        for text in legend.get_texts():
            text.set_fontsize(7)
    return figure


def _trajectory(runs: Sequence[Run], level_s: float) -> Figure:
    """The response around the step, a panel per environment, one below the other."""
    names = in_order([run.info.environment for run in runs])
    grid = new_axes(len(names), 1, 1.0, sharex=True, sharey=True)
    for axes, name in zip(grid[:, 0], names, strict=True):
        response_panel(axes, [run for run in runs if run.info.environment == name], level_s)
        axes.set_title(short_name(name))
        axes.set_ylabel("response (s)")
    grid[-1, 0].set_xlabel("time since the load step (s)")
    return _narrow(_figure_of(grid[0, 0]), 1.35 * len(names) + 0.3)


def _effects(table: pd.DataFrame, rows: pd.DataFrame) -> Figure:
    """The ratios with their intervals, an endpoint below the other."""
    effects = with_words(table, rows)
    pairs = effects["pair"].nunique()
    grid = new_axes(len(PRIMARY), 1, 1.0)
    for axes, endpoint in zip(grid[:, 0], PRIMARY, strict=True):
        effect_panel(axes, effects[effects["endpoint"] == endpoint.name])
        axes.set_title(f"{endpoint.name}: {endpoint.label}")
    return _narrow(_figure_of(grid[0, 0]), len(PRIMARY) * (0.55 + 0.45 * pairs))


def _cost(figure: Figure) -> Figure:
    """CPU per right answer, with labels in two lines."""
    (axes,) = figure.axes
    words = [label.get_text().replace(", ", ",\n") for label in axes.get_yticklabels()]
    axes.set_yticks(axes.get_yticks(), words, fontsize=6)
    figure.legends[0].remove()
    figure.legend(loc="outside lower center", ncols=2, fontsize=7, handlelength=1.2)
    figure.set_size_inches(COLUMN_IN, 3.6)
    return figure


def _figure_of(axes: Any) -> Figure:
    figure: Figure = axes.figure
    return figure
