"""Lab 1: a replica as a queue, and why the tail explodes near saturation."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.queues import closed_response_s, mg1_response_s, mmc_distribution, open_response_s
from mlscale.runs import OpenLoop
from mlscale.runs.schedule import Constant
from mlscale_lab.checks import Checks, Mistake, Number, Question, Task, Verdict
from mlscale_twin.engine import Engine
from mlscale_twin.layout import OK
from mlscale_twin.settings import Clients, Processor, Queueing, Service

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Mean time that a replica works on a request, s.
SERVICE_S: Final = 0.05
LOAD: Final = 0.8
# Simulated before responses are counted, mean services.
WARM_UP: Final = 2_000.0
# The closed loop.
CLIENTS: Final = 20
THINK_S: Final = 0.4
# The sizing task.
TASK_RPS: Final = 60.0
TASK_P95_S: Final = 0.2


def simulated(
    loads: Sequence[float], servers: int = 1, *, constant: bool = False, requests: float = 100_000, seed: int = 1
) -> pd.DataFrame:
    """Response times in seconds of ``servers`` replicas with one shared queue, on the twin, a row per load.

    Args:
        loads: arrival rate as a share of capacity, below 1. constant: every request takes exactly `SERVICE_S`.
    """
    service = Service(1.0) if constant else Service(1.0, "exponential")
    rows = []
    for load in loads:
        responses_s = SERVICE_S * _responses(service, load * servers, servers, requests, seed)
        rows.append(
            {
                "load": load,
                "requests_per_s": load * servers / SERVICE_S,
                "mean_s": responses_s.mean(),
                "p95_s": np.quantile(responses_s, 0.95),
                "p99_s": np.quantile(responses_s, 0.99),
            }
        )
    return pd.DataFrame(rows)


def _responses(service: Service, rate: float, servers: int, requests: float, seed: int) -> npt.NDArray[np.float64]:
    """Response times of answered requests after the warm-up; all times in mean services."""
    schedule = OpenLoop(duration_s=WARM_UP + requests / rate, rate=Constant(rate_rps=rate))
    engine = Engine(
        schedule, service, Processor(), [Queueing()], Clients(), max_replicas=servers, seed=seed, begin_s=WARM_UP
    )
    for _ in range(servers):
        engine.add_replica()
    engine.advance(schedule.duration_s + 10_000.0)
    rows = engine.take_rows()
    kept = rows[(rows["status"] == OK) & (rows["intended_s"] >= WARM_UP)]
    return np.asarray(kept["done_s"] - kept["intended_s"], dtype=float)


def tail(table: pd.DataFrame) -> Figure:
    """Mean and tail of `simulated` against the load, with the formula for the mean."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, marker in (("mean_s", "o"), ("p95_s", "s"), ("p99_s", "^")):
        ax.plot(table["load"], table[name], marker, label=f"{name.removesuffix('_s')}, simulated")
    loads = np.linspace(0.05, float(table["load"].max()), 200)
    ax.plot(loads, SERVICE_S / (1 - loads), color="#333", lw=1, label="mean, by the formula")
    ax.set(xlabel="load (arrivals / capacity)", ylabel="response, s", ylim=(0, None))
    ax.legend()
    plt.close(figure)
    return figure


def checks() -> Checks:
    """The checks of notebook lab_1."""
    return Checks(
        {
            "capacity": _capacity,
            "mean_at_80": _mean_at_80,
            "tail_80_to_95": _tail_80_to_95,
            "inside_at_80": _inside_at_80,
            "constant_at_80": _constant_at_80,
            "shared_queue": _shared_queue,
            "closed_loop": _closed_loop,
            "replicas": _replicas,
        }
    )


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


def _replicas() -> Question:
    return Task(_judge_replicas)


def _judge_replicas(answer: Any) -> Verdict:
    if isinstance(answer, bool) or not isinstance(answer, Real) or not float(answer).is_integer() or float(answer) < 1:
        return Verdict(False, "A whole number of replicas is expected.")
    answer = int(float(answer))
    busy = TASK_RPS * SERVICE_S
    if answer < busy:
        return Verdict(False, "Fewer replicas than work: the queue grows for ever.")
    if answer == busy:
        return Verdict(False, "That is 100 % load. The formula divides by what is left: nothing.")
    if _p95_s(answer) > TASK_P95_S:
        return Verdict(False, f"Stable, but 95 % are within {_p95_s(answer):.3f} s only, {TASK_P95_S} s are asked for.")
    if answer - 1 > busy and _p95_s(answer - 1) <= TASK_P95_S:
        return Verdict(False, "Enough, but fewer would do. Each costs money around the clock.")
    load = busy / answer
    return Verdict(
        True,
        f"95 % within {_p95_s(answer):.3f} s at {100 * load:.0f} % load. Idle capacity keeps the tail short.",
    )


def _p95_s(servers: int) -> float:
    times = np.linspace(0, 200, 200_001)
    shares = mmc_distribution(times, servers, TASK_RPS * SERVICE_S / servers)
    return SERVICE_S * float(times[np.searchsorted(shares, 0.95)])
