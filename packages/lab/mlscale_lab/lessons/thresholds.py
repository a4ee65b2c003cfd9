"""Lab 2: thresholds, delays and oscillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from mlscale_lab.checks import Checks, Verdict
from mlscale_lab.experiments import DRAWS, SAME_SIZE, Average, average, given_settings, scaling_of
from mlscale_lab.questions import checks_of, draw_of
from mlscale_lab.sandbox.load import SHAPES, schedule_of
from mlscale_lab.sandbox.prediction import predict
from mlscale_twin.policies.hpa import within_tolerance

TARGET_PERCENT: Final = 50
DURATION_S: Final = 300.0
# The step of the sandbox's load "step", as a share of its duration.
_STEP_AT: Final = 3 / 12
# Three controllers under the load "waves".
CANDIDATES: Final[Mapping[str, Mapping[str, float]]] = {
    "a": {"look_back_s": 0.5, "upscale_delay_s": 0.0, "downscale_delay_s": 0.0},
    "b": {"look_back_s": 0.6, "upscale_delay_s": 1.0, "downscale_delay_s": 30.0},
    "c": {"look_back_s": 0.6, "upscale_delay_s": 1.0, "downscale_delay_s": 120.0},
}
# The task: so many workers, changes, replica minutes and seconds.
MOST_WORKERS: Final = 4
LEAST_CHANGES, MOST_CHANGES = 2.0, 8.0
MOST_REPLICA_MIN: Final = 17.0
MOST_P95_S: Final = 1.0


def hpa_wants(pods: int, utilisation_percent: float, target_percent: float = TARGET_PERCENT) -> int:
    """How many pods the HorizontalPodAutoscaler wants, by its rule for CPU, if all pods are ready."""
    ratio = utilisation_percent / target_percent
    return pods if within_tolerance(ratio) else math.ceil(pods * ratio)


def first_decisions_s(environment: str = "k3s", arm: Any = "shipped") -> list[float]:
    """Seconds from the load's step until more replicas are wanted, in several simulated runs."""
    schedule = schedule_of(SHAPES["step"], DURATION_S)
    step_s = _STEP_AT * DURATION_S
    times_s = []
    for draw in range(2 * DRAWS):
        run = predict(environment, scaling_of(environment, arm=arm), schedule, draw)
        later = (run.counted_s > step_s) & (run.desired > run.desired[run.counted_s <= step_s][-1])
        times_s.append(float(run.counted_s[later][0] - step_s) if later.any() else math.inf)
    return sorted(times_s)


def tried(**settings: Any) -> Average:
    """A TorchServe controller under the load "waves", over several draws."""
    return average("torchserve", "waves", duration_s=DURATION_S, **settings)


def checks(student: Any = None) -> Checks:
    """The checks of notebook lab_2."""
    return checks_of("thresholds", student, tasks={"settings": _judge}, own=("own_pods", "own_calm", "own_decisions"))


def own_numbers(student: Any) -> dict[str, float]:
    """Pods, what they use of their request, the target; and how many an overload needs: drawn by the student's name."""
    draw = draw_of("thresholds", student)
    target_percent = draw.choice([40, 50, 60, 70])
    return {
        "pods": draw.choice([3, 4, 5, 6, 7]),
        "utilisation_percent": draw.choice(range(target_percent + 10, 100, 5)),
        "target_percent": target_percent,
        "needed": draw.choice([11, 13, 17, 19, 23]),
    }


def _judge(answer: Any) -> Verdict:
    given = given_settings("torchserve", answer, "{'downscale_delay_s': 60.0}", SAME_SIZE)
    if isinstance(given, Verdict):
        return given
    if given.get("max_replicas", MOST_WORKERS) > MOST_WORKERS:
        return Verdict(False, f"At most {MOST_WORKERS} workers, please: more of them are more money.", given)
    result = tried(**given)
    shown = (
        f"{result.decisions:.1f} changes, {result.replica_min:.1f} replica minutes, 95 % within {result.p95_s:.2f} s, "
        f"over {DRAWS} draws"
    )
    if result.decisions > MOST_CHANGES:
        return Verdict(
            False, f"It oscillates: {shown}. Let it wait longer before it shrinks, or average over longer.", given
        )
    if result.replica_min > MOST_REPLICA_MIN:
        return Verdict(False, f"Calm and too expensive: {shown}. Which replicas are idle between the waves?", given)
    if result.decisions < LEAST_CHANGES:
        why = "Hardly anything is scaled: you pay for the peak at all times. Leave the autoscaler something to do."
        return Verdict(False, f"{shown}. {why}", given)
    if result.p95_s > MOST_P95_S:
        return Verdict(False, f"Calm and slow: {shown}. A wave needs replicas that are there when it comes.", given)
    return Verdict(True, f"{shown}. A small reserve bought what no reaction time could.", given)
