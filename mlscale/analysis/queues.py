"""Queues with a closed-form solution: predictions of simple theory, against which the twin is checked."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def waiting_probability(servers: int, offered: float) -> float:
    """The share of requests that wait in M/M/c (Erlang's C, 1917). ``offered``: arrival rate times mean service,
    below ``servers``."""
    top = offered**servers / math.factorial(servers) * servers / (servers - offered)
    return top / (sum(offered**k / math.factorial(k) for k in range(servers)) + top)


def open_response_s(servers: int, rate_rps: float, service_s: float) -> float:
    """Mean response of M/M/c; infinite where arrivals exceed capacity."""
    offered = rate_rps * service_s
    if offered >= servers:
        return math.inf
    return service_s + waiting_probability(servers, offered) * service_s / (servers - offered)


def closed_response_s(clients: int, servers: int, service_s: float, think_s: float) -> float:
    """Mean response of ``clients`` that think, ask one of ``servers``, and think again (machine repairman): births and
    deaths, then Little's law; all times exponential."""
    weights = [1.0]
    for n in range(clients):
        weights.append(weights[-1] * (clients - n) / think_s * service_s / min(n + 1, servers))
    share = np.array(weights) / sum(weights)
    number = np.arange(clients + 1)
    rate = float((share * np.minimum(number, servers)).sum()) / service_s
    return float((share * number).sum()) / rate


def mg1_response_s(load: float, service_s: float, squared_mean_s2: float) -> float:
    """Mean response of M/G/1 (Pollaczek and Khinchine). ``squared_mean_s2``: the mean of the squared service."""
    return service_s + load / service_s * squared_mean_s2 / (2 * (1 - load))


def bounded_queue(load: float, places: int) -> tuple[float, float]:
    """M/M/1/K with mean service 1 and K ``places``, the one in service included: share refused, and mean response of
    the others."""
    weights = load ** np.arange(places + 1)
    share = weights / weights.sum()
    number = float((share * np.arange(places + 1)).sum())
    return float(share[-1]), number / (load * (1 - float(share[-1])))


def mmc_distribution(t: Floats, servers: int, load: float) -> Floats:
    """P(response <= t) of M/M/c with mean service 1: a service, and at times an exponential wait before it."""
    waits, rate = waiting_probability(servers, load * servers), servers * (1 - load)
    if abs(rate - 1) < 1e-12:
        return np.asarray(1 - (1 + waits * t) * np.exp(-t))
    both = (rate * np.exp(-t) - np.exp(-rate * t)) / (rate - 1)
    return np.asarray(1 - (1 - waits) * np.exp(-t) - waits * both)
