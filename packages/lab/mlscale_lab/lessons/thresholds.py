"""Lab 2: thresholds, delays and oscillation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import Any, Final

from mlscale.runs import MlscaleError
from mlscale_lab.checks import Checks, Choice, Mistake, Number, Question, Task, Verdict
from mlscale_lab.experiments import DRAWS, Average, average, scaling_of
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
# The task: at most so many changes, replica minutes and seconds.
MOST_CHANGES: Final = 8.0
MOST_REPLICA_MIN: Final = 17.0
MOST_P95_S: Final = 1.0


def hpa_wants(pods: int, utilisation_percent: float, target_percent: float = TARGET_PERCENT) -> int:
    """How many pods the HorizontalPodAutoscaler wants, by its rule for CPU, if all pods are ready."""
    ratio = utilisation_percent / target_percent
    return pods if within_tolerance(ratio) else math.ceil(pods * ratio)


def syncs_until(pods: int, from_pods: int = 1, target_percent: float = TARGET_PERCENT) -> int:
    """Decisions until at least ``pods`` are wanted, if every pod uses 100 % of its request throughout."""
    syncs = 0
    while from_pods < pods:
        from_pods, syncs = hpa_wants(from_pods, 100, target_percent), syncs + 1
    return syncs


def first_decisions_s(environment: str = "k3s", arm: Any = "shipped") -> list[float]:
    """Seconds from the load's step until more replicas are wanted, in several simulated runs."""
    schedule = schedule_of(SHAPES["step"], DURATION_S)
    step_s = _STEP_AT * DURATION_S
    times_s = []
    for draw in range(2 * DRAWS):
        run = predict(environment, scaling_of(environment, arm), schedule, draw)
        later = (run.counted_s > step_s) & (run.desired > run.desired[run.counted_s <= step_s][-1])
        times_s.append(float(run.counted_s[later][0] - step_s) if later.any() else math.inf)
    return sorted(times_s)


def tried(**settings: Any) -> Average:
    """A TorchServe controller under the load "waves", over several draws."""
    return average("torchserve", "waves", duration_s=DURATION_S, **settings)


def checks() -> Checks:
    """The checks of notebook lab_2."""
    return Checks(
        {
            "hpa_at_90": _hpa_at_90,
            "hpa_at_54": _hpa_at_54,
            "doublings": _doublings,
            "first_decision": _first_decision,
            "most_changes": _most_changes,
            "settings": lambda: Task(_judge),
        }
    )


def _hpa_at_90() -> Question:
    return Number(
        hpa_wants(3, 90),
        [
            Mistake(
                math.ceil(90 / TARGET_PERCENT), "You forgot that the ratio multiplies the number of pods there are."
            ),
            Mistake(3 * 90 / TARGET_PERCENT, "There are no fractions of pods: the HPA rounds up."),
            Mistake(
                math.floor(3 * 90 / TARGET_PERCENT), "The HPA rounds up, not down: too many is safer than too few."
            ),
            Mistake(4, "It does not add one pod at a time; it goes to where the ratio points."),
        ],
        "ceil(3 x 90 / 50) = ceil(5.4). The same work on six pods would use 45 % of each.",
        "wanted = ceil(pods x utilisation / target).",
        0.001,
    )


def _hpa_at_54() -> Question:
    return Number(
        hpa_wants(4, 54),
        [
            Mistake(
                math.ceil(4 * 54 / TARGET_PERCENT),
                "By the formula alone, yes. But 54 / 50 is within the tolerance of 0.1.",
            )
        ],
        "Within 10 % of the target nothing happens. Without this dead band it would follow every breath of the load.",
        "Compute utilisation / target first. Is it far enough from 1?",
        0.001,
    )


def _doublings() -> Question:
    return Number(
        syncs_until(7),
        [
            Mistake(1, "It would, if it saw the load. It sees CPU, and a pod can't use more than 100 % of its quota."),
            Mistake(6, "One pod at a time? With 100 % used and a target of 50 %, how many does it want from 1?"),
            Mistake(2, "From 1 to 2 to 4: still fewer than 7."),
            Mistake(4, "One too many: 1, 2, 4, and then?"),
        ],
        "1, 2, 4, 8. CPU saturates at 100 %, so one decision doubles the pods at most, however large the overload is.",
        "With every pod at 100 % and a target of 50 %: 1 pod becomes how many? And then?",
        0.001,
    )


def _first_decision() -> Question:
    return Number(
        median(first_decisions_s()),
        [
            Mistake(0.5, "It looks once in 15 s, at an average that is up to 15 s old. It can't know within a second."),
            Mistake(75.0, "Seconds since the step are asked for; the step comes at 75 s."),
            Mistake(300.0, "That is the stabilisation window for scaling down. There is none for scaling up."),
        ],
        "Up to 15 s until it looks, at CPU averaged over up to 15 s before. This is lost before a pod even starts.",
        "Read the times that `first_decisions_s` prints: the middle one.",
        0.3,
    )


@cache
def _changes() -> dict[str, float]:
    return {name: tried(**settings).decisions for name, settings in CANDIDATES.items()}


def _most_changes() -> Question:
    changes = _changes()
    right = max(changes, key=lambda name: changes[name])
    hints = {
        "a": "It reacts fastest. What happens to a decision whose effect comes 20 s later?",
        "b": "It waits 30 s before it shrinks. Is there one that waits less?",
        "c": "It waits longest before it shrinks, so it changes least.",
    }
    return Choice(
        right,
        {name: hint for name, hint in hints.items() if name != right},
        f"{changes[right]:.0f} changes in 5 minutes: it acts on noise, and removes what it needs 20 s to get back.",
    )


def _judge(answer: Any) -> Verdict:
    if not isinstance(answer, Mapping):
        return Verdict(False, "A dictionary is expected, such as {'downscale_delay_s': 60.0}.")
    try:
        scaling = scaling_of("torchserve", **answer)
    except (MlscaleError, TypeError) as error:
        return Verdict(False, str(error))
    if scaling.min_replicas == scaling.max_replicas:
        return Verdict(
            False, "Nothing is scaled any more: with as many replicas at least as at most, you pay for the peak always."
        )
    result = tried(**answer)
    shown = (
        f"{result.decisions:.1f} changes, {result.replica_min:.1f} replica minutes, 95 % within {result.p95_s:.2f} s, "
        f"over {DRAWS} draws"
    )
    if result.decisions > MOST_CHANGES:
        return Verdict(False, f"It oscillates: {shown}. Let it wait longer before it shrinks, or average over longer.")
    if result.replica_min > MOST_REPLICA_MIN:
        return Verdict(False, f"Calm and too expensive: {shown}. Which replicas are idle between the waves?")
    if result.p95_s > MOST_P95_S:
        return Verdict(False, f"Calm and slow: {shown}. A wave needs replicas that are there when it comes.")
    return Verdict(True, f"{shown}. A small reserve bought what no reaction time could.")
