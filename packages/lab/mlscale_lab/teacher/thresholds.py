"""Answers to lab 2."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from statistics import median
from typing import Final

from mlscale_lab.checks import Choice, Mistake, Number, Question
from mlscale_lab.lessons.thresholds import CANDIDATES, TARGET_PERCENT, first_decisions_s, hpa_wants, tried


def own(numbers: Mapping[str, float]) -> dict[str, float]:
    """Right answers about a student's own numbers."""
    pods, target_percent = int(numbers["pods"]), numbers["target_percent"]
    return {
        "own_pods": hpa_wants(pods, numbers["utilisation_percent"], target_percent),
        "own_calm": 1.1 * target_percent,
        "own_decisions": syncs_until(int(numbers["needed"]), target_percent=target_percent),
    }


def syncs_until(pods: int, from_pods: int = 1, target_percent: float = TARGET_PERCENT) -> int:
    """Decisions until at least ``pods`` are wanted, if every pod uses 100 % of its request throughout."""
    syncs = 0
    while from_pods < pods:
        from_pods, syncs = hpa_wants(from_pods, 100, target_percent), syncs + 1
    return syncs


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
            Mistake(15.0, "So long it may take until it looks. But the average that it sees then is still of before."),
            Mistake(30.0, "That is the worst case: just after it looked, and an average as old as it gets. Typically?"),
            Mistake(0.5, "It looks once in 15 s, at an average that is up to 15 s old. It can't know within a second."),
            Mistake(75.0, "Seconds since the step are asked for; the step comes at 75 s."),
            Mistake(300.0, "That is the stabilisation window for scaling down. There is none for scaling up."),
        ],
        "Up to 15 s until it looks, at CPU averaged over up to 15 s before. This is lost before a pod even starts.",
        "Read the times that `first_decisions_s` prints: the middle one.",
        0.2,
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


QUESTIONS: Final[Mapping[str, Callable[[], Question]]] = {
    "hpa_at_90": _hpa_at_90,
    "hpa_at_54": _hpa_at_54,
    "doublings": _doublings,
    "first_decision": _first_decision,
    "most_changes": _most_changes,
}
