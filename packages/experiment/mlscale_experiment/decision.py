"""From an experiment's runs to a decision: profiles of the model, and, with a trace, the advice by them. Simulated."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import pandas as pd

from mlscale.loadgen.schedule_files import read_schedule
from mlscale.plots.style import display_name
from mlscale.progress import Bar
from mlscale.reporting.document import Element, Section, Text, picture, table
from mlscale.runs import MlscaleError, Run
from mlscale_experiment.calibration import CONTAINER, Calibrated, calibrated, write_profiles
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.settings import Settings
from mlscale_twin.plots.advice import cost_and_slow
from mlscale_twin.strategy.advice import (
    PLACES,
    Advice,
    Advised,
    AdviseOptions,
    advice_table,
    advise,
    strategy_table,
    write_advice,
)
from mlscale_twin.strategy.measured import read_measured
from mlscale_twin.strategy.paste import settings_files

# Below the experiment's folder.
ADVICE: Final = "advice"
# Of `mlscale_twin.likeness`, in words.
_FIGURES: Final = {
    "mean response": "mean_response_s",
    "standard deviation": "sd_response_s",
    "95th percentile": "p95_response_s",
}
# Estimates for the time left, s.
_CALIBRATING_S, _ADVISING_S = 30.0, 60.0


@dataclass(frozen=True)
class Decision:
    """``advice``: None without a trace, or where none can be given; ``said``: what to deploy, or why not."""

    calibrated: Calibrated
    advice: Advice | None
    said: Sequence[str]


def takes_s(experiment: Experiment, settings: Settings) -> float:
    """Estimated duration of `decide`, s."""
    if experiment.quick:
        return 0.0
    return _CALIBRATING_S * len(experiment.environments) + (_ADVISING_S if settings.trace else 0.0)


def decide(experiment: Experiment, settings: Settings, runs: Sequence[Run], bar: Bar) -> Decision | None:
    """Calibrate the twin by the runs of the main cell, write its profiles, and advise for the trace, if there is one;
    None after a first look, which shows too little.

    Raises:
        MlscaleError: the experiment's folder can't be written.
    """
    if experiment.quick:
        return None
    found = calibrated(experiment, runs, lambda text: bar.step(text, _CALIBRATING_S))
    write_profiles(experiment, settings, found, runs)
    if settings.trace is None:
        command = f"mlscale advise TRACE --experiment {settings.name} --out advice"
        return Decision(
            found, None, [f"For an advice, name recorded traffic in experiment.yaml (trace:), or {command}"]
        )
    if not found.profiles:
        return Decision(found, None, [f"No advice for {settings.trace.name}: nothing could be simulated."])
    bar.step(f"advice for {settings.trace.name}", _ADVISING_S)
    measured, profiles = read_measured(settings.folder)
    options = AdviseOptions(**measured.search, profiles=profiles)
    try:
        advice = advise(read_schedule(settings.trace), measured.objective, options)
    except MlscaleError as error:  # the runs and their report are not lost by what is wrong with a trace
        return Decision(found, None, [f"No advice for {settings.trace.name}: {error}"])
    _write(advice, settings)
    said = [_sentence(PLACES[place], entry) for place, entry in advice.advised.items()]
    if CONTAINER not in found.profiles:
        said.append(
            "cloud: no advice, since only runs on Kubernetes show how the model runs in a container (make cluster)."
        )
    demand = advice.question.demand
    read = f"For {settings.trace.name} ({demand.summary}), simulated:"
    return Decision(found, advice, [read, *demand.notes, *said])


def _write(advice: Advice, settings: Settings) -> None:
    """Replace the advice of an earlier call."""
    folder = settings.folder / ADVICE
    scratch = folder.with_name(f"{ADVICE}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    write_advice(advice, scratch)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def _sentence(place: str, entry: Advised) -> str:
    figures = entry.candidate.figures
    return (
        f"{place}: {entry.candidate.strategy.name}, for {figures.usd_per_month:.2f} USD a month; the objective is "
        f"{entry.verdict}."
    )


def sections(decision: Decision, settings: Settings) -> list[Section]:
    """What to deploy, with the settings to paste; and how far the simulation is from the runs."""
    chosen: list[Element] = [Text(decision.said, "paragraph")]
    if decision.advice is not None and settings.trace is not None:
        objective = decision.advice.question.objective
        asked = (
            f"95 % of responses within {objective.p95_s:g} s" if objective.p95_s else f"a mean of {objective.mean_s} s"
        )
        chosen.append(
            Text([f"Asked for: {asked}. SIMULATED with the profiles below; nothing of it was measured."], "note")
        )
        figures = cost_and_slow(strategy_table(decision.advice), objective.limit_s, p95=objective.p95_s is not None)
        chosen += [
            table("What is advised", advice_table(decision.advice)),
            picture("Cost and slow requests", figures[0, 0].figure),
            *_pasted(decision.advice),
        ]
    return [
        Section(f"What to deploy{f' for {settings.trace.name}' if settings.trace else ''}", chosen),
        Section("How far the simulation of this model is from its runs", _errors(decision.calibrated)),
    ]


def _pasted(advice: Advice) -> list[Element]:
    """The settings of each place."""
    elements: list[Element] = []
    for place, entry in advice.advised.items():
        for name, text in settings_files(entry.candidate.strategy, advice.question.demand.begins).items():
            elements.append(Text([f"{PLACES[place]}: `{ADVICE}/{place}/{name}`"]))
            elements.append(Text([text], "code"))
    return elements


def _errors(found: Calibrated) -> list[Element]:
    elements: list[Element] = []
    if found.profiles:
        rows = {
            display_name(name): {
                **{what: _range(profile.compared.ratios[figure]) for what, figure in _FIGURES.items()},
                "runs": profile.compared.runs,
            }
            for name, profile in found.profiles.items()
            if profile.compared is not None
        }
        title = "Simulated / measured, lowest to highest over runs of blocks that the profile was not fitted to"
        elements.append(table(title, pd.DataFrame(rows).T.rename_axis("environment")))
    if len(found.contrasts):
        pairs = [
            {
                "pair": f"{display_name(row.a)} / {display_name(row.b)}",
                "measured": round(float(row.measured), 3),
                "simulated": round(float(row.simulated), 3),
                "simulated / measured, by block": _range((row.low, row.high)),
            }
            for row in found.contrasts.itertuples()
        ]
        elements.append(table("Ratios of the mean response", pd.DataFrame(pairs).set_index("pair")))
    if found.left_out:
        elements.append(Text(list(found.left_out), "list"))
    return elements


def _range(ends: tuple[float, float]) -> str:
    return f"{ends[0]:.2f} to {ends[1]:.2f}"
