"""``mlscale report``: figures, tables and generated sentences about any runs, on one HTML page.

Every number on the page is computed from the runs. The template holds words alone.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from mlscale import figures
from mlscale.analysis import design
from mlscale.analysis.comparability import comparability_sentences
from mlscale.analysis.report import CellReport, report
from mlscale.analysis.report_text import effects_by_pair
from mlscale.analysis.summary import summarise
from mlscale.atomic import write_text
from mlscale.cost import cost_table, read_prices
from mlscale.runs import MlscaleError, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_TEMPLATES: Final = Path(__file__).parent / "templates"


def write_report(runs: Sequence[Run], level_s: float, out: Path) -> None:
    """Write the page about ``runs``, valid or not, live or simulated, to ``out``.

    Args:
        level_s: L, the mean response that counts as good, s.

    Raises:
        MlscaleError: no runs, or ``out`` can't be written.
    """
    if not runs:
        raise MlscaleError("no runs are named", "report", "name folders of runs")
    write_text(out, render(runs, level_s))


def render(runs: Sequence[Run], level_s: float) -> str:
    """The page as HTML, with pictures inside."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    rows = summarise(runs, level_s)
    by_id = {run.info.run_id: run for run in runs}
    groups = [[by_id[run_id] for run_id in group["run_id"]] for group in design.cells(rows)]
    cells = report(rows, level_s).cells
    prices = read_prices()
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        level_s=f"{level_s:g}",
        sentences=comparability_sentences(rows),
        modes=sorted({run.info.mode for run in runs}),
        cells=[_cell(cell, group, level_s) for cell, group in zip(cells, groups, strict=True)],
        cost=_html(cost_table(runs, level_s, prices).round(2)),
        prices=f"{prices.region}, {prices.aws['date']}; own machines: {prices.local['source']}",
        sources=[{"id": run.info.run_id, "folder": run.path.name, "seed": run.info.seed} for run in runs],
        command=f"mlscale report {' '.join(run.path.name for run in runs)} --level {level_s:g}",
    )


def _cell(cell: CellReport, runs: Sequence[Run], level_s: float) -> dict[str, Any]:
    rows = summarise(runs, level_s)
    draw: dict[str, Callable[[], Figure]] = {
        "What clients saw": lambda: figures.trajectory(runs, level_s),
        "What makes the spread": lambda: figures.sigma(runs, level_s, rows=rows),
        "What it cost in CPU": lambda: figures.resources(runs, level_s, rows=rows),
    }
    if "detection_s" in rows:  # there is a load step, with time after it
        draw["Where the time went after the step"] = lambda: figures.response(runs, level_s, rows=rows)
    if len(cell.estimated):
        draw["The ratios, with their uncertainty"] = lambda: figures.estimation(runs, level_s)
    effects = (("Effects, with 95 % intervals", pair) for pair in effects_by_pair(cell.estimated))
    tables = [*cell.to_read().items(), *effects]
    return {
        "title": cell.title,
        "figures": [_figure(heading, function) for heading, function in draw.items()],
        "tables": [{"heading": heading, "html": _html(table)} for heading, table in tables],
        "notes": [*cell.notes, *([cell.refusal] if cell.refusal else [])],
    }


def _figure(heading: str, draw: Callable[[], Figure]) -> dict[str, str]:
    """A picture with its caption, or why it can't be drawn of these runs."""
    from mlscale.plots.captions import alternative_text
    from mlscale.plots.style import style

    try:
        figure = draw()
    except MlscaleError as error:
        return {"heading": heading, "missing": str(error)}
    picture = io.BytesIO()
    with style():
        figure.savefig(picture, format="svg", bbox_inches="tight", metadata={"Date": None})
    return {
        "heading": heading,
        "missing": "",
        "alt": alternative_text(figure, heading),
        "caption": str(figure.get_label()),
        "source": f"data:image/svg+xml;base64,{base64.b64encode(picture.getvalue()).decode()}",
    }


def _html(table: pd.DataFrame) -> str:
    text: str = table.to_html(
        na_rep="-",
        border=0,
        float_format=lambda value: f"{value:.4g}",
        index=not isinstance(table.index, pd.RangeIndex),
    )
    return text
