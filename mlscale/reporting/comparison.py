"""The comparison of any runs as a document: what `mlscale compare` prints and `mlscale report` writes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd

from mlscale import figures
from mlscale.analysis import design
from mlscale.analysis.comparability import comparability_sentences
from mlscale.analysis.report import CellReport, Report, compact, report
from mlscale.analysis.summary import summarise
from mlscale.atomic import write_text
from mlscale.cost import cost_table, read_prices
from mlscale.reporting.document import Document, Element, Section, Table, Text, picture, table
from mlscale.reporting.render import to_html
from mlscale.reporting.statements import noise_floor, pair_sentences, records
from mlscale.reporting.wakeups import wake_up_sections
from mlscale.runs import MlscaleError, Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The picture of what was found.
RATIOS: Final = "The ratios, with their uncertainty"


def write_report(runs: Sequence[Run], level_s: float, out: Path) -> None:
    """Write the page about ``runs``, valid or not, live or simulated, to ``out``.

    Args:
        level_s: L, the mean response that counts as good, s.

    Raises:
        MlscaleError: no runs, or ``out`` can't be written.
    """
    if not runs:
        raise MlscaleError("no runs are named", "report", "name folders of runs")
    write_text(out, to_html(comparison(runs, report(summarise(runs, level_s), level_s), pictures=True)))


def comparison(runs: Sequence[Run], found: Report, *, pictures: bool = False) -> Document:
    """Verdicts, what may be compared, each cell, verdicts across cells, costs, notes, and with ``pictures`` the runs.

    Args:
        found: of `mlscale.analysis.report.report` about the ``runs``.
    """
    level_s, by_id = found.level_s, {run.info.run_id: run for run in runs}
    several = len(found.cells) > 1
    modes = sorted({run.info.mode for run in runs} - {"live"})
    opening: list[Element] = [
        Text(
            [f"Some of these runs are {mode}: they are not measurements of the real system." for mode in modes],
            "warning",
        ),
        *(
            _verdicts(cell.title if several else "Ratios", cell.tables["effects"])
            for cell in found.cells
            if cell.has_intervals
        ),
        Text(comparability_sentences(found.rows), "list"),
        Text([f"A moving mean response of at most L = {level_s:g} s counts as good."]),
    ]
    sections = [Section("", opening)]
    for cell, rows in zip(found.cells, design.cells(found.rows), strict=True):
        drawn = _pictures(cell, [by_id[run_id] for run_id in rows["run_id"]], rows, level_s) if pictures else []
        sections.append(Section(cell.title, [*_said(cell), *drawn, *_tables(cell)]))
    if len(found.across):
        sections.append(Section("Verdicts across cells", [table("", found.across.set_index(["pair", "endpoint"]))]))
    sections += wake_up_sections(runs, level_s, pictures=pictures)
    sections += _costs(runs, level_s)
    notes = [f"{cell.title}: {note}" if several else note for cell in found.cells for note in cell.notes]
    sections.append(Section("Notes", [Text(notes, "note")]))
    return Document("Autoscaling: what was measured", [*sections, *([_sources(runs, level_s)] if pictures else [])])


def _said(cell: CellReport) -> list[Element]:
    effects = records(cell.tables.get("effects", pd.DataFrame()))
    sentences = pair_sentences(effects, records(cell.tables.get("catch_up", pd.DataFrame())))
    floor = noise_floor(effects)
    return [
        *([Text(sentences, "list")] if sentences else []),
        *([Text([floor], "note")] if floor else []),
        *([Text([f"refused: {cell.refusal}"])] if cell.refusal else []),
    ]


def _pictures(cell: CellReport, runs: Sequence[Run], rows: pd.DataFrame, level_s: float) -> list[Element]:
    """The figures, or why one can't be drawn of these runs."""
    draw: dict[str, Callable[[], Figure]] = {
        "What clients saw": lambda: figures.trajectory(runs, level_s),
        "What makes the spread": lambda: figures.sigma(runs, level_s, rows=rows),
        "What it cost in CPU": lambda: figures.resources(runs, level_s, rows=rows),
    }
    if rows.get("needed", pd.Series()).notna().any():  # there is a load step, with time after it
        draw["Where the time went after the step"] = lambda: figures.response(runs, level_s, rows=rows)
    if len(cell.estimated):
        draw[RATIOS] = lambda: figures.estimation(runs, level_s)
    parts: list[Element] = []
    captions = {""}
    for heading, function in draw.items():
        try:
            drawn = picture(heading, function())
            parts.append(replace(drawn, caption="") if drawn.caption in captions else drawn)  # once for all of them
            captions.add(drawn.caption)
        except MlscaleError as error:
            parts.append(Text([f"{heading}: not drawn: {error}"]))
    return parts


def _tables(cell: CellReport) -> list[Element]:
    """Runs and means; unless tests were refused, effects, the parts of P1, order and windows."""
    units = "(times in ms unless said otherwise)"
    means = {
        f"Means over valid runs {units}": "means",
        f"Means, invalid runs included {units}": "means_with_invalid",
    }
    parts = [table("Runs", compact(cell.tables["runs"]))]
    parts += [
        table(heading, compact(cell.tables[name]).T)
        for heading, name in means.items()
        if name in cell.tables and cell.tables[name]["n"].any()
    ]
    if "effects" not in cell.tables:
        return [*parts]
    effects, with_invalid = cell.tables["effects"], cell.tables["effects_with_invalid"]
    if cell.estimated.empty:
        return [*parts, Text([f"Effects: none can be estimated ({', '.join(dict.fromkeys(effects['verdict']))})"])]
    parts += _effects("Effects", effects)
    if not effects.equals(with_invalid):
        parts += _effects("Effects, invalid runs in", with_invalid)
    windows = cell.tables["by_window"].pivot_table(
        index=["pair", "figure", "claimable"], columns="window", values="ratio", sort=False
    )
    return [
        *parts,
        table(
            "P1 in parts, 95 % intervals: seconds that are catch-up, and steady state after it", cell.tables["catch_up"]
        ),
        table("Steady state, means over valid runs", cell.tables["steady"].T),
        table("Change from one position in the block to the next", cell.tables["positions"]),
        table("Change after each predecessor", cell.tables["predecessors"]),
        table("Ratio by window W (not claimable where the ranking depends on W)", windows.reset_index("claimable")),
    ]


def _verdicts(title: str, effects: pd.DataFrame) -> Table:
    """A line for each pair and endpoint."""
    lines = [
        {
            "pair": row["pair"],
            "endpoint": f"{row['endpoint']} {row['label']}",
            "ratio": _number(row["ratio"]),
            "95 % interval": _interval(row["low"], row["high"]),
            "verdict": row["verdict"],
        }
        for row in effects.to_dict(orient="records")
    ]
    return table(title, lines)


def _effects(heading: str, effects: pd.DataFrame) -> list[Table]:
    """A table per pair with a column per endpoint, p last; without rows that say nothing."""
    tables: list[Table] = []
    for pair, rows in effects.groupby("pair", sort=False):
        columns = {f"{row['endpoint']} {row['label']}": _effect(row) for row in rows.to_dict(orient="records")}
        said = pd.DataFrame(columns).rename_axis(f"ratio {pair}")
        tables.append(table("" if tables else heading, said[(said != "-").any(axis=1)]))
    return tables


def _effect(row: dict[str, Any]) -> dict[str, str]:
    return {
        "blocks": str(row["n_blocks"]),
        "ratio": _number(row["ratio"]),
        "95 % interval": _interval(row["low"], row["high"]),
        "simultaneous": _interval(row["sim_low"], row["sim_high"]),
        "A/A floor": f"{_interval(row['aa_low'], row['aa_high'])} ({row['n_aa']} pairs)",
        "detectable ratio": f"{_number(row['detectable_ratio'])} by A/A runs, "
        f"{_number(row['detectable_by_pair'])} by this pair's blocks",
        "difference, s": f"{_number(row['difference_s'])} "
        f"({_interval(row['difference_low_s'], row['difference_high_s'])})",
        "over L, difference, s": f"{_number(row['over_level_difference_s'])} "
        f"({_interval(row['over_level_low_s'], row['over_level_high_s'])})",
        "censored": f"{row['censored_a']}, {row['censored_b']}",
        "ratio w/o failures": _number(row["ratio_without_failures"]),
        "failures, %": f"{100 * row['failures_a']:.2f}, {100 * row['failures_b']:.2f}",
        "verdict": row["verdict"],
        "notes": row["notes"] or "-",
        "p, sign flips": _p(row["p_signflip"]),
        "p, Holm": _p(row["p_holm"]),
    }


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}" if np.isfinite(low) and np.isfinite(high) else "-"


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _p(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _costs(runs: Sequence[Run], level_s: float) -> list[Section]:
    prices = read_prices()
    costs = cost_table(runs, level_s, prices)
    if costs.empty:
        return []
    what = (
        "As if the load after the step went on for a month, at list prices "
        f"({prices.region}, {prices.aws['date']}); own machines: {prices.local['source']}."
    )
    return [Section("What it would cost", [Text([what]), table("", costs.map("{:.2f}".format))])]


def _sources(runs: Sequence[Run], level_s: float) -> Section:
    folders = [run.path.resolve() for run in runs]
    above = Path(os.path.commonpath([folder.parent for folder in folders]))
    asked = [folder.name for folder in folders] if all(folder.parent == above for folder in folders) else [above.name]
    command = f"mlscale report {' '.join(asked)} --level {level_s:g}"
    named = [
        f"{run.info.run_id} (folder {folder.relative_to(above)}, seed {run.info.seed})"
        for run, folder in zip(runs, folders, strict=True)
    ]
    said = f"Every number on this page was computed from these runs by {command}; none was typed."
    return Section("Where the numbers come from", [Text([said]), Text(named, "list")])
