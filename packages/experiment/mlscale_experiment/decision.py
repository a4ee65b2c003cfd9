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
from mlscale.reporting.document import Element, Section, Text, table
from mlscale.runs import MlscaleError, Run
from mlscale_experiment.calibration import CONTAINER, Calibrated, calibrated, write_profiles
from mlscale_experiment.experiment import Experiment
from mlscale_experiment.settings import Settings
from mlscale_twin.strategy.advice import Advice, AdviseOptions, advise, write_advice
from mlscale_twin.strategy.measured import read_measured
from mlscale_twin.strategy.page import notes, verdict
from mlscale_twin.strategy.page import sections as advice_sections

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
    said = verdict(advice)
    if CONTAINER not in found.profiles:
        said.append(
            "Cloud: no advice, since only runs on Kubernetes show how the model runs in a container (make cluster)."
        )
    return Decision(found, advice, [f"For {settings.trace.name}, simulated:", *said])


def _write(advice: Advice, settings: Settings) -> None:
    """Replace the advice of an earlier call."""
    folder = settings.folder / ADVICE
    scratch = folder.with_name(f"{ADVICE}.partial")
    shutil.rmtree(scratch, ignore_errors=True)
    write_advice(advice, scratch)
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)


def sections(decision: Decision, settings: Settings) -> list[Section]:
    """What to deploy, with the settings to paste; and how far the simulation is from the runs."""
    title = f"What to deploy{f' for {settings.trace.name}' if settings.trace else ''}"
    if decision.advice is not None:
        chosen = [Section(title, [Text(decision.said), notes(decision.advice)]), *advice_sections(decision.advice)]
    else:
        chosen = [Section(title, [Text(decision.said)])]
    return [
        *chosen,
        Section("How far the simulation of this model is from its runs", _errors(decision.calibrated)),
    ]


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
