"""Lab 3: cold starts, the backlog that builds up meanwhile, and what a reserve costs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from mlscale.defaults import defaults
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.progress import Shown
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run
from mlscale_lab.checks import Checks, Verdict, as_number
from mlscale_lab.experiments import DRAWS, SAME_SIZE, Average, average, given_settings, scaling_of
from mlscale_lab.questions import checks_of, draw_of
from mlscale_lab.sandbox.load import SHAPES
from mlscale_lab.sandbox.prediction import profile_of

DURATION_S: Final = 180.0
# The load of the sandbox's shape "step", after it.
BUSY_RPS: Final = SHAPES["step"][-1]
REPLICAS: Final = 4
# The live run: two clients, then eight.
LIVE: Final = ClosedLoop(
    duration_s=60.0,
    stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=10, clients=8)),
    think_mean_s=0.5,
)
# Scaling to zero: requests at random, one every so many seconds on average; the last replica ends so long after one.
EVERY_S: Final = 600.0
KEEP_S: Final = 300.0
# The task: at most so many seconds and replica minutes.
MOST_P95_S: Final = 0.7
MOST_REPLICA_MIN: Final = 8.5


def facts() -> dict[str, float]:
    """What the twin knows of a TorchServe worker here, from live runs: CPU of an answer, start-up time, quota."""
    profile = profile_of("torchserve")
    scaling = scaling_of("torchserve")
    return {
        "cpu_of_an_answer_s": profile.work["app"].mean_s.value,
        "quota_cores": scaling.cpu_cores,
        "start_s": sum(step.takes.mean_s for step in profile.starts.steps),
        "delay_s": 1.0,
    }


def capacity_rps(replicas: int = 1) -> float:
    """Answers per second of replicas that are always busy."""
    known = facts()
    return replicas * known["quota_cores"] / known["cpu_of_an_answer_s"]


def live_run(out: Path | str | None = None) -> Run:
    """Measure TorchServe for a minute: real workers, real requests. About two minutes with set-up and teardown.

    Raises:
        MlscaleError: TorchServe can't run here; see ``mlscale doctor``.
    """
    from mlscale.notebook.study import new_folder

    if find_spec("torch") is None:
        remedy = "read on at section 6; TorchServe runs from a checkout of mlscale, on Linux"
        raise MlscaleError("this copy of the labs has no TorchServe", "live run", remedy)
    default = defaults()
    with Shown() as progress:
        return measure(
            "torchserve",
            default.application(),
            LIVE,
            bodies=default.bodies(),
            out=out or new_folder("torchserve"),
            options=MeasureOptions(idle_s=2.0, progress=progress),
        )


def start_s_of(run: Run) -> float:
    """Seconds from the first decision for more replicas until the first of them was ready.

    Raises:
        MlscaleError: none was started, or none became ready, during the run.
    """
    events = run.events
    asked = events[events["kind"] == "scale_decision"]["t_s"]
    ready = events[(events["kind"] == "replica_ready")]["t_s"]
    if asked.empty or (ready <= asked.iloc[0]).all():
        raise MlscaleError("no replica became ready after a decision", run.info.run_id, "run it once more")
    return float(ready[ready > asked.iloc[0]].iloc[0] - asked.iloc[0])


def judged_live(predicted: float | None, run: Run) -> Verdict:
    """Your prediction, s, beside the live run."""
    if predicted is None:
        return Verdict(None, "Replace None by your prediction, and run this cell again.")
    predicted_s = as_number(predicted)
    if isinstance(predicted_s, Verdict):
        return predicted_s
    measured_s = start_s_of(run)
    text = f"Measured here: {measured_s:.1f} s; you said {predicted_s:g} s."
    if predicted_s < measured_s / 2:
        return Verdict(False, f"{text} Starting a process is quick. What does a worker do before it can answer?")
    if predicted_s > measured_s * 2:
        return Verdict(False, f"{text} Is this machine faster than the one of the profile, or less busy?")
    return Verdict(True, f"{text} Within a factor of two, which is what one run on a shared machine can show.")


def checks(student: Any = None) -> Checks:
    """The checks of notebook lab_3."""
    own = ("own_backlog", "own_catch_up", "own_asleep")
    return checks_of("cold_starts", student, tasks={"settings": _judge}, own=own, kept=["live_start"])


def own_numbers(student: Any) -> dict[str, float]:
    """A replica, its start, the load after a step; and a rarely used model: drawn by the student's name."""
    draw = draw_of("cold_starts", student)
    quota_cores, cpu_s = draw.choice([0.2, 0.25, 0.4, 0.5]), draw.choice([0.03, 0.04, 0.05, 0.06])
    return {
        "quota_cores": quota_cores,
        "cpu_of_an_answer_s": cpu_s,
        "start_s": draw.choice(range(10, 31)),
        "delay_s": draw.choice([2, 3, 4, 5]),
        "rps": round(draw.choice([1.5, 2.0, 2.5]) * quota_cores / cpu_s, 1),
        "replicas": draw.choice([4, 5, 6]),
        "every_min": draw.choice([8, 12, 15, 20]),
        "keep_min": draw.choice([3, 4, 6, 7]),
    }


def tried(**settings: Any) -> Average:
    """A TorchServe controller under the load "step", over several draws."""
    return average("torchserve", "step", duration_s=DURATION_S, **settings)


def _judge(answer: Any) -> Verdict:
    given = given_settings("torchserve", answer, "{'min_replicas': 2}", SAME_SIZE)
    if isinstance(given, Verdict):
        return given
    result = tried(**given)
    shown = f"95 % within {result.p95_s:.2f} s, {result.replica_min:.1f} replica minutes, over {DRAWS} draws"
    if result.p95_s > MOST_P95_S:
        return Verdict(False, f"Too slow: {shown}. What is there when the step comes?", given)
    if result.replica_min > MOST_REPLICA_MIN:
        why = f"Fast and too expensive: {shown}. After the step, are all of those replicas needed?"
        return Verdict(False, why, given)
    return Verdict(True, f"{shown}. A warm reserve for the first minute, and a lid on what is started after it.", given)
