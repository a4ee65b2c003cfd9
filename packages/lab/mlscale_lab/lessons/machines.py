"""Lab 4: machines that scale, below pods that scale."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale_lab.checks import Checks, Verdict
from mlscale_lab.experiments import DRAWS, SAME_SIZE, Average, average, given_settings, scaling_of
from mlscale_lab.questions import checks_of, draw_of
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
    scaling = scaling_of("eks", {"boot": f"{boot_s:g}s"})
    times_s = []
    for draw in range(2 * DRAWS):
        run = predict("eks", scaling, schedule, draw)
        times_s.append(float(run.counted_s[int(np.argmax(run.ready >= PODS))] - step_s))
    return sorted(times_s)


def tried(**settings: Any) -> Average:
    """EKS, as rehearsed, under the load "step", over several draws."""
    return average("eks", "step", duration_s=DURATION_S, **settings)


def checks(student: Any = None) -> Checks:
    """The checks of notebook lab_4."""
    own = ("own_machines", "own_ready", "own_with_room")
    return checks_of("machines", student, tasks={"settings": _judge}, own=own)


def own_numbers(student: Any) -> dict[str, float]:
    """Pods and machines, and how long each step takes on average: drawn by the student's name."""
    draw = draw_of("machines", student)
    return {
        "pod_cores": draw.choice([0.3, 0.4, 0.6, 0.7]),
        "machine_cores": draw.choice([2.0, 4.0]),
        "reserved_cores": draw.choice([0.15, 0.25, 0.35]),
        "pods": draw.choice(range(9, 20)),
        "sync_period_s": draw.choice([10, 15, 20, 30]),
        "boot_s": draw.choice(range(20, 60)),
        "joins_s": draw.choice(range(3, 10)),
        "pod_start_s": draw.choice(range(12, 40)),
    }


def _judge(answer: Any) -> Verdict:
    fixed = {
        "boot": "On a cloud you can't choose how long a machine boots.",
        "machine_types": "The machines stay as they are in this task.",
    }
    given = given_settings("eks", answer, "{'buffer_replicas': 1}", {**fixed, **SAME_SIZE})
    if isinstance(given, Verdict):
        return given
    result = tried(**given)
    shown = f"95 % within {result.p95_s:.1f} s, {result.replica_min:.1f} replica minutes, over {DRAWS} draws"
    if result.p95_s > MOST_P95_S:
        kept = " Room alone still leaves the pod to start." if given.get("buffer_replicas") else ""
        return Verdict(False, f"Too slow: {shown}.{kept} What would have to be there when the step comes?", given)
    if result.replica_min > MOST_REPLICA_MIN:
        return Verdict(False, f"Fast and too expensive: {shown}. Would one pod fewer do?", given)
    return Verdict(True, f"{shown}. One warm pod carries the load until machine and pod are there.", given)
