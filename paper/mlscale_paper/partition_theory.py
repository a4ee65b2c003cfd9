"""What queueing theory expects of an application in one component or in two, at the same total CPU (METHOD §4).

Requests arrive at random, wait in one queue for each component and are served by whichever of its replicas is free
(M/M/c). A replica of q cores serves what costs s CPU seconds in s/q on average. Three ways: *whole*, c replicas do all;
*overlapping*, a front's replica takes the next request while the others work on the last one; *blocking*, it waits for
them, so that it is held for its own work and for the other component's response. What the theory leaves out: hops cost,
quotas come in periods (METHOD §2), service times are no exponentials.
"""

from __future__ import annotations

import math
from typing import Literal

import pandas as pd

Way = Literal["whole", "overlapping", "blocking"]


def waiting_share(offered: float, servers: int) -> float:
    """Erlang's C: the probability that a request has to wait, for ``offered`` load (rate x service time); 1 where the
    servers can't keep up."""
    if offered >= servers:
        return 1.0
    term = total = 1.0
    for number in range(1, servers):
        term *= offered / number
        total += term
    last = term * offered / servers * servers / (servers - offered)
    return last / (total + last)


def response_s(rate_rps: float, service_s: float, servers: int) -> float:
    """Mean response of M/M/c, s; infinite where the servers can't keep up."""
    offered = rate_rps * service_s
    if offered >= servers:
        return math.inf
    return service_s + waiting_share(offered, servers) * service_s / (servers - offered)


def expected_response_s(way: Way, rate_rps: float, services_s: tuple[float, float], replicas: tuple[int, int]) -> float:
    """Mean response, s, of (front, other), whose requests take ``services_s`` in service and who have ``replicas``."""
    (front_s, other_s), (fronts, others) = services_s, replicas
    if way == "whole":
        return response_s(rate_rps, front_s + other_s, fronts + others)
    other = response_s(rate_rps, other_s, others)
    if way == "overlapping":
        return response_s(rate_rps, front_s, fronts) + other
    # No more calls are ever open than there are fronts, so the other's queue can't grow without bounds.
    held = min(other, other_s * max(1.0, fronts / others))
    return response_s(rate_rps, front_s + held, fronts)


def capacity_rps(way: Way, services_s: tuple[float, float], replicas: tuple[int, int]) -> float:
    """Requests a second that can be served at most."""
    (front_s, other_s), (fronts, others) = services_s, replicas
    if way == "whole":
        return (fronts + others) / (front_s + other_s)
    if way == "overlapping":
        return min(fronts / front_s, others / other_s)
    return min(fronts / (front_s + other_s), others / other_s)


def expectations(services_s: tuple[float, float], total: int, light_rps: float) -> pd.DataFrame:
    """Every way to divide ``total`` replicas: way, fronts, others, capacity_rps, and response_s at ``light_rps``.

    For the whole application, fronts is ``total`` and others 0.
    """
    divided = [(fronts, total - fronts) for fronts in range(1, total)]
    rows: list[tuple[Way, int, int, tuple[int, int]]] = [("whole", total, 0, (total - 1, 1))]
    ways: tuple[Way, ...] = ("overlapping", "blocking")
    rows += [(way, *replicas, replicas) for way in ways for replicas in divided]
    return pd.DataFrame(
        [
            {
                "way": way,
                "fronts": fronts,
                "others": others,
                "capacity_rps": capacity_rps(way, services_s, replicas),
                "response_s": expected_response_s(way, light_rps, services_s, replicas),
            }
            for way, fronts, others, replicas in rows
        ]
    )
