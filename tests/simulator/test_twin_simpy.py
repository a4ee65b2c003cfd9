"""The twin against SimPy on the same model, written independently: equal in distribution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import simpy
from queues import EXPONENTIAL
from scipy import stats

from mlscale.runs import ClosedLoop, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant
from mlscale.simulator.engine import Engine
from mlscale.simulator.layout import OK, REFUSED
from mlscale.simulator.settings import Clients, Processor, Queueing

DURATION_S, SERVERS, PLACES, RATE = 6_000.0, 3, 4, 3.2
EVERY = 40
"""One request in so many is compared, so that those compared hardly depend on one another."""


def by_simpy(seed: int) -> tuple[np.ndarray[Any, Any], float]:
    """Responses in the order of sending, and the share refused: three servers, four places to wait."""
    rng = np.random.default_rng([seed, 77])
    environment = simpy.Environment()
    servers = simpy.Resource(environment, capacity=SERVERS)
    took: dict[int, float] = {}
    refused = 0

    def request(number: int) -> Iterator[Any]:
        nonlocal refused
        begun_s = environment.now
        if len(servers.queue) >= PLACES:
            refused += 1
            return
        with servers.request() as turn:
            yield turn
            yield environment.timeout(rng.exponential(1.0))
        took[number] = environment.now - begun_s

    def source() -> Iterator[Any]:
        number = 0
        while environment.now < DURATION_S:
            yield environment.timeout(rng.exponential(1 / RATE))
            environment.process(request(number))
            number += 1

    environment.process(source())
    environment.run()
    return np.array([took[number] for number in sorted(took)]), refused / (refused + len(took))


def by_twin(seed: int) -> tuple[np.ndarray[Any, Any], float]:
    schedule = OpenLoop(duration_s=DURATION_S, rate=Constant(rate_rps=RATE))
    engine = Engine(
        schedule, EXPONENTIAL, Processor(), [Queueing(limit=PLACES)], Clients(), most_replicas=SERVERS, seed=seed
    )
    for _ in range(SERVERS):
        engine.come()
    engine.advance(DURATION_S + 1000)
    rows = engine.take_rows()
    rows = rows[np.argsort(rows["number"])]
    answered = rows[rows["status"] == OK]
    return answered["done_s"] - answered["intended_s"], float(np.mean(rows["status"] == REFUSED))


def test_a_bounded_queue_of_three_servers() -> None:
    theirs, ours = [by_simpy(seed) for seed in range(4)], [by_twin(seed) for seed in range(4)]
    one = np.concatenate([took[::EVERY] for took, _ in theirs])
    other = np.concatenate([took[::EVERY] for took, _ in ours])
    assert min(len(one), len(other)) > 1000
    assert stats.ks_2samp(one, other).pvalue > 0.01
    assert stats.ttest_ind([share for _, share in theirs], [share for _, share in ours]).pvalue > 0.01
    slower = other * 1.15
    assert stats.ks_2samp(one, slower).pvalue < 0.01, "the comparison can fail"


def test_a_closed_loop() -> None:
    """Eight clients that think 2 s, two servers."""
    found = []
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
        found.append(np.array(took))
    stages = (ClosedStage(start_s=0, clients=8),)
    ours = []
    for seed in range(4):
        schedule = ClosedLoop(duration_s=DURATION_S, stages=stages, think_mean_s=2.0)
        engine = Engine(
            schedule, EXPONENTIAL, Processor(), [Queueing()], Clients(), most_replicas=2, photos=3, seed=seed
        )
        engine.come(), engine.come()
        engine.advance(DURATION_S + 1000)
        rows = engine.take_rows()
        ours.append(rows["done_s"] - rows["intended_s"])
    one, other = np.concatenate([each[::EVERY] for each in found]), np.concatenate([each[::EVERY] for each in ours])
    assert min(len(one), len(other)) > 1000
    assert stats.ks_2samp(one, other).pvalue > 0.01
