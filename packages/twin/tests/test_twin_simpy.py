"""The twin against SimPy on the same model, written independently: equal in distribution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import simpy
from queues import EXPONENTIAL
from scipy import stats

from mlscale.runs import ClosedLoop
from mlscale.runs.schedule import ClosedStage
from mlscale_twin.engine import Engine
from mlscale_twin.settings import Clients, Processor, Queueing
from mlscale_twin.studies.simpy_check import EVERY, BoundedQueue, by_simpy, by_twin, compare_with_simpy

DURATION_S = 6_000.0


def test_a_bounded_queue_of_three_servers() -> None:
    comparison = compare_with_simpy()
    assert comparison["compared"] > 1000
    assert comparison["p_responses"] > 0.01
    assert comparison["p_refused"] > 0.01
    assert comparison["twin_times_as_fast"] > 1


def test_the_comparison_can_fail() -> None:
    """A different rate is detected."""
    ours = np.concatenate([by_twin(BoundedQueue(rate_rps=2.4), seed).responses_s[::EVERY] for seed in range(4)])
    theirs = np.concatenate([by_simpy(BoundedQueue(), seed).responses_s[::EVERY] for seed in range(4)])
    assert stats.ks_2samp(ours, theirs).pvalue < 0.01


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
