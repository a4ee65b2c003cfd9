"""The bound of an oracle that knows the trace: the fewest replicas, on average, that meet the objective."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.fluid import random_wait, share_late
from mlscale_twin.strategy.replica import ReplicaModel

_LEVELS: Final = 200
_MOST: Final = 256


def oracle_replicas(demand: Demand, replica: ReplicaModel, limit_s: float, share_slow: float) -> float:
    """The fewest replicas on average with which at most ``share_slow`` of all requests take longer than ``limit_s``.

    The oracle has any number of replicas, at least one, ready in each second, and lets requests be slow where replicas
    save most (a Lagrange multiplier). By the approximations of `fluid`, without a backlog.
    """
    edges = np.linspace(0.0, float(demand.rates_rps.max()), _LEVELS + 1)
    rates = (edges[1:] + edges[:-1]) / 2
    seconds = np.bincount(np.clip(np.searchsorted(edges[1:], demand.rates_rps), 0, _LEVELS - 1), minlength=_LEVELS)
    most = min(_MOST, int(np.ceil(2 * rates[-1] * replica.busy_s)) + 8)
    counts = np.arange(1, most + 1, dtype=float)
    slow = np.array([[_share_slow(rate, count, replica, limit_s) for count in counts] for rate in rates])
    requests = rates * seconds

    def choice(price: float) -> npt.NDArray[np.int64]:
        """Place in ``counts`` for each rate, if a slow request costs ``price`` replica seconds."""
        places: npt.NDArray[np.int64] = np.argmin(counts + price * rates[:, None] * slow, axis=1)
        return places

    def slow_in_all(price: float) -> float:
        return float(requests @ slow[np.arange(_LEVELS), choice(price)] / requests.sum())

    low, high = 0.0, 1e6
    if slow_in_all(low) <= share_slow:
        high = low
    for _ in range(60):
        price = (low + high) / 2
        low, high = (low, price) if slow_in_all(price) <= share_slow else (price, high)
    return float(seconds @ counts[choice(high)] / seconds.sum())


def _share_slow(rate_rps: float, count: float, replica: ReplicaModel, limit_s: float) -> float:
    busy = rate_rps * replica.busy_s / count
    if busy >= 1:
        return 1.0
    servers = count if replica.pooled else 1.0
    waits, tail_s = random_wait(busy, servers, replica.busy_s, replica.arrivals_cv2, replica.service_cv2)
    service_s = replica.light_s + (replica.busy_s - replica.light_s) * busy
    left_s = limit_s - replica.outside_s - service_s
    return 1.0 if left_s <= 0 else float(share_late(left_s, service_s, replica.service_cv2, waits, tail_s))
