"""Queueing formulas against closed forms and a simulation."""

from __future__ import annotations

import heapq

import numpy as np
import pytest

from mlscale.analysis.queues import open_response_s
from mlscale_paper.partition_theory import capacity_rps, expectations, expected_response_s


def _simulated(rate: float, service: float, servers: int, count: int = 200_000) -> float:
    rng = np.random.default_rng(7)
    arrivals = np.cumsum(rng.exponential(1 / rate, count))
    free = [0.0] * servers
    total = 0.0
    for arrival, work in zip(arrivals, rng.exponential(service, count), strict=True):
        end = max(arrival, heapq.heappop(free)) + work
        heapq.heappush(free, end)
        total += end - arrival
    return total / count


@pytest.mark.parametrize(("rate", "servers"), [(5.0, 1), (15.0, 2), (30.0, 4)])
def test_the_mean_response_is_that_of_a_simulation(rate: float, servers: int) -> None:
    assert open_response_s(servers, rate, 0.1) == pytest.approx(_simulated(rate, 0.1, servers), rel=0.03)


def test_a_split_never_serves_more_than_the_whole() -> None:
    services = (0.06, 0.09)
    whole = capacity_rps("whole", services, (2, 2))
    for total in (2, 3, 4, 8):
        table = expectations(services, total, light_rps=0.01)
        assert table["capacity_rps"].max() == pytest.approx(total / sum(services))
        assert len(table) == 1 + 2 * (total - 1)
    assert capacity_rps("overlapping", (0.06, 0.09), (2, 3)) == pytest.approx(capacity_rps("whole", services, (2, 3)))
    assert capacity_rps("blocking", services, (2, 2)) == pytest.approx(whole / 2)


def test_at_rest_all_ways_take_the_same_time_and_under_load_pooling_wins() -> None:
    services = (0.05, 0.05)
    at_rest = [expected_response_s(way, 1e-6, services, (2, 2)) for way in ("whole", "overlapping", "blocking")]
    assert at_rest == pytest.approx([0.1] * 3, rel=1e-3)
    loaded = [expected_response_s(way, 18.0, services, (2, 2)) for way in ("whole", "overlapping", "blocking")]
    assert loaded[0] < loaded[1] < loaded[2]
