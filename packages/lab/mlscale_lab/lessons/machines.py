"""Lab 4: machines that scale, below pods that scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from statistics import median
from typing import Any, Final

import numpy as np

from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.runs import MlscaleError
from mlscale_lab.checks import Checks, Choice, Mistake, Number, Question, Task, Verdict
from mlscale_lab.experiments import DRAWS, Average, average, scaling_of
from mlscale_lab.sandbox.load import SHAPES, schedule_of
from mlscale_lab.sandbox.prediction import predict, profile_of
from mlscale_twin.simulate import machines_of

MACHINE: Final = "rehearsal.medium"
PODS: Final = 4
DURATION_S: Final = 600.0
SHORT_BOOT_S, LONG_BOOT_S = 10, 60
# The task: at most so many seconds and replica minutes.
MOST_P95_S: Final = 3.0
MOST_REPLICA_MIN: Final = 33.0


def facts() -> dict[str, float]:
    """Sizes of pod and machine, and mean seconds of each step, from the rehearsal's live runs and the boot times."""
    profile, scaling = profile_of("eks"), scaling_of("eks")
    machines = profile.machines
    _, boot = machines_of({"app": scaling.model_dump()})
    assert machines is not None
    assert boot is not None
    return {
        "pod_cores": scaling.cpu_cores,
        "machine_cores": catalogue().types[MACHINE].cpu_cores,
        "reserved_cores": RESERVED_CORES,
        "boot_s": boot.mean_s,
        "joins_s": machines.boot_overhead.mean_s + machines.registers.mean_s + machines.turns_ready.mean_s,
        "pod_start_s": sum(step.takes.mean_s for step in profile.starts.steps),
    }


def all_ready_s(boot_s: float) -> list[float]:
    """Seconds from the load's step until four pods are ready for the first time, in several simulated runs."""
    schedule = schedule_of(SHAPES["step"], DURATION_S)
    step_s = DURATION_S * 3 / 12
    scaling = scaling_of("eks", boot=f"{boot_s:g}s")
    times_s = []
    for draw in range(2 * DRAWS):
        run = predict("eks", scaling, schedule, draw)
        times_s.append(float(run.counted_s[int(np.argmax(run.ready >= PODS))] - step_s))
    return sorted(times_s)


def tried(**settings: Any) -> Average:
    """EKS, as rehearsed, under the load "step", over several draws."""
    return average("eks", "step", duration_s=DURATION_S, **settings)


def checks() -> Checks:
    """The checks of notebook lab_4."""
    return Checks(
        {
            "pods_per_machine": _pods_per_machine,
            "machines": _machines,
            "longest": _longest,
            "later": _later,
            "saved": _saved,
            "settings": lambda: Task(_judge),
        }
    )


def _per_machine() -> int:
    known = facts()
    return int((known["machine_cores"] - known["reserved_cores"]) / known["pod_cores"] + 1e-9)


def _pods_per_machine() -> Question:
    known = facts()
    return Number(
        _per_machine(),
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
    per = _per_machine()
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


def _judge(answer: Any) -> Verdict:
    if not isinstance(answer, Mapping):
        return Verdict(False, "A dictionary is expected, such as {'buffer_replicas': 1}.")
    for name, hint in {
        "boot": "On a cloud you can't choose how long a machine boots.",
        "cpu_cores": "Pods of the same size, please: a larger quota is more money by another name.",
        "machine_types": "The machines stay as they are in this task.",
    }.items():
        if name in answer:
            return Verdict(False, hint)
    try:
        scaling = scaling_of("eks", **answer)
    except (MlscaleError, TypeError) as error:
        return Verdict(False, str(error))
    if scaling.model_dump()["min_replicas"] == scaling.model_dump()["max_replicas"]:
        return Verdict(False, "Nothing is scaled any more. Leave the autoscaler something to do.")
    result = tried(**answer)
    shown = f"95 % within {result.p95_s:.1f} s, {result.replica_min:.1f} replica minutes, over {DRAWS} draws"
    if result.p95_s > MOST_P95_S:
        kept = " Room alone still leaves the pod to start." if scaling.model_dump()["buffer_replicas"] else ""
        return Verdict(False, f"Too slow: {shown}.{kept} What would have to be there when the step comes?")
    if result.replica_min > MOST_REPLICA_MIN:
        return Verdict(False, f"Fast and too expensive: {shown}. Would one pod fewer do?")
    return Verdict(True, f"{shown}. One warm pod carries the load until machine and pod are there.")
