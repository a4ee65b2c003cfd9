"""Answers to lab 3."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from mlscale_lab.checks import Mistake, Number, Question
from mlscale_lab.experiments import average
from mlscale_lab.lessons.cold_starts import BUSY_RPS, DURATION_S, EVERY_S, KEEP_S, REPLICAS, capacity_rps, facts


def own(numbers: Mapping[str, float]) -> dict[str, float]:
    """Right answers about a student's own numbers."""
    one_rps = numbers["quota_cores"] / numbers["cpu_of_an_answer_s"]
    backlog = (numbers["rps"] - one_rps) * (numbers["delay_s"] + numbers["start_s"])
    return {
        "own_backlog": backlog,
        "own_catch_up": backlog / (numbers["replicas"] * one_rps - numbers["rps"]),
        "own_asleep": math.exp(-numbers["keep_min"] / numbers["every_min"]),
    }


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


QUESTIONS: Final[Mapping[str, Callable[[], Question]]] = {
    "capacity": _capacity,
    "faster_start": _faster_start,
    "backlog": _backlog,
    "catch_up": _catch_up,
    "one_more": _one_more,
    "asleep": _asleep,
}
