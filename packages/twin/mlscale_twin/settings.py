"""The engine's settings: service times, processors, queues, clients. Profiles hold each platform's values."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from mlscale_twin import layout

Routing = Literal["shared-queue", "polled-queue", "random", "round-robin", "least-outstanding", "two-choices"]
_ROUTINGS: Final[tuple[Routing, ...]] = (
    "shared-queue",
    "polled-queue",
    "random",
    "round-robin",
    "least-outstanding",
    "two-choices",
)


@dataclass(frozen=True, slots=True)
class Service:
    """Work of one service, CPU s: constant, exponentially distributed, or measured.

    ``samples_s`` (components, photos, n): measured work by component and photo, equally likely. ``calls`` (photos, m):
    how often a request calls the second component, equally likely; the work between two calls is one service of the
    front component. Per component: ``ahead_cpu_s``, ``after_cpu_s``: a replica's work on a request before its service
    clock starts, and after its answer is sent; ``poll_cpu_s``: cost to a busy replica of being polled, or of rejecting
    a request; ``waits_s``: for which a request keeps its replica without using CPU.
    """

    mean_s: float = 0.0
    distribution: Literal["fixed", "exponential", "measured"] = "fixed"
    samples_s: npt.NDArray[np.float64] | None = None
    calls: npt.NDArray[np.int64] | None = None
    ahead_cpu_s: tuple[float, ...] = ()
    after_cpu_s: tuple[float, ...] = ()
    poll_cpu_s: tuple[float, ...] = ()
    waits_s: tuple[float, ...] = ()

    @property
    def kind(self) -> int:
        kinds = {"fixed": layout.FIXED, "exponential": layout.EXPONENTIAL, "measured": layout.MEASURED}
        return kinds[self.distribution]


@dataclass(frozen=True, slots=True)
class Processor:
    """A CPU quota per replica, in CFS periods; from 1 on it limits nothing, since a replica has one thread."""

    quota_cores: float = math.inf
    period_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Polling:
    """A queue whose pollers, at most ``pollers_per_replica`` per ready replica, each poll two random replicas. A poller
    that finds none free polls again at once, then with exponential backoff; one that finds a free replica sends it the
    request that has waited longest. Source: Ray Serve, serve/_private/request_router
    (`_fulfill_pending_requests`, `_choose_replicas_with_backoff`) and serve/_private/constants.py."""

    initial_backoff_s: float = 0.025
    backoff_multiplier: float = 2.0
    max_backoff_s: float = 0.5
    pollers_per_replica: int = 2


NO_LIMIT: Final = 2**40


@dataclass(frozen=True, slots=True)
class Queueing:
    """One component's queue. ``limit``: how many requests may wait (per replica, if each has its own queue).
    ``stale_s``: maximum age of the queue lengths that two-choices routing compares. ``polling``: of a polled queue.
    ``holds``: whether requests wait for the first replica where each has its own queue; else they are refused."""

    routing: Routing = "shared-queue"
    limit: int = NO_LIMIT
    stale_s: float = 0.0
    polling: Polling = Polling()
    holds: bool = False

    @property
    def kind(self) -> int:
        return _ROUTINGS.index(self.routing)


@dataclass(frozen=True, slots=True)
class Clients:
    """``timeout_s``: of a request; ``cancels``: the server then drops it if it still waits. ``overhead_s``: per answer,
    outside queue and service."""

    timeout_s: float = math.inf
    cancels: bool = False
    overhead_s: float = 0.0
