"""Queues with a known answer, and the twin's results for them: for notebook 09 (the tests have more of them)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mlscale.analysis import queues as theory
from mlscale.runs import OpenLoop
from mlscale.runs.schedule import Constant
from mlscale_twin.engine import Engine, Statistics
from mlscale_twin.layout import OK
from mlscale_twin.settings import Clients, Processor, Queueing, Service

Floats = npt.NDArray[np.float64]
WARM_UP_S = 2_000.0


@dataclass(frozen=True)
class Queue:
    """Poisson arrivals at ``load`` times the servers' capacity; a mean service takes 1 s. ``response_s``: the formula's
    mean response; ``distribution``: its distribution function, if there is a simple one."""

    name: str
    service: Service
    load: float
    response_s: float
    servers: int = 1
    queueing: Queueing = field(default_factory=Queueing)
    distribution: Callable[[Floats], Floats] | None = None

    def statistics(self, seed: int, requests: float) -> Statistics:
        return self._run(seed, requests, records=False).statistics()

    def responses_s(self, seed: int, requests: float) -> Floats:
        """Response times of answered requests after a warm-up."""
        rows = self._run(seed, requests, records=True).take_rows()
        kept = rows[(rows["status"] == OK) & (rows["intended_s"] >= WARM_UP_S)]
        return np.asarray(kept["done_s"] - kept["intended_s"], dtype=float)

    def _run(self, seed: int, requests: float, *, records: bool) -> Engine:
        rate = self.load * self.servers
        schedule = OpenLoop(duration_s=WARM_UP_S + requests / rate, rate=Constant(rate_rps=rate))
        engine = Engine(
            schedule, self.service, Processor(), [self.queueing], Clients(),
            max_replicas=self.servers, seed=seed, records=records, begin_s=WARM_UP_S,
        )  # fmt: skip
        for _ in range(self.servers):
            engine.add_replica()
        engine.advance(schedule.duration_s + 10_000.0)
        return engine


def known_queues() -> list[Queue]:
    """M/M/1, M/M/4, M/D/1, M/G/1 and a bounded M/M/1."""
    exponential, load = Service(1.0, "exponential"), 0.8
    two_values = Service(distribution="measured", samples_s=np.array([[[0.5, 1.5]]]))
    return [
        Queue(
            "M/M/1, load 0.8", exponential, load, theory.open_response_s(1, load, 1.0),
            distribution=lambda t: theory.mm1_distribution(t, load),
        ),
        Queue(
            "M/M/4, load 0.8", exponential, load, theory.open_response_s(4, 4 * load, 1.0), servers=4,
            distribution=lambda t: theory.mmc_distribution(t, 4, load),
        ),
        Queue(
            "M/D/1, load 0.8", Service(1.0), load, theory.mg1_response_s(load, 1.0, 1.0),
            distribution=lambda t: theory.md1_distribution(t, load),
        ),
        Queue("M/G/1, load 0.8", two_values, load, theory.mg1_response_s(load, 1.0, 1.25)),
        Queue("M/M/1/5, load 0.9", exponential, 0.9, theory.bounded_queue(0.9, 5)[1], queueing=Queueing(limit=4)),
    ]  # fmt: skip


def checked_queues(queues: list[Queue], seeds: int = 16, requests: float = 40_000) -> pd.DataFrame:
    """Formula, the twin's mean over seeds, its 99 % interval (t), and whether the formula lies within it."""
    rows = []
    for queue in queues:
        means = np.array([queue.statistics(seed, requests).mean_s[OK] for seed in range(seeds)])
        half_width = float(stats.t.ppf(0.995, seeds - 1)) * float(stats.sem(means))
        mean = float(means.mean())
        inside = abs(mean - queue.response_s) <= half_width
        means_s = {
            "formula_s": queue.response_s,
            "twin_s": mean,
            "low_s": mean - half_width,
            "high_s": mean + half_width,
        }
        rows.append({"queue": queue.name, **means_s, "inside": inside})
    return pd.DataFrame(rows)


def distributions(queues: list[Queue], requests: float = 400_000) -> dict[str, tuple[Floats, ...]]:
    """Input of `mlscale_twin.plots.twin.queue_distributions`, for queues with a known distribution."""
    by_name: dict[str, tuple[Floats, ...]] = {}
    for queue in queues:
        if queue.distribution is None:
            continue
        responses_s = queue.responses_s(1, requests)
        edges = np.linspace(0.0, 4 * queue.response_s, 81)
        counts = np.histogram(responses_s, edges)[0]
        theory = queue.distribution(edges)
        width = edges[1] - edges[0]
        shares = np.concatenate([[0.0], np.cumsum(counts) / len(responses_s)])
        by_name[queue.name] = (edges, counts / len(responses_s) / width, shares, np.diff(theory) / width, theory)
    return by_name
