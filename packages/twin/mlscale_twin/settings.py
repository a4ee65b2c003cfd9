"""Settings of a simulated world: requests, queues, processors. The engine's input; profiles say which platform has
which."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from mlscale_twin import layout as lay

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
    """Work of one service, CPU s: the mean alone, exponentially distributed, or measured.

    ``samples_s`` (components, photos, n): measured work by component and photo, drawn evenly. ``calls`` (photos, m):
    how often a request calls the second component, drawn evenly; with calls, each stretch of work between two of them
    is one service of the front component. Of each component: ``ahead_cpu_s``, ``after_cpu_s``: a replica's work on a
    request before the clock of its service starts, and after its answer is out; ``ask_cpu_s``: what it costs one at
    work to be asked by a polled queue, or to reject a request of its.
    """

    mean_s: float = 0.0
    distribution: Literal["fixed", "exponential", "measured"] = "fixed"
    samples_s: npt.NDArray[np.float64] | None = None
    calls: npt.NDArray[np.int64] | None = None
    ahead_cpu_s: tuple[float, ...] = ()
    after_cpu_s: tuple[float, ...] = ()
    ask_cpu_s: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.distribution == "measured":
            if self.samples_s is None or self.samples_s.ndim != 3 or not self.samples_s.size:
                raise ValueError("measured service times need samples_s (components, photos, n)")
        elif not self.mean_s > 0:
            raise ValueError(f"a mean service time of {self.mean_s:g} s")

    @property
    def kind(self) -> int:
        return {"fixed": lay.FIXED, "exponential": lay.EXPONENTIAL, "measured": lay.MEASURED}[self.distribution]


@dataclass(frozen=True, slots=True)
class Processor:
    """How work becomes time: instantly (``cores`` infinite, no quota); under a quota of each replica, in CFS periods;
    or on ``cores`` that all replicas share evenly."""

    quota_cores: float = math.inf
    period_s: float = 0.1
    cores: float = math.inf

    def __post_init__(self) -> None:
        if min(self.quota_cores, self.period_s, self.cores) <= 0:
            raise ValueError(f"quota, period and cores must be positive: {self}")
        if math.isfinite(self.quota_cores) and math.isfinite(self.cores):
            raise ValueError("a quota and shared cores together are not simulated")

    @property
    def kind(self) -> int:
        if math.isfinite(self.cores):
            return lay.SHARED_CORES
        return lay.QUOTA if self.quota_cores < 1 else lay.PLAIN


@dataclass(frozen=True, slots=True)
class Polling:
    """A queue that asks its replicas, two at random at a time, on behalf of the requests in it: at most ``askers_each``
    for each replica that is ready. Who finds none free asks again at once, then after a pause that grows up to the
    longest; who finds one sends the request that has waited longest. Source: Ray Serve, serve/_private/request_router
    (`_fulfill_pending_requests`, `_choose_replicas_with_backoff`) and serve/_private/constants.py."""

    first_pause_s: float = 0.025
    growth: float = 2.0
    longest_pause_s: float = 0.5
    askers_each: int = 2

    def __post_init__(self) -> None:
        if not 0 < self.first_pause_s <= self.longest_pause_s or self.growth < 1 or self.askers_each < 1:
            raise ValueError(f"pauses must be positive and not shrink, askers one or more: {self}")


# As a limit: none.
ANY_NUMBER: Final = 2**40


@dataclass(frozen=True, slots=True)
class Queueing:
    """One component's queue. ``limit``: how many requests may wait (in each replica, where each has its own queue).
    ``stale_s``: how old the lengths may be that two choices compare. ``polling``: how a polled queue asks."""

    routing: Routing = "shared-queue"
    limit: int = ANY_NUMBER
    stale_s: float = 0.0
    polling: Polling = Polling()

    @property
    def kind(self) -> int:
        return _ROUTINGS.index(self.routing)


@dataclass(frozen=True, slots=True)
class Clients:
    """``timeout_s``: after which they give up; ``cancels``: the server then drops a waiting request. ``overhead_s``:
    time of each answer outside queue and service."""

    timeout_s: float = math.inf
    cancels: bool = False
    overhead_s: float = 0.0
