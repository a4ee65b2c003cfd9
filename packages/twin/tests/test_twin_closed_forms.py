"""The twin against queues whose answer is known: interval over seeds against the formula."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from queues import EXPONENTIAL, KNOWN_S, Floats, Queue, agrees, md1_distribution, responses

from mlscale.analysis.queues import bounded_queue, closed_response_s, mg1_response_s, mmc_distribution, open_response_s
from mlscale_twin.engine import bin_edges_s
from mlscale_twin.layout import OK, REFUSED, TIMED_OUT
from mlscale_twin.settings import Clients, Queueing, Service


@pytest.mark.parametrize("load", [0.3, 0.8, 0.9])
def test_m_m_1(load: float) -> None:
    results = Queue(EXPONENTIAL, rate_rps=load, duration_s=60_000 / (1 - load)).all()
    assert agrees(responses(results), 1 / (1 - load))
    assert agrees([float(result.sd_s[OK]) for result in results], 1 / (1 - load)), "the response is exponential"


@pytest.mark.parametrize(
    ("service", "servers", "expected"),
    [
        (EXPONENTIAL, 1, lambda t: mmc_distribution(t, 1, 0.7)),
        (EXPONENTIAL, 4, lambda t: mmc_distribution(t, 4, 0.7)),
        (Service(1.0), 1, lambda t: md1_distribution(t, 0.7)),
    ],
    ids=["M/M/1", "M/M/4", "M/D/1"],
)
def test_in_distribution(service: Service, servers: int, expected: Callable[[Floats], Floats]) -> None:
    """Counts in the bins of all seeds together."""
    results = Queue(service, servers=servers, rate_rps=0.7 * servers).all()
    bins = np.sum([result.bins for result in results], axis=0)
    share, edges_s = np.cumsum(bins) / bins.sum(), bin_edges_s()[1:]
    known = (edges_s < KNOWN_S) & (edges_s != 1.0)  # M/D/1 jumps there, which is the edge of a bin
    assert np.max(np.abs(share[known] - expected(edges_s[known]))) < 0.006


@pytest.mark.parametrize(("servers", "load"), [(2, 0.8), (4, 0.7), (16, 0.9)])
def test_m_m_c(servers: int, load: float) -> None:
    results = Queue(EXPONENTIAL, servers=servers, rate_rps=load * servers).all()
    assert agrees(responses(results), open_response_s(servers, load * servers, 1.0))


def test_m_d_1() -> None:
    results = Queue(Service(1.0), rate_rps=0.8).all()
    assert agrees(responses(results), mg1_response_s(0.8, 1.0, 1.0))


def test_m_g_1() -> None:
    """Measured service times, half of them 0.5 and half 1.5 s: Pollaczek and Khinchine."""
    service = Service(distribution="measured", samples_s=np.array([[[0.5, 1.5]]]))
    results = Queue(service, rate_rps=0.8).all()
    assert agrees(responses(results), mg1_response_s(0.8, 1.0, (0.25 + 2.25) / 2))


def test_finite_queue() -> None:
    """M/M/1/K with K = 5: one in service, four wait; the sixth is refused."""
    load, places = 0.9, 5
    results = Queue(EXPONENTIAL, rate_rps=load, queueing=Queueing(limit=places - 1)).all()
    refused = [float(result.count[REFUSED] / result.count.sum()) for result in results]
    share, response_s = bounded_queue(load, places)
    assert agrees(refused, share)
    assert agrees(responses(results), response_s)


@pytest.mark.parametrize(("clients", "servers"), [(8, 1), (10, 3)])
def test_closed_loop(clients: int, servers: int) -> None:
    results = Queue(EXPONENTIAL, servers=servers, clients=clients, think_s=4.0).all()
    assert agrees(responses(results), closed_response_s(clients, servers, 1.0, 4.0))


def test_random_routing_is_independent_queues() -> None:
    results = Queue(EXPONENTIAL, servers=4, rate_rps=2.8, queueing=Queueing("random")).all()
    assert agrees(responses(results), 1 / 0.3)


def test_round_robin_is_erlang_arrivals() -> None:
    """Each of two queues sees every second arrival: E2/M/1, whose root solves s = (2 l / (2 l + 1 - s))^2."""
    rate = 0.8
    root = 0.5
    for _ in range(200):
        root = (2 * rate / (2 * rate + 1 - root)) ** 2
    results = Queue(EXPONENTIAL, servers=2, rate_rps=2 * rate, queueing=Queueing("round-robin")).all()
    assert agrees(responses(results), 1 / (1 - root))


def test_better_informed_routing_waits_less() -> None:

    def mean_wait_s(queueing: Queueing) -> float:
        return float(np.mean(responses(Queue(EXPONENTIAL, servers=8, rate_rps=7.2, queueing=queueing).all(6)))) - 1.0

    shared, least = mean_wait_s(Queueing("shared-queue")), mean_wait_s(Queueing("least-outstanding"))
    two, stale = mean_wait_s(Queueing("two-choices")), mean_wait_s(Queueing("two-choices", stale_s=20.0))
    assert shared < least < two < stale
    assert two < 0.5 * mean_wait_s(Queueing("random"))


def test_two_choices_in_the_limit() -> None:
    """Many servers: the share of queues with at least k is load^(2^k - 1) (Mitzenmacher; Vvedenskaya, 1996)."""
    load, servers = 0.8, 400
    queue = Queue(EXPONENTIAL, servers=servers, rate_rps=load * servers, queueing=Queueing("two-choices"))
    results = replace(queue, duration_s=3_000.0, warm_up_s=200.0).all(6)
    expected = sum(load ** (2**k - 1) for k in range(1, 12)) / load
    assert float(np.mean(responses(results))) == pytest.approx(expected, rel=0.02)


def test_impatient_clients_are_not_served() -> None:
    """M/M/1 with constant patience D, given-up requests dropped before they begin (Barrer, 1957): the work ahead has
    density l p0 exp((l - 1) v) below D, and l p0 exp(l D - v) above."""
    load, patience_s = 1.2, 3.0
    results = Queue(EXPONENTIAL, rate_rps=load, client=Clients(timeout_s=patience_s, cancels=True)).all()
    grown = math.exp((load - 1) * patience_s)
    below = (grown - 1) / (load - 1)
    idle = 1 / (1 + load * below + load * grown)
    in_time = 1 - math.exp(-patience_s) + load * below - math.exp(-patience_s) * (math.exp(load * patience_s) - 1)
    assert agrees([float(result.count[OK] / result.count.sum()) for result in results], idle * in_time)
    assert all(result.count[OK] + result.count[TIMED_OUT] == result.count.sum() for result in results)
