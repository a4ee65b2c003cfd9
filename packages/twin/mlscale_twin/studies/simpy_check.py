"""The same queue in the twin and in SimPy, which knows nothing of each other: equal in distribution, and how fast."""

from __future__ import annotations

import time
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from mlscale.runs import OpenLoop
from mlscale.runs.schedule import Constant
from mlscale_twin.engine import Engine
from mlscale_twin.layout import OK, REFUSED
from mlscale_twin.settings import Clients, Processor, Queueing, Service

Floats = npt.NDArray[np.float64]
# One request in so many is compared, so that those compared hardly depend on one another.
EVERY: Final = 40


@dataclass(frozen=True)
class BoundedQueue:
    """M/M/c with ``places`` for those that wait; a mean service takes 1 s."""

    rate_rps: float = 3.2
    servers: int = 3
    places: int = 4
    duration_s: float = 6_000.0


@dataclass(frozen=True)
class Simulated:
    """``responses_s`` in the order of sending; ``refused``: a share; ``cpu_s``: what it took to simulate."""

    responses_s: Floats
    refused: float
    cpu_s: float


def by_twin(queue: BoundedQueue, seed: int) -> Simulated:
    schedule = OpenLoop(duration_s=queue.duration_s, rate=Constant(rate_rps=queue.rate_rps))
    engine = Engine(
        schedule, Service(1.0, "exponential"), Processor(), [Queueing(limit=queue.places)], Clients(),
        most_replicas=queue.servers, seed=seed,
    )  # fmt: skip
    for _ in range(queue.servers):
        engine.come()
    engine.advance(0.0)  # compiled, or read from the cache
    begun_s = time.process_time()
    engine.advance(queue.duration_s + 1000)
    cpu_s = time.process_time() - begun_s
    rows = engine.take_rows()
    rows = rows[np.argsort(rows["number"])]
    answered = rows[rows["status"] == OK]
    return Simulated(answered["done_s"] - answered["intended_s"], float(np.mean(rows["status"] == REFUSED)), cpu_s)


def by_simpy(queue: BoundedQueue, seed: int) -> Simulated:
    import simpy

    rng = np.random.default_rng([seed, 77])
    environment = simpy.Environment()
    servers = simpy.Resource(environment, capacity=queue.servers)
    took: dict[int, float] = {}
    refused = 0

    def request(number: int) -> Generator[Any, Any, Any]:
        nonlocal refused
        begun_s = environment.now
        if len(servers.queue) >= queue.places:
            refused += 1
            return
        with servers.request() as turn:
            yield turn
            yield environment.timeout(rng.exponential(1.0))
        took[number] = environment.now - begun_s

    def source() -> Generator[Any, Any, Any]:
        number = 0
        while environment.now < queue.duration_s:
            yield environment.timeout(rng.exponential(1 / queue.rate_rps))
            environment.process(request(number))
            number += 1

    environment.process(source())
    begun_s = time.process_time()
    environment.run()
    cpu_s = time.process_time() - begun_s
    return Simulated(np.array([took[number] for number in sorted(took)]), refused / (refused + len(took)), cpu_s)


def beside_simpy(queue: BoundedQueue | None = None, seeds: int = 4) -> dict[str, float]:
    """Both on the same queue: mean responses, shares refused, p of a two-sample Kolmogorov-Smirnov test on every
    `EVERY`-th response, p of a t-test on the shares, requests per second of CPU time, and their ratio."""
    asked = queue or BoundedQueue()
    ours, theirs = ([by(asked, seed) for seed in range(seeds)] for by in (by_twin, by_simpy))
    one, other = (np.concatenate([each.responses_s[::EVERY] for each in found]) for found in (ours, theirs))
    speeds = [
        sum(len(each.responses_s) for each in found) / sum(each.cpu_s for each in found) for found in (ours, theirs)
    ]
    return {
        "compared": float(min(len(one), len(other))),
        "twin_mean_s": float(np.mean([each.responses_s.mean() for each in ours])),
        "simpy_mean_s": float(np.mean([each.responses_s.mean() for each in theirs])),
        "twin_refused": float(np.mean([each.refused for each in ours])),
        "simpy_refused": float(np.mean([each.refused for each in theirs])),
        "p_responses": float(stats.ks_2samp(one, other).pvalue),
        "p_refused": float(stats.ttest_ind([e.refused for e in ours], [e.refused for e in theirs]).pvalue),
        "twin_requests_per_cpu_s": speeds[0],
        "simpy_requests_per_cpu_s": speeds[1],
        "twin_times_as_fast": speeds[0] / speeds[1],
    }
