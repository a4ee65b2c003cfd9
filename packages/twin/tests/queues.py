"""Queues whose behaviour is known in closed form, and the twin's answers to them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from scipy import stats

from mlscale.runs import ClosedLoop, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant
from mlscale_twin.engine import Engine, Statistics
from mlscale_twin.layout import OK
from mlscale_twin.settings import Clients, Processor, Queueing, Service

Floats = npt.NDArray[np.float64]
SEEDS = 24
# Longest time at which `md1_distribution` is exact enough, mean services.
KNOWN_S = 15.0
EXPONENTIAL = Service(1.0, "exponential")


@dataclass(frozen=True)
class Queue:
    """Replicas under a Poisson process of ``rate_rps``, or under closed-loop ``clients``."""

    service: Service
    servers: int = 1
    rate_rps: float = 0.0
    clients: int = 0
    think_s: float = 0.0
    queueing: Queueing = field(default_factory=Queueing)
    client: Clients = field(default_factory=Clients)
    duration_s: float = 60_000.0
    warm_up_s: float = 2_000.0

    def statistics(self, seed: int) -> Statistics:
        schedule: ClosedLoop | OpenLoop
        if self.clients:
            stages = (ClosedStage(start_s=0, clients=self.clients),)
            schedule = ClosedLoop(duration_s=self.duration_s, stages=stages, think_mean_s=self.think_s)
        else:
            schedule = OpenLoop(duration_s=self.duration_s, rate=Constant(rate_rps=self.rate_rps))
        engine = Engine(
            schedule, self.service, Processor(), [self.queueing], self.client,
            max_replicas=self.servers, seed=seed, records=False, begin_s=self.warm_up_s,
        )  # fmt: skip
        for _ in range(self.servers):
            engine.add_replica()
        engine.advance(self.duration_s + 10_000.0)
        return engine.statistics()

    def all(self, seeds: int = SEEDS) -> list[Statistics]:
        return [self.statistics(seed) for seed in range(seeds)]


def agrees(values: list[float], expected: float, level: float = 0.999) -> bool:
    """Whether the expected value lies in the interval of the seeds' means (t, a thousand to one)."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half_width = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * error
    assert half_width < 0.05 * abs(expected), f"too few requests to tell: {mean:g} +- {half_width:g}"
    return abs(mean - expected) <= half_width


def responses(results: list[Statistics]) -> list[float]:
    return [float(result.mean_s[OK]) for result in results]


def md1_distribution(t: Floats, load: float) -> Floats:
    """P(response <= t) of M/D/1 with service 1 (Erlang, 1909). Its alternating sum holds to about 15 services."""

    def waited(x: float) -> float:
        terms = (math.exp(load * (x - k)) * (-load * (x - k)) ** k / math.factorial(k) for k in range(int(x) + 1))
        return (1 - load) * math.fsum(terms) if x >= 0 else 0.0

    return np.array([min(1.0, waited(float(moment) - 1)) for moment in t])
