"""Lab 3: cold starts, the backlog that builds up meanwhile, and what a reserve costs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlscale.defaults import defaults
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.progress import Shown
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run
from mlscale_lab.checks import Checks, Mistake, Number, Question, Task, Verdict
from mlscale_lab.experiments import DRAWS, Average, average, scaling_of
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


def judged_live(predicted_s: float | None, run: Run) -> Verdict:
    """Your prediction beside the live run."""
    if predicted_s is None:
        return Verdict(None, "Replace None by your prediction, and run this cell again.")
    measured_s = start_s_of(run)
    text = f"Measured here: {measured_s:.1f} s; you said {predicted_s:g} s."
    if predicted_s < measured_s / 2:
        return Verdict(False, f"{text} Starting a process is quick. What does a worker do before it can answer?")
    if predicted_s > measured_s * 2:
        return Verdict(False, f"{text} Is this machine faster than the one of the profile, or less busy?")
    return Verdict(True, f"{text} Within a factor of two, which is what one run on a shared machine can show.")


def checks() -> Checks:
    """The checks of notebook lab_3."""
    return Checks(
        {
            "capacity": _capacity,
            "faster_start": _faster_start,
            "backlog": _backlog,
            "catch_up": _catch_up,
            "one_more": _one_more,
            "settings": lambda: Task(_judge),
            "asleep": _asleep,
        }
    )


def _capacity() -> Question:
    known = facts()
    return Number(
        capacity_rps(),
        [
            Mistake(1 / known["cpu_of_an_answer_s"], "That would be with a whole core. A replica has 0.3 of one."),
            Mistake(known["quota_cores"], "That is the quota in cores. How much CPU does one answer take?"),
            Mistake(capacity_rps(REPLICAS), "That is the capacity of four. One replica is asked for."),
        ],
        "Quota / CPU of an answer. The step asks for nearly twice as much.",
        "In a second a replica gets 0.3 s of CPU. How many answers is that?",
    )


def _faster_start() -> Question:
    known = facts()
    right = known["start_s"] * known["quota_cores"]
    return Number(
        right,
        [
            Mistake(
                known["start_s"], "It would take as long if it waited for something. It computes: it imports torch."
            ),
            Mistake(
                known["start_s"] * (1 - known["quota_cores"]),
                "The quota does not take a share off; it stretches the time by 1 / 0.3.",
            ),
            Mistake(known["start_s"] / known["quota_cores"], "The other way round: with more CPU it starts faster."),
        ],
        "The CPU that a start takes is start-up time x quota. A quota chosen for answers makes starts slow as well.",
        "CPU needed = 0.3 core x start-up time. How long does that take with one core?",
    )


def _backlog() -> Question:
    known = facts()
    wait_s = known["start_s"] + known["delay_s"]
    return Number(
        (BUSY_RPS - capacity_rps()) * wait_s,
        [
            Mistake(BUSY_RPS * wait_s, "Those are all that arrive. The replica that is there answers some of them."),
            Mistake(capacity_rps() * wait_s, "Those are the ones that are answered. Which are left?"),
            Mistake(BUSY_RPS - capacity_rps(), "That is how fast it grows, per second. For how long?"),
            Mistake(
                (BUSY_RPS - capacity_rps()) * known["start_s"], "Nearly: the controller waits a second before it acts."
            ),
        ],
        "The queue grows by what exceeds the capacity, for as long as help takes to arrive.",
        "It grows by (arrivals - capacity) each second, for delay and start-up together.",
        0.03,
    )


def _catch_up() -> Question:
    known = facts()
    backlog = (BUSY_RPS - capacity_rps()) * (known["start_s"] + known["delay_s"])
    return Number(
        backlog / (capacity_rps(REPLICAS) - BUSY_RPS),
        [
            Mistake(
                backlog / capacity_rps(REPLICAS),
                "New requests arrive meanwhile. Only what is left of the capacity works off the queue.",
            ),
            Mistake(backlog / capacity_rps(), "All four replicas work on it now."),
            Mistake(backlog / BUSY_RPS, "Divide by how fast the queue shrinks: capacity - arrivals."),
        ],
        "Queue / (capacity - arrivals). With replicas for the load alone, and none to spare, it would never end.",
        "How fast does the queue shrink, with four replicas serving and requests still arriving?",
    )


def _one_more() -> Question:
    one, two = (average("torchserve", "step", duration_s=DURATION_S, min_replicas=n).mean_s for n in (1, 2))
    return Number(
        one / two,
        [
            Mistake(
                1.0, "Look at the two figures: during the cold start there are twice as many, and then no queue at all."
            ),
            Mistake(
                2.0,
                "With two, the capacity exceeds the load: no queue builds up. That is more than half of it gone.",
            ),
            Mistake(two / one, "That is the ratio the other way round (one / two is asked)."),
        ],
        "Two replicas just carry the load, so no queue builds up while the others start: far more than half is gone.",
        "Compare the means below the figure: with one replica before the step, over with two.",
        0.35,
    )


def _asleep() -> Question:
    share = KEEP_S / EVERY_S
    return Number(
        math.exp(-share),
        [
            Mistake(1 - math.exp(-share), "That is the share of gaps that end while the replica is still there."),
            Mistake(
                1 - share,
                "That would be if every length of a gap up to ten minutes were as likely. Short ones are likelier.",
            ),
            Mistake(1.0, "Some requests follow closely enough on another."),
        ],
        "Gaps between random requests are exponential: exp(-5/10) of them are longer than 5 minutes. At near-zero "
        "traffic, zero replicas make most requests wait for a start, whatever the framework.",
        "Which share of exponential gaps with a mean of 10 minutes is longer than 5 minutes?",
    )


def tried(**settings: Any) -> Average:
    """A TorchServe controller under the load "step", over several draws."""
    return average("torchserve", "step", duration_s=DURATION_S, **settings)


def _judge(answer: Any) -> Verdict:
    if not isinstance(answer, Mapping):
        return Verdict(False, "A dictionary is expected, such as {'min_replicas': 2}.")
    if "cpu_cores" in answer:
        return Verdict(False, "Replicas of the same size, please: a larger quota is more money by another name.")
    try:
        scaling = scaling_of("torchserve", **answer)
    except (MlscaleError, TypeError) as error:
        return Verdict(False, str(error))
    if scaling.min_replicas == scaling.max_replicas:
        return Verdict(False, "Nothing is scaled any more. Leave the autoscaler something to do.")
    result = tried(**answer)
    shown = f"95 % within {result.p95_s:.2f} s, {result.replica_min:.1f} replica minutes, over {DRAWS} draws"
    if result.p95_s > MOST_P95_S:
        return Verdict(False, f"Too slow: {shown}. What is there when the step comes?")
    if result.replica_min > MOST_REPLICA_MIN:
        return Verdict(False, f"Fast and too expensive: {shown}. After the step, are all of those replicas needed?")
    return Verdict(True, f"{shown}. A warm reserve for the first minute, and a lid on what is started after it.")
