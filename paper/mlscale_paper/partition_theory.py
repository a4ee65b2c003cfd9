"""Queueing theory's prediction for an application in one component or in two, at the same total CPU (METHOD §4).

Requests arrive at random, wait in one queue per component and are served by any free replica of it (M/M/c). A replica
of q cores serves a request of s CPU seconds in s/q on average. Three ways: *whole*, c replicas do everything;
*overlapping*, a replica of the front takes the next request while the others work on the previous one; *blocking*, it
waits for them, so it is busy for its own work and for the other component's response. The theory ignores the CPU of
hops, quota periods (METHOD §2) and non-exponential service times.
"""

from __future__ import annotations

from typing import Literal

import pandas as pd

from mlscale.analysis.queues import open_response_s
from mlscale_paper.protocol import photo_cpu_s, published_protocol

Way = Literal["whole", "overlapping", "blocking"]


def expected_response_s(
    way: Way,
    rate_rps: float,
    services_s: tuple[float, float],
    replicas: tuple[int, int],
    whole_s: float | None = None,
) -> float:
    """Mean response, s, of (front, other), whose requests take ``services_s`` in service and who have ``replicas``.

    Args:
        whole_s: a request's time in service of the whole application, s, which does once what both components do, such
            as opening a photo; None: the sum of both.
    """
    (front_s, other_s), (fronts, others) = services_s, replicas
    if way == "whole":
        return open_response_s(fronts + others, rate_rps, _whole_s(services_s, whole_s))
    called_s = open_response_s(others, rate_rps, other_s)
    if way == "overlapping":
        return open_response_s(fronts, rate_rps, front_s) + called_s
    # There are never more open calls than fronts, so the queue behind them is bounded.
    held_s = min(called_s, other_s * max(1.0, fronts / others))
    return open_response_s(fronts, rate_rps, front_s + held_s)


def capacity_rps(
    way: Way, services_s: tuple[float, float], replicas: tuple[int, int], whole_s: float | None = None
) -> float:
    """The highest rate that can be served, requests/s; arguments as of `expected_response_s`."""
    (front_s, other_s), (fronts, others) = services_s, replicas
    if way == "whole":
        return (fronts + others) / _whole_s(services_s, whole_s)
    if way == "overlapping":
        return min(fronts / front_s, others / other_s)
    return min(fronts / (front_s + other_s), others / other_s)


def expectations(
    services_s: tuple[float, float], total: int, light_rps: float, whole_s: float | None = None
) -> pd.DataFrame:
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
                "capacity_rps": capacity_rps(way, services_s, replicas, whole_s),
                "response_s": expected_response_s(way, light_rps, services_s, replicas, whole_s),
            }
            for way, fronts, others, replicas in rows
        ]
    )


def best_case() -> tuple[tuple[float, float], float]:
    """The best that can happen to a split: both components take the same time, and nothing is done twice. Both times in
    service, and that of the whole, s, for a photo of the published protocol's load under its quota."""
    whole_s = photo_cpu_s() / published_protocol().cpu_cores
    return (whole_s / 2, whole_s / 2), whole_s


def _whole_s(services_s: tuple[float, float], whole_s: float | None) -> float:
    return sum(services_s) if whole_s is None else whole_s
