"""The twin against SimPy on the same model, written independently: equal in distribution, and many times as fast."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import simpy
from queues import EXPONENTIAL
from scipy import stats

from mlscale.runs import ClosedLoop, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant
from mlscale_twin.engine import Engine
from mlscale_twin.layout import OK, REFUSED
from mlscale_twin.settings import Clients, Processor, Queueing

DURATION_S: Final = 6_000.0
SERVERS: Final = 3
WAITING_PLACES: Final = 4
# Only every n-th request is compared, so that the samples are nearly independent.
EVERY: Final = 40


@dataclass(frozen=True)
class Simulated:
    """A bounded queue of `SERVERS`: ``responses_s`` in sending order; ``refused``: a share; ``cpu_s``: CPU time of the
    simulation. A mean service takes 1 s."""

    responses_s: npt.NDArray[np.float64]
    refused: float
    cpu_s: float


def by_twin(rate_rps: float, seed: int) -> Simulated:
    schedule = OpenLoop(duration_s=DURATION_S, rate=Constant(rate_rps=rate_rps))
    queueing = [Queueing(limit=WAITING_PLACES)]
    engine = Engine(schedule, EXPONENTIAL, Processor(), queueing, Clients(), max_replicas=SERVERS, seed=seed)
    for _ in range(SERVERS):
        engine.add_replica()
    engine.advance(0.0)  # compiled, or read from the cache
    begun_s = time.process_time()
    engine.advance(DURATION_S + 1000)
    cpu_s = time.process_time() - begun_s
    rows = engine.take_rows()
    rows = rows[np.argsort(rows["number"])]
    answered = rows[rows["status"] == OK]
    return Simulated(answered["done_s"] - answered["intended_s"], float(np.mean(rows["status"] == REFUSED)), cpu_s)


def by_simpy(rate_rps: float, seed: int) -> Simulated:
    rng = np.random.default_rng([seed, 77])
    environment = simpy.Environment()
    servers = simpy.Resource(environment, capacity=SERVERS)
    responses_s: dict[int, float] = {}
    refused = 0

    def request(number: int) -> Iterator[Any]:
        nonlocal refused
        begun_s = environment.now
        if len(servers.queue) >= WAITING_PLACES:
            refused += 1
            return
        with servers.request() as turn:
            yield turn
            yield environment.timeout(rng.exponential(1.0))
        responses_s[number] = environment.now - begun_s

    def source() -> Iterator[Any]:
        number = 0
        while environment.now < DURATION_S:
            yield environment.timeout(rng.exponential(1 / rate_rps))
            environment.process(request(number))
            number += 1

    environment.process(source())
    begun_s = time.process_time()
    environment.run()
    cpu_s = time.process_time() - begun_s
    share = refused / (refused + len(responses_s))
    return Simulated(np.array([responses_s[number] for number in sorted(responses_s)]), share, cpu_s)


def sample_s(runs: list[Simulated]) -> npt.NDArray[np.float64]:
    return np.concatenate([run.responses_s[::EVERY] for run in runs])


def requests_per_cpu_s(runs: list[Simulated]) -> float:
    return sum(len(run.responses_s) for run in runs) / sum(run.cpu_s for run in runs)


def test_a_bounded_queue_of_three_servers() -> None:
    twin, peer = ([simulate(3.2, seed) for seed in range(4)] for simulate in (by_twin, by_simpy))
    assert min(len(sample_s(twin)), len(sample_s(peer))) > 1000
    assert stats.ks_2samp(sample_s(twin), sample_s(peer)).pvalue > 0.01
    assert stats.ttest_ind([run.refused for run in twin], [run.refused for run in peer]).pvalue > 0.01
    assert requests_per_cpu_s(twin) > requests_per_cpu_s(peer)
    slower = [by_twin(2.4, seed) for seed in range(4)]
    assert stats.ks_2samp(sample_s(slower), sample_s(peer)).pvalue < 0.01, "another rate is noticed"


def test_a_closed_loop() -> None:
    """Eight clients that think 2 s, two servers."""
    simpy_s = []
    for seed in range(4):
        rng = np.random.default_rng([seed, 78])
        environment = simpy.Environment()
        servers = simpy.Resource(environment, capacity=2)
        took: list[float] = []

        def client(environment: simpy.Environment = environment, servers: simpy.Resource = servers,
                   took: list[float] = took, rng: np.random.Generator = rng) -> Iterator[Any]:  # fmt: skip
            while environment.now < DURATION_S:
                begun_s = environment.now
                with servers.request() as turn:
                    yield turn
                    yield environment.timeout(rng.exponential(1.0))
                took.append(environment.now - begun_s)
                yield environment.timeout(rng.exponential(2.0))

        for _ in range(8):
            environment.process(client())
        environment.run()
        simpy_s.append(np.array(took))
    stages = (ClosedStage(start_s=0, clients=8),)
    twin_s = []
    for seed in range(4):
        schedule = ClosedLoop(duration_s=DURATION_S, stages=stages, think_mean_s=2.0)
        engine = Engine(
            schedule, EXPONENTIAL, Processor(), [Queueing()], Clients(), max_replicas=2, photos=3, seed=seed
        )
        engine.add_replica(), engine.add_replica()
        engine.advance(DURATION_S + 1000)
        rows = engine.take_rows()
        twin_s.append(rows["done_s"] - rows["intended_s"])
    simpy_sample, twin_sample = (np.concatenate([times_s[::EVERY] for times_s in runs]) for runs in (simpy_s, twin_s))
    assert min(len(simpy_sample), len(twin_sample)) > 1000
    assert stats.ks_2samp(simpy_sample, twin_sample).pvalue > 0.01
