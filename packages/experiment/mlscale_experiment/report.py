"""report.html of an experiment: the verdict, figures and tables, what was chosen and why, and how to repeat it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mlscale.analysis import objectives
from mlscale.analysis.inference import least_blocks
from mlscale.analysis.report import Report, report
from mlscale.analysis.summary import summarise
from mlscale.atomic import write_text
from mlscale.plots.style import display_name
from mlscale.reporting.comparison import RATIOS, comparison
from mlscale.reporting.document import Document, Element, Picture, Section, Text, table
from mlscale.reporting.render import to_html
from mlscale.reporting.statements import pair_sentences, records
from mlscale.reporting.wakeups import wake_up_sections
from mlscale.runs import Run
from mlscale.runs.info import host_name
from mlscale_experiment.comparison import by_objective
from mlscale_experiment.decision import Decision
from mlscale_experiment.decision import sections as decision_sections
from mlscale_experiment.execute import missing
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.plan import WAKE_UPS
from mlscale_experiment.settings import Settings


@dataclass(frozen=True)
class Verdict:
    """``said``: sentences; ``decided``: whether an interval lies on one side of 1, by pair."""

    said: list[str]
    decided: bool


def verdict(experiment: Experiment, runs: Sequence[Run]) -> Verdict:
    """What the runs say of the mean response after the step, in a sentence or two with intervals, or why they say
    nothing and how many blocks it would take."""
    main = main_runs(experiment, runs)
    if experiment.cells[0] == WAKE_UPS:
        return Verdict(["Wake-ups alone were measured: nothing is compared."], decided=False)
    if not main:
        return Verdict(["No run was measured, so there is no verdict."], decided=False)
    found = report(summarise(main, experiment.protocol.level_s), experiment.protocol.level_s, p_values=_p(experiment))
    return _verdict(experiment, found)


def _verdict(experiment: Experiment, found: Report) -> Verdict:
    cell = found.cells[0]
    effects = cell.tables.get("effects", pd.DataFrame())
    if len(experiment.compared) < 2:
        return Verdict(["One environment was measured, so nothing is compared."], decided=False)
    if cell.refusal or effects.empty:
        return Verdict([f"No verdict: {cell.refusal or 'no pair of environments has valid runs'}."], decided=False)
    if experiment.quick or effects["low"].isna().all():
        return Verdict([*_means(found.rows), _no_claim(experiment)], decided=False)
    said = pair_sentences(records(effects), records(cell.tables.get("catch_up", pd.DataFrame())))
    open_pairs = [row for row in records(effects) if row["endpoint"] == "P1" and not row["favours"]]
    if open_pairs:
        said.append(_blocks_needed(experiment, open_pairs))
    return Verdict(said, decided=not open_pairs)


def _means(rows: pd.DataFrame) -> list[str]:
    """A sentence about each environment's mean response after the step, of valid runs."""
    good = rows[rows["valid"].astype(bool)]
    means = good.groupby("environment", sort=False)["mean_response_s"].mean().sort_values()
    if means.empty:
        return ["No run is valid; the report says why."]
    each = ", ".join(f"{display_name(str(name))} {mean:.3g} s" for name, mean in means.items())
    return [f"Mean response after the step: {each}."]


def _no_claim(experiment: Experiment) -> str:
    needed = least_blocks(len(experiment.compared))
    what = "One run of each says nothing about chance" if experiment.quick else "These runs give no interval"
    return f"{what}: nothing is claimed. p-values need {needed} blocks: run it without --quick."


def _blocks_needed(experiment: Experiment, open_pairs: Sequence[dict[str, Any]]) -> str:
    """How many blocks would decide the pairs that are open, if the ratio found is the true one: the interval's half
    width shrinks with the root of the number of blocks."""
    needed = 0
    for row in open_pairs:
        ratio, low, high = row["ratio"], row["low"], row["high"]
        if ratio and low and high and abs(np.log(ratio)) > 0.01:
            half = (np.log(high) - np.log(low)) / 2
            needed = max(needed, int(np.ceil(row["n_blocks"] * (half / abs(np.log(ratio))) ** 2)))
    names = " and ".join(f"{display_name(row['a'])} / {display_name(row['b'])}" for row in open_pairs)
    if not needed or needed > 200:
        return f"Undecided: {names}; the difference is too small to be shown by any reasonable number of blocks."
    return f"Undecided: {names}; if the ratio found is right, about {needed} blocks would decide (--blocks {needed})."


def write_report(
    experiment: Experiment, settings: Settings, runs: Sequence[Run], out: Path, decision: Decision | None = None
) -> Verdict:
    """Write the page; returns the verdict that it begins with.

    Raises:
        MlscaleError: ``out`` can't be written.
    """
    judged = verdict(experiment, runs)
    write_text(out, to_html(document(experiment, settings, runs, judged, decision)))
    return judged


def document(
    experiment: Experiment,
    settings: Settings,
    runs: Sequence[Run],
    judged: Verdict,
    decision: Decision | None = None,
) -> Document:
    """The page: the verdict, who is best at what, what to deploy, the comparison, what was chosen and why, and how to
    repeat it."""
    level_s = experiment.protocol.level_s
    main = main_runs(experiment, runs)
    if main:
        compared_runs = [run for run in runs if _cell(run) != WAKE_UPS]
        found = report(summarise(compared_runs, level_s), level_s, p_values=_p(experiment))
        rows = found.rows[found.rows["run_id"].isin([run.info.run_id for run in main])]
        figure, compared = _figure_first(comparison(compared_runs, found, pictures=True).sections)
        sections = [Section("", [Text(judged.said), *figure, *_best(rows, experiment)])]
    else:
        sections, compared = [Section("", [Text(judged.said)])], []
    if decision is not None:
        sections += decision_sections(decision, settings)
    sections += [*compared, *wake_up_sections(runs, level_s, pictures=True)]
    left_out = missing(experiment.states())
    reasons: list[Element] = [Text(list(experiment.protocol.why.values()), "list"), _settings(experiment, settings)]
    command = f"mlscale experiment run {settings.name}{' --quick' * experiment.quick}"
    return Document(
        f"{settings.name}: which autoscaling framework keeps its inference time low?",
        [
            *sections,
            *([Section("What was not measured", [Text(left_out, "list")])] if left_out else []),
            Section("What was chosen for this model and host, and why", reasons),
            Section("To repeat it", [Text([command])]),
        ],
    )


def _figure_first(sections: Sequence[Section]) -> tuple[list[Element], list[Section]]:
    """The picture of the ratios, or the first one, and the sections without it."""
    pictures = [element for section in sections for element in section.elements if isinstance(element, Picture)]
    chosen = next((each for each in pictures if each.heading == RATIOS), pictures[0] if pictures else None)
    if chosen is None:
        return [], list(sections)
    rest = [Section(each.title, [element for element in each.elements if element is not chosen]) for each in sections]
    caption = next(each.caption for each in pictures if each.caption)
    return [replace(chosen, heading="", caption=chosen.caption or caption)], rest


def _best(rows: pd.DataFrame, experiment: Experiment) -> list[Element]:
    if experiment.quick or len(experiment.compared) < 2:
        return []
    shown = objectives.shown_objectives(by_objective(rows))
    return [table("Who is best at what", shown.rename(columns=display_name).map(str))]


def _settings(experiment: Experiment, settings: Settings) -> Element:
    protocol = experiment.protocol
    rows = {
        "model": settings.application.entry,
        "environments": ", ".join(experiment.environments),
        "cells": ", ".join(experiment.cells),
        "blocks": str(experiment.blocks),
        "bodies": f"{protocol.bodies.count} files",
        "load": f"{protocol.baseline_clients}, then {protocol.step_clients} clients, think time "
        f"{protocol.think_mean_s:g} s",
        "replica": f"{protocol.cpu_cores:g} core, at most {protocol.replicas} of them",
        "L": f"{protocol.level_s:g} s",
        "timeout": f"{protocol.timeout_s:g} s",
        "seed": str(experiment.seed),
        "host": host_name(dict(protocol.host)),
        "pilot": protocol.made_at,
    }
    frame = pd.DataFrame({"value": rows}).rename_axis("setting")
    return table("Settings", frame)


def main_runs(experiment: Experiment, runs: Sequence[Run]) -> list[Run]:
    """Those of the first cell, on which the verdict and the profiles rest; wake-ups bear neither."""
    cell = experiment.cells[0]
    return [run for run in runs if _cell(run) == cell != WAKE_UPS]


def _cell(run: Run) -> str:
    return (run.info.cell or "").partition("/")[0]


def _p(experiment: Experiment) -> bool | None:
    return False if experiment.quick else None
