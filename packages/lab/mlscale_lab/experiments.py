"""Experiments of the lessons on the twin: one setting, or several side by side, under one of the sandbox's loads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import numpy as np
from pydantic import ValidationError

from mlscale import environments
from mlscale.environments import Scaling
from mlscale.errors import invalid_value
from mlscale.runs import MlscaleError
from mlscale_lab.checks import Verdict
from mlscale_lab.sandbox.figure import figure
from mlscale_lab.sandbox.load import SHAPES, rates_of, schedule_of
from mlscale_lab.sandbox.prediction import Prediction, error_of, predict

# Simulated runs over which a graded answer is averaged.
DRAWS: Final = 6
Arm = Literal["matched", "shipped", "static-min", "static-max"]


@dataclass(frozen=True)
class Experiment:
    """``predictions``: one draw of each setting, by its name. It draws itself as the last line of a cell."""

    rates_rps: Sequence[float]
    duration_s: float
    predictions: Mapping[str, Prediction]
    environments: Sequence[str]

    def _repr_html_(self) -> str:
        errors = "; ".join(error_of(name) for name in dict.fromkeys(self.environments))
        rows = "".join(
            f"<tr><th>{name}</th><td>{p.mean_s:.2f}</td><td>{p.p95_s:.2f}</td><td>{p.failed:.1%}</td>"
            f"<td>{p.replica_min:.1f}</td><td>{p.decisions}</td></tr>"
            for name, p in self.predictions.items()
        )
        head = "<th>setting</th><th>mean, s</th><th>95 % within, s</th><th>failed</th><th>replica minutes</th>"
        return (
            f"{figure(self.rates_rps, self.duration_s, self.predictions)}"
            f"<table><tr>{head}<th>changes of wanted</th></tr>{rows}</table>"
            f"<p><i>SIMULATED, one draw of each; nothing was measured. {errors}.</i></p>"
        )


def scaling_of(environment: str, settings: Mapping[str, Any] | None = None, arm: Arm = "matched") -> Scaling:
    """An arm's settings with some of them changed.

    Raises:
        MlscaleError: an unknown setting, or a value that the environment refuses.
    """
    base = environments.get(environment).arm(arm)
    try:
        return type(base).model_validate({**base.model_dump(), **(settings or {})})
    except ValidationError as error:
        raise invalid_value(error, "setting", environment, type(base)) from error


# Settings that stay as they are in every task: they would buy capacity by another name.
SAME_SIZE: Final[Mapping[str, str]] = dict.fromkeys(
    ("cpu_cores", "cpu_period_s", "cpu_budget"),
    "Replicas of the same size, please: a larger quota is more money by another name.",
)


def given_settings(environment: str, answer: Any, example: str, fixed: Mapping[str, str]) -> dict[str, Any] | Verdict:
    """The changed settings of an answer to a task, or the verdict that says why they can't be tried.

    Args:
        fixed: hints by the setting that the task leaves alone.
    """
    if not isinstance(answer, Mapping):
        return Verdict(False, f"A dictionary is expected, such as {example}.")
    for name in answer:
        if not isinstance(name, str):
            return Verdict(False, f"Names of settings in quotation marks are expected, such as {example}.")
        if name in fixed:
            return Verdict(False, fixed[name])
    try:
        scaling = scaling_of(environment, answer).model_dump(mode="json")
    except MlscaleError as error:
        return Verdict(False, str(error))
    given = {name: scaling[name] for name in answer}
    if scaling["min_replicas"] == scaling["max_replicas"]:
        return Verdict(False, "Nothing is scaled any more. Leave the autoscaler something to do.", given)
    return given


def run(
    environment: str,
    load: str | Sequence[float] = "step",
    *,
    arm: Arm = "matched",
    duration_s: float = 300.0,
    draw: int = 0,
    **settings: Any,
) -> Experiment:
    """Simulate one setting. ``load``: a shape of `SHAPES`, or requests/s in each of 12 equal parts."""
    return side_by_side(environment, {environment: settings}, load, arm=arm, duration_s=duration_s, draw=draw)


def side_by_side(
    environment: str,
    named: Mapping[str, Mapping[str, Any]],
    load: str | Sequence[float] = "step",
    *,
    arm: Arm = "matched",
    duration_s: float = 300.0,
    draw: int = 0,
) -> Experiment:
    """Simulate two settings of an environment under the same arrivals. ``named``: changed settings by name."""
    if len(named) > 2:
        raise MlscaleError(f"{len(named)} settings", "side_by_side", "name one or two")
    rates = rates_of(load)
    schedule = schedule_of(rates, duration_s)
    predictions = {
        name: predict(environment, scaling_of(environment, settings, arm), schedule, draw)
        for name, settings in named.items()
    }
    return Experiment(rates, duration_s, predictions, [environment])


@dataclass(frozen=True)
class Average:
    """Means over `DRAWS` draws."""

    mean_s: float
    p95_s: float
    failed: float
    replica_min: float
    decisions: float


def average(
    environment: str, load: str, *, arm: Arm = "matched", duration_s: float = 300.0, **settings: Any
) -> Average:
    """The same setting over several draws: one draw may be lucky."""
    return _average(environment, load, scaling_of(environment, settings, arm), duration_s)


@cache
def _average(environment: str, load: str, scaling: Scaling, duration_s: float) -> Average:
    schedule = schedule_of(SHAPES[load], duration_s)
    drawn = [predict(environment, scaling, schedule, draw) for draw in range(DRAWS)]
    names = ("mean_s", "p95_s", "failed", "replica_min", "decisions")
    return Average(*(float(np.mean([getattr(prediction, name) for prediction in drawn])) for name in names))
