"""The same queue in the twin and, independently, in SimPy: whether they agree in distribution, and how fast each is."""

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
# Only every n-th request is compared, so that the samples are nearly independent.
EVERY: Final = 40


@dataclass(frozen=True)
class BoundedQueue:
    """M/M/c with ``places`` waiting places; a mean service takes 1 s."""

    rate_rps: float = 3.2
    servers: int = 3
    places: int = 4
    duration_s: float = 6_000.0


@dataclass(frozen=True)
class SimulatedQueue:
    """``responses_s`` in sending order; ``refused``: a share; ``cpu_s``: CPU time of the simulation."""

    responses_s: Floats
    refused: float
    cpu_s: float


def by_twin(queue: BoundedQueue, seed: int) -> SimulatedQueue:
    schedule = OpenLoop(duration_s=queue.duration_s, rate=Constant(rate_rps=queue.rate_rps))
    engine = Engine(
        schedule, Service(1.0, "exponential"), Processor(), [Queueing(limit=queue.places)], Clients(),
        max_replicas=queue.servers, seed=seed,
    )  # fmt: skip
    for _ in range(queue.servers):
        engine.add_replica()
    engine.advance(0.0)  # compiled, or read from the cache
    begun_s = time.process_time()
    engine.advance(queue.duration_s + 1000)
    cpu_s = time.process_time() - begun_s
    rows = engine.take_rows()
    rows = rows[np.argsort(rows["number"])]
    answered = rows[rows["status"] == OK]
    return SimulatedQueue(answered["done_s"] - answered["intended_s"], float(np.mean(rows["status"] == REFUSED)), cpu_s)


def by_simpy(queue: BoundedQueue, seed: int) -> SimulatedQueue:
    import simpy

    rng = np.random.default_rng([seed, 77])
    environment = simpy.Environment()
    servers = simpy.Resource(environment, capacity=queue.servers)
    responses_s: dict[int, float] = {}
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
        responses_s[number] = environment.now - begun_s

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
    share = refused / (refused + len(responses_s))
    return SimulatedQueue(np.array([responses_s[number] for number in sorted(responses_s)]), share, cpu_s)


def compare_with_simpy(queue: BoundedQueue | None = None, seeds: int = 4) -> dict[str, float]:
    """Both on the same queue: mean responses, shares refused, p of a two-sample Kolmogorov-Smirnov test on every
    `EVERY`-th response, p of a t-test on the shares, requests per second of CPU time, and their ratio."""
    checked = queue or BoundedQueue()
    twin, simpy = ([simulate(checked, seed) for seed in range(seeds)] for simulate in (by_twin, by_simpy))
    twin_s, simpy_s = (np.concatenate([run.responses_s[::EVERY] for run in runs]) for runs in (twin, simpy))
    speeds = [sum(len(run.responses_s) for run in runs) / sum(run.cpu_s for run in runs) for runs in (twin, simpy)]
    return {
        "compared": float(min(len(twin_s), len(simpy_s))),
        "twin_mean_s": float(np.mean([run.responses_s.mean() for run in twin])),
        "simpy_mean_s": float(np.mean([run.responses_s.mean() for run in simpy])),
        "twin_refused": float(np.mean([run.refused for run in twin])),
        "simpy_refused": float(np.mean([run.refused for run in simpy])),
        "p_responses": float(stats.ks_2samp(twin_s, simpy_s).pvalue),
        "p_refused": float(stats.ttest_ind([run.refused for run in twin], [run.refused for run in simpy]).pvalue),
        "twin_requests_per_cpu_s": speeds[0],
        "simpy_requests_per_cpu_s": speeds[1],
        "twin_times_as_fast": speeds[0] / speeds[1],
    }
