"""What to send next: one interface for both loops, so that one sender serves both.

Times are seconds since the schedule's start.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.loadgen.schedules import (
    THINKS,
    WHOLE,
    WorkerShare,
    active_intervals,
    body_order,
    first_active_s,
    send_times,
    think_times,
)
from mlscale.loadgen.shapes import Floats
from mlscale.runs.schedule import ClosedLoop, OpenLoop

# Request k of client c of a closed loop has the id c * CLIENT_STRIDE + k.
CLIENT_STRIDE: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Due:
    """One request to be sent."""

    request_id: int
    client: int
    body: int
    load_stage: int
    intended_s: float


class OpenQueue:
    """An open loop: send times are drawn beforehand and don't depend on the outcome of requests.

    Args:
        bodies: number of bodies (0: requests have no body).
    """

    def __init__(
        self,
        schedule: OpenLoop,
        seed: int,
        block: int,
        bodies: int,
        part: WorkerShare = WHOLE,
    ) -> None:
        self._chunks = send_times(schedule, seed, block, part=part)
        self._order = body_order(seed, block, 0, bodies) if bodies else np.zeros(1, dtype=np.int64)
        self._refill()

    def _refill(self) -> None:
        self._position = 0
        self._times: list[float] = []
        for sends in self._chunks:
            if len(sends.request_id):
                self._times = sends.intended_s.tolist()
                self._numbers: list[int] = sends.request_id.tolist()
                self._stages: list[int] = sends.load_stage.tolist()
                self._bodies: list[int] = self._order[sends.request_id % len(self._order)].tolist()
                return

    def next_s(self) -> float | None:
        """Intended time of the next request; None: there is none."""
        return self._times[self._position] if self._times else None

    def take(self) -> Due:
        """Remove and return the next request."""
        at = self._position
        due = Due(self._numbers[at], 0, self._bodies[at], self._stages[at], self._times[at])
        self._position += 1
        if self._position == len(self._times):
            self._refill()
        return due

    def answered(self, due: Due, done_s: float) -> None:
        """A request has ended, which changes nothing here."""


@dataclass(slots=True)
class _ClosedClient:
    """State of one client of a closed loop."""

    intervals: tuple[tuple[float, float], ...]
    order: npt.NDArray[np.int64]
    requests: int = 0
    thinks: Floats | None = None


class ClosedQueue:
    """A closed loop: each client's next request is intended a think time after its previous one ended.

    A client that joins sends at once. One that leaves starts no more requests; its open request may still end.
    """

    def __init__(self, schedule: ClosedLoop, seed: int, block: int, bodies: int, part: WorkerShare = WHOLE) -> None:
        self._schedule, self._seed, self._block = schedule, seed, block
        self._boundaries = np.array(schedule.boundaries_s)
        self._clients: dict[int, _ClosedClient] = {}
        self._heap: list[tuple[float, int]] = []
        for client in part.clients(schedule):
            intervals = active_intervals(schedule, client)
            order = body_order(seed, block, client, bodies) if bodies else np.zeros(1, dtype=np.int64)
            self._clients[client] = _ClosedClient(intervals, order)
            self._heap.append((intervals[0][0], client))
        heapq.heapify(self._heap)

    def next_s(self) -> float | None:
        """As of `OpenQueue`; None: none as yet, until a request is `answered`."""
        return self._heap[0][0] if self._heap else None

    def take(self) -> Due:
        intended_s, number = heapq.heappop(self._heap)
        client = self._clients[number]
        k = client.requests
        client.requests += 1
        stage = int(np.searchsorted(self._boundaries, intended_s, side="right")) - 1
        body = int(client.order[k % len(client.order)])
        return Due(number * CLIENT_STRIDE + k, number, body, stage, intended_s)

    def answered(self, due: Due, done_s: float) -> None:
        """A request has ended, successfully or not: its client thinks, and sends the next."""
        client = self._clients[due.client]
        think_s = self._think_s(due.client, client, due.request_id % CLIENT_STRIDE)
        next_s = first_active_s(client.intervals, done_s + think_s)
        if next_s is not None:
            heapq.heappush(self._heap, (next_s, due.client))

    def _think_s(self, number: int, client: _ClosedClient, k: int) -> float:
        if client.thinks is None or k % THINKS == 0:
            client.thinks = think_times(self._schedule, self._seed, self._block, number, k // THINKS)
        return float(client.thinks[k % THINKS])


SendQueue = OpenQueue | ClosedQueue


def make_queue(schedule: ClosedLoop | OpenLoop, seed: int, block: int, bodies: int, part: WorkerShare) -> SendQueue:
    """The queue for one worker's part of a schedule."""
    if isinstance(schedule, ClosedLoop):
        return ClosedQueue(schedule, seed, block, bodies, part)
    return OpenQueue(schedule, seed, block, bodies, part)
