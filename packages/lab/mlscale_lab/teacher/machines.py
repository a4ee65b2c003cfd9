"""Answers to lab 4."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from statistics import median
from typing import Final

from mlscale_lab.checks import Choice, Mistake, Number, Question
from mlscale_lab.experiments import scaling_of
from mlscale_lab.lessons.machines import LONG_BOOT_S, PODS, SHORT_BOOT_S, all_ready_s, facts


def own(numbers: Mapping[str, float]) -> dict[str, float]:
    """Right answers about a student's own numbers."""
    decision_s = numbers["sync_period_s"] / 2
    return {
        "own_machines": math.ceil(numbers["pods"] / _fit(numbers)),
        "own_ready": decision_s + numbers["boot_s"] + numbers["joins_s"] + numbers["pod_start_s"],
        "own_with_room": decision_s + numbers["pod_start_s"],
    }


def _fit(numbers: Mapping[str, float]) -> int:
    """Pods on one machine."""
    return int((numbers["machine_cores"] - numbers["reserved_cores"]) / numbers["pod_cores"] + 1e-9)


def _pods_per_machine() -> Question:
    known = facts()
    return Number(
        _fit(facts()),
        [
            Mistake(
                (known["machine_cores"] - known["reserved_cores"]) / known["pod_cores"] + 1,
                "One too many: the kubelet and its like have cores reserved.",
            ),
            Mistake(
                known["machine_cores"] / known["pod_cores"], "A pod can't be cut, and part of the machine is reserved."
            ),
            Mistake(1, "Subtract what is reserved, then divide: more than one fits."),
        ],
        "Larger machines lose less to reserves and remainders, and more to room that idles.",
        "Subtract the reserved cores, divide by a pod's cores, round down.",
        0.001,
    )


def _machines() -> Question:
    per = _fit(facts())
    return Number(
        math.ceil(PODS / per),
        [
            Mistake(PODS, "One each? Several pods fit on a machine."),
            Mistake(math.ceil(PODS / per) - 1, "Those are the machines to add: one is there already. In all?"),
        ],
        "One more than before the step. On the smallest type, of the experiments below, each pod waits for a machine.",
        "Pods divided by pods per machine, rounded up.",
        0.001,
    )


def _longest() -> Question:
    known = facts()
    parts = {
        "decision": scaling_of("eks").model_dump()["metric_window_s"] + 7.5,
        "machine": known["boot_s"] + known["joins_s"],
        "pod": known["pod_start_s"],
    }
    right = max(parts, key=lambda name: parts[name])
    hints = {
        "decision": "The HPA looks once in 15 s, so it loses 7.5 s on average. Something takes longer.",
        "pod": "It is long, and the same as without machines. Compare it with boot_s + joins_s.",
        "machine": "Compare boot_s + joins_s with pod_start_s.",
    }
    return Choice(
        right,
        {name: hint for name, hint in hints.items() if name != right},
        f"{', '.join(f'{name} {seconds:.0f} s' for name, seconds in parts.items())}: one after the other.",
    )


@cache
def _median_ready_s(boot_s: float) -> float:
    return median(all_ready_s(boot_s))


def _later() -> Question:
    extra_s = LONG_BOOT_S - SHORT_BOOT_S
    right = _median_ready_s(LONG_BOOT_S) - _median_ready_s(SHORT_BOOT_S)
    return Number(
        right,
        [
            Mistake(0.0, "Nothing hides it: the pod can't start on a machine that is not there."),
            Mistake(2 * extra_s, "Two machines would be requested together, so their boots overlap."),
            Mistake(extra_s / 2, "No part of the boot overlaps with the pod's start: first the one, then the other."),
        ],
        "A second of boot is about a second of recovery: the rehearsal found the same slope (notebook 06).",
        "Compare the medians of the two rows that `all_ready_s` gives.",
        0.25,
    )


def _saved() -> Question:
    known = facts()
    right = known["boot_s"] + known["joins_s"]
    return Number(
        right,
        [
            Mistake(
                0.0,
                "The placeholder gives way at once, so the pod has a machine. What need it not wait for?",
            ),
            Mistake(
                known["pod_start_s"],
                "That is the pod's own start. It still has to start: what is saved is the machine.",
            ),
            Mistake(right + known["pod_start_s"], "The room is kept, not a running pod: it still has to start."),
        ],
        "Room that is kept saves the machine's part, for the price of a machine that idles.",
        "Which of the three parts does a pod skip when its machine is already there?",
    )


QUESTIONS: Final[Mapping[str, Callable[[], Question]]] = {
    "pods_per_machine": _pods_per_machine,
    "machines": _machines,
    "longest": _longest,
    "later": _later,
    "saved": _saved,
}
