"""Answers to lab 1."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from mlscale.analysis.queues import closed_response_s, mg1_response_s, open_response_s
from mlscale_lab.checks import Mistake, Number, Question
from mlscale_lab.lessons.queues import CLIENTS, LOAD, SERVICE_S, THINK_S


def own(numbers: Mapping[str, float]) -> dict[str, float]:
    """Right answers about a student's own numbers."""
    service_s, load = numbers["service_s"], numbers["load"]
    return {
        "own_mean": open_response_s(1, load / service_s, service_s),
        "own_inside": load / (1 - load),
        "own_closed": closed_response_s(int(numbers["clients"]), 1, service_s, numbers["think_s"]),
    }


def _capacity() -> Question:
    return Number(
        1 / SERVICE_S,
        [
            Mistake(1000 * SERVICE_S, "That is the time of a request in milliseconds. How many fit into one second?"),
            Mistake(SERVICE_S, "That is the time of one request in seconds. How many fit into one second?"),
        ],
        "A replica that is never idle finishes one request each 50 ms: 20 a second. More cannot be served.",
        "One request after another, 50 ms each: how many in a second?",
        0.001,
    )


def _mean_at_80() -> Question:
    right = open_response_s(1, LOAD / SERVICE_S, SERVICE_S)
    return Number(
        right,
        [
            Mistake(
                SERVICE_S, "That is the service alone. Arrivals are random: at 80 % load most find others waiting."
            ),
            Mistake(
                SERVICE_S * (1 + LOAD), "You let the wait grow in proportion to the load. It grows faster than that."
            ),
            Mistake(2 * SERVICE_S, "That would be one request ahead of you, on average. At 80 % load there are more."),
            Mistake(
                mg1_response_s(LOAD, SERVICE_S, SERVICE_S**2),
                "Right if each request took exactly 50 ms. Here some take much longer, and all behind them wait.",
            ),
            Mistake(right - SERVICE_S, "That is the wait alone. A response is wait and service."),
            Mistake(SERVICE_S / LOAD, "Divide by what is left of the capacity (1 - load), not by what is used."),
        ],
        "Service / (1 - load) = 0.05 / 0.2. Four fifths of the response are waiting.",
        "Four of five arrivals find the replica busy, often with a queue before it. Run the next cell: the row of 0.8.",
        seconds=True,
    )


def _tail_80_to_95() -> Question:
    return Number(
        (1 - LOAD) / (1 - 0.95),
        [
            Mistake(0.95 / LOAD, "That is how much the load grows. The tail follows what is left of the capacity."),
            Mistake(1.0, "It does grow: look at the squares in the figure, from 0.8 to 0.95."),
            Mistake((1 - 0.95) / (1 - LOAD), "That is the ratio the other way round."),
        ],
        "What is left of the capacity shrinks from 20 % to 5 %, so every quantile grows fourfold, for 19 % more load.",
        "What is left of the capacity at 0.80, and what is left at 0.95?",
        0.12,  # the simulated ratio is as right as the formula's
    )


def _inside_at_80() -> Question:
    rate = LOAD / SERVICE_S
    right = rate * open_response_s(1, rate, SERVICE_S)
    return Number(
        right,
        [
            Mistake(rate * SERVICE_S, "That is the number in service (the load). Those that wait are inside as well."),
            Mistake(right - LOAD, "Those are the waiting ones. The one in service is inside as well."),
            Mistake(rate, "That is the number that arrive in a second. How long does each stay?"),
            Mistake(rate / (right / rate), "If each stayed twice as long, there would be more inside, not fewer."),
        ],
        "Little's law: 16 a second, each inside for 0.25 s. Autoscalers that count requests in flight see it.",
        "If each stayed for a whole second, all that arrived in the last second would be inside. Each stays 0.25 s.",
    )


def _constant_at_80() -> Question:
    right = mg1_response_s(LOAD, SERVICE_S, SERVICE_S**2)
    exponential = open_response_s(1, LOAD / SERVICE_S, SERVICE_S)
    return Number(
        right,
        [
            Mistake(exponential, "Unequal requests are one reason to wait, and it is gone now."),
            Mistake(SERVICE_S, "Service is constant, but arrivals are still random, so some still wait."),
            Mistake(right - SERVICE_S, "That is the wait. A response is wait and service."),
            Mistake(exponential / 2, "Only the wait can shrink. The service still takes 50 ms."),
        ],
        "Half the wait came from unequal services. The other half, from random arrivals, stays.",
        "Split 0.25 s into service and wait: only the wait shrinks. How far? Run the next cell: the row of 0.8.",
        seconds=True,
    )


def _shared_queue() -> Question:
    own = open_response_s(1, LOAD / SERVICE_S, SERVICE_S)
    shared = open_response_s(2, 2 * LOAD / SERVICE_S, SERVICE_S)
    return Number(
        own / shared,
        [
            Mistake(
                1.0,
                "The load of each replica is the same, but with queues of their own one waits while the other is idle.",
            ),
            Mistake(2.0, "Twice the replicas do not halve the response: the service takes as long as before."),
            Mistake(shared / own, "That is the ratio the other way round (separate / shared is asked)."),
        ],
        "Nobody waits while a replica is idle. TorchServe shares its queue; Kubernetes picks a pod at random.",
        "Separate queues are like that of section 2. The next cell simulates the shared one: divide the two means.",
        0.06,
    )


def _closed_loop() -> Question:
    right = closed_response_s(CLIENTS, 1, SERVICE_S, THINK_S)
    return Number(
        right,
        [
            Mistake(
                float("inf"), "In an open loop, yes. Here a client that waits sends nothing: the queue limits itself."
            ),
            Mistake(CLIENTS * SERVICE_S, "That would be all 20 in the queue at all times. Some are thinking."),
            Mistake(SERVICE_S, "20 clients ask for more than one replica can do, so they queue."),
            Mistake(
                THINK_S + SERVICE_S,
                "That is thinking and service, as if nobody waited. One replica can't serve 44 a second.",
            ),
            Mistake(
                CLIENTS * SERVICE_S + THINK_S,
                "From one answer to a client to the next, a second passes. The thinking is part of that second.",
            ),
        ],
        "The replica is busy, so 20 a second are served, and Little's law gives 20 x (response + 0.4 s) = 20 clients.",
        "The replica is always busy and serves 20 a second, one for each client. Of its second, a client thinks 0.4 s.",
        0.06,
        seconds=True,
    )


QUESTIONS: Final[Mapping[str, Callable[[], Question]]] = {
    "capacity": _capacity,
    "mean_at_80": _mean_at_80,
    "tail_80_to_95": _tail_80_to_95,
    "inside_at_80": _inside_at_80,
    "constant_at_80": _constant_at_80,
    "shared_queue": _shared_queue,
    "closed_loop": _closed_loop,
}
