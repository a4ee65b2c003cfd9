"""One simulated world: its arrays, and Python's operations on them between two steps of the kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.loadgen.schedules import THINKS, active_intervals, body_order, intended_times, think_times
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop
from mlscale_twin import kernel, layout, membership, tournament
from mlscale_twin.generator import seed_state
from mlscale_twin.memory import Memory
from mlscale_twin.settings import Clients, Processor, Queueing, Service

_INITIAL_ROWS: Final = 256
_MAX_ROWS: Final = 2**24
_OUTPUT_ROWS: Final = 8_192
# Send times drawn at a time: these, and the numbers they are computed from, fit a core's cache.
_DUE_CHUNK: Final = 16_384
# Think times drawn per client; then they repeat.
_MAX_THINKS: Final = 4096


@dataclass(frozen=True, slots=True)
class Statistics:
    """Counts and response times (s) of requests, by how they ended (`layout.OK` and following)."""

    count: npt.NDArray[np.int64]
    mean_s: npt.NDArray[np.float64]
    sd_s: npt.NDArray[np.float64]
    bins: npt.NDArray[np.int64]

    def quantile(self, share: float) -> float:
        """Time that a ``share`` of answered requests did not exceed, s, to a bin's width; NaN: none was answered."""
        total = int(self.bins.sum())
        below = np.concatenate([[0], np.cumsum(self.bins)])
        return float(np.interp(share * total, below, bin_edges_s())) if total else math.nan

    def share_above(self, limit_s: float) -> float:
        """Share of answered requests that took longer than ``limit_s``, to a bin's width; NaN: none was answered."""
        total = int(self.bins.sum())
        below = np.concatenate([[0], np.cumsum(self.bins)])
        return 1.0 - float(np.interp(limit_s, bin_edges_s(), below)) / total if total else math.nan


def bin_edges_s() -> npt.NDArray[np.float64]:
    """Edges of the bins of `Statistics.bins`, s (bins + 1,)."""
    bins = np.arange(layout.BINS + 1, dtype=np.int64) + layout.FIRST_BIN
    return (bins << layout.BIN_SHIFT).view(np.float64)


class Engine:
    """Sends the requests of a schedule through components whose replicas come and go.

    Args:
        queueing: one per component; the first component calls the second.
        max_replicas: at any time, including those that finish their last request.
        photos: number of different photos. seed, block: as in the load generator. draw: seed of service times.
        records: keep each request (`take_rows`); otherwise only statistics of requests sent from ``begin_s`` on.
        sends_s: when the requests of an open loop are sent, in place of the schedule's times.
    """

    def __init__(
        self,
        schedule: ClosedLoop | OpenLoop,
        service: Service,
        processor: Processor,
        queueing: Sequence[Queueing],
        clients: Clients,
        *,
        max_replicas: int,
        photos: int = 1,
        seed: int = 0,
        block: int = 0,
        draw: int = 0,
        records: bool = True,
        begin_s: float = 0.0,
        sends_s: npt.NDArray[np.float64] | None = None,
    ) -> None:
        self._schedule, self._seed, self._block = schedule, seed, block
        self._due: Iterator[npt.NDArray[np.float64]] = iter(())
        if sends_s is not None:
            self._due = iter([sends_s])
        elif isinstance(schedule, OpenLoop):
            self._due = intended_times(schedule, seed, block, chunk=_DUE_CHUNK)
        self._all_due = False
        self._sampled: dict[int, tuple[float, float]] = {}
        self._row_chunks: list[npt.NDArray[np.void]] = []
        self._serial = 0
        self._phases = np.random.default_rng([seed, block, _PHASE_STREAM, draw])
        self._memory = _new_memory(
            queueing, service, max_replicas, (seed, block, draw), 1 if not records else _OUTPUT_ROWS
        )
        _set_parameters(self._memory, service, processor, clients, isinstance(schedule, ClosedLoop), records, begin_s)
        self._plan_load(photos)
        self._arrays: tuple[Any, ...] = tuple(self._memory)

    @property
    def now_s(self) -> float:
        return float(self._memory.world[0]["now_s"])

    def advance(self, until_s: float) -> None:
        """Advances the clock to ``until_s``.

        Raises:
            MlscaleError: more requests are open than memory allows.
        """
        while True:
            code = kernel.advance(until_s, self._all_due, self._arrays)
            if code == layout.TIME_REACHED:
                return
            if code == layout.NEED_OUTPUT_ROWS:
                self._flush_rows()
            elif code == layout.NEED_SEND_TIMES:
                self._refill_due()
            else:
                self._grow_requests()

    def add_replica(self, component: int = 0) -> int:
        """Adds a ready replica, whose CFS periods start at a phase drawn from the seed; returns its slot.

        Raises:
            MlscaleError: no slot is free.
        """
        free = (self._memory.replicas["state"] == layout.ABSENT) & (self._memory.replicas["request"] < 0)
        if not free.any():
            raise MlscaleError(f"more than {len(free)} replicas", "simulator", "raise max_replicas")
        slot = int(free.argmax())
        period_s = float(self._memory.parameters[0]["period_s"])
        phase_s = self.now_s - float(self._phases.uniform(0, period_s))
        membership.add(slot, component, self._serial, phase_s, self._arrays)
        self._serial += 1
        return slot

    def drain_replica(self, slot: int) -> None:
        """Drains a replica: it takes no new requests and ends with its last one."""
        membership.drain(slot, self._arrays)

    def kill_replica(self, slot: int) -> None:
        """Removes a replica at once; its requests are lost."""
        membership.kill(slot, self._arrays)

    def is_present(self, slot: int) -> bool:
        """Whether the replica is ready, or finishing its requests."""
        return bool(self._memory.replicas[slot]["state"] != layout.ABSENT)

    def serial(self, slot: int) -> int:
        """The number of the replica at this slot, counted from 0 in order of arrival."""
        return int(self._memory.replicas[slot]["serial"])

    def cpu_s(self, slot: int) -> float:
        """CPU time that the replica at this slot has used so far, s."""
        return float(membership.cpu_s(slot, self._arrays))

    def ongoing(self, component: int = 0) -> int:
        """Requests queued and in service."""
        return int(self._memory.stations[component]["ongoing"])

    def sample_ongoing(self, first_s: float, period_s: float, keep: int, component: int = 0) -> None:
        """Samples `ongoing` at ``first_s`` and every ``period_s`` after it, and keeps the last ``keep``."""
        station = self._memory.stations[component]
        station["sample_first_s"] = station["sample_at_s"] = first_s
        station["sample_period_s"] = period_s
        self._sampled[component] = first_s, period_s
        if keep > self._memory.samples.shape[1]:
            self._set(samples=np.zeros((len(self._memory.stations), keep), np.int64))

    def last_samples(self, number: int, component: int = 0) -> list[tuple[float, int]]:
        """Up to ``number`` of the last samples, oldest first: time, s, and `ongoing`."""
        taken, ring = int(self._memory.stations[component]["samples"]), self._memory.samples[component].tolist()
        first_s, period_s = self._sampled[component]
        last = range(max(0, taken - number), taken)
        return [(first_s + index * period_s, ring[index % len(ring)]) for index in last]

    def ongoing_integral(self, component: int = 0) -> float:
        """`ongoing` integrated over time until now, request seconds."""
        return float(self._memory.stations[component]["ongoing_integral"])

    def take_rows(self) -> npt.NDArray[np.void]:
        """Requests that ended since the last call, in order of their end (`layout.ROWS`)."""
        self._flush_rows()
        rows = np.concatenate(self._row_chunks)
        self._row_chunks.clear()
        return rows

    def statistics(self) -> Statistics:
        totals = self._memory.totals
        count = totals["count"].copy()
        with np.errstate(invalid="ignore"):
            mean = totals["sum_s"] / count
            variance = (totals["squares_s2"] - count * mean**2) / np.maximum(count - 1, 1)
        return Statistics(count, mean, np.sqrt(np.maximum(variance, 0)), self._memory.bins.copy())

    def _flush_rows(self) -> None:
        world = self._memory.world
        self._row_chunks.append(self._memory.rows[: world[0]["rows"]].copy())
        world["rows"] = 0

    def _refill_due(self) -> None:
        due = next(self._due, None)
        if due is None:
            self._all_due = True
            return
        self._memory.world["due_index"] = 0
        self._set(due_s=np.ascontiguousarray(due))

    def _grow_requests(self) -> None:
        """Doubles the table of open requests; ring entries are remapped, since rows move."""
        old = self._memory
        world, size = old.world[0], len(old.requests)
        if 2 * size > _MAX_ROWS:
            raise MlscaleError(
                f"{size} requests are open at {self.now_s:.0f} s",
                "simulator",
                "arrivals exceed the capacity: limit the queue, set a timeout, or add replicas",
            )
        numbers = np.arange(world["oldest"], world["sequence"])
        requests = np.zeros(2 * size, layout.REQUESTS)
        requests[numbers & (2 * size - 1)] = old.requests[numbers & (size - 1)]

        def remap(rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
            number = world["oldest"] + ((rows - world["oldest"]) & (size - 1))
            return np.where(rows < 0, rows, number & (2 * size - 1))

        queues = np.zeros((len(old.queues), 2 * size), np.int64)
        heads = np.concatenate([old.stations["head"], old.replicas["head"]])
        for index, head in enumerate(heads[: len(queues)]):
            queues[index, :size] = remap(np.roll(old.queues[index], -int(head)))
        old.stations["head"] = 0
        old.replicas["head"] = 0
        old.replicas["request"] = remap(old.replicas["request"])
        old.pollers["row"] = remap(old.pollers["row"])
        self._set(requests=requests, queues=queues)

    def _set(self, **arrays: npt.NDArray[Any]) -> None:
        self._memory = self._memory._replace(**arrays)
        self._arrays = tuple(self._memory)

    def _plan_load(self, photos: int) -> None:
        """Who sends what, and when, as the load generator plans it."""
        schedule, seed, block = self._schedule, self._seed, self._block
        if isinstance(schedule, OpenLoop):
            self._memory = self._memory._replace(photo_order=body_order(seed, block, 0, photos)[None, :])
            return
        number = max(stage.clients for stage in schedule.stages)
        intervals = [active_intervals(schedule, client) for client in range(number)]
        shape = max(1, number), max((len(spans) for spans in intervals), default=1)
        from_s, to_s = np.full(shape, -math.inf), np.full(shape, -math.inf)
        for client, spans in enumerate(intervals):
            from_s[client, : len(spans)], to_s[client, : len(spans)] = np.array(spans).T
        order = np.array([body_order(seed, block, client, photos) for client in range(number)])
        starts = [spans[0][0] for spans in intervals] or [math.inf]
        send_times_s, send_owners = tournament.build(starts)
        self._memory = self._memory._replace(
            send_times_s=send_times_s,
            send_owners=send_owners,
            photo_order=order.reshape(number, photos).astype(np.int64),
            think_times_s=_thinks(schedule, seed, block, number),
            active_from_s=from_s,
            active_to_s=to_s,
            sent_counts=np.zeros(max(1, number), np.int64),
        )


# Stream of random numbers for the phases of CFS periods.
_PHASE_STREAM: Final = 7


def _thinks(schedule: ClosedLoop, seed: int, block: int, clients: int) -> npt.NDArray[np.float64]:
    if schedule.think == "constant" or schedule.think_mean_s == 0:
        return np.full((max(1, clients), 1), schedule.think_mean_s)
    expected = schedule.duration_s / schedule.think_mean_s
    chunks = min(math.ceil(2 * expected / THINKS) + 1, _MAX_THINKS // THINKS)
    return np.array(
        [
            np.concatenate([think_times(schedule, seed, block, client, chunk) for chunk in range(chunks)])
            for client in range(clients)
        ]
    ).reshape(clients, -1)


def _new_memory(
    queueing: Sequence[Queueing], service: Service, replicas: int, seed: Sequence[int], rows: int
) -> Memory:
    stations = np.zeros(len(queueing), layout.STATIONS)
    for index, queue in enumerate(queueing):
        stations[index]["routing"], stations[index]["queue_limit"] = queue.kind, queue.limit
        stations[index]["stale_s"], stations[index]["holds"] = queue.stale_s, queue.holds
        stations[index]["sample_at_s"] = math.inf
        for name in ("initial_backoff_s", "backoff_multiplier", "max_backoff_s", "pollers_per_replica"):
            stations[index][name] = getattr(queue.polling, name)
        for name in ("ahead_cpu_s", "after_cpu_s", "poll_cpu_s", "waits_s"):
            stations[index][name] = (getattr(service, name) or (0.0,) * len(queueing))[index]
    own = any(queue.routing != "shared-queue" for queue in queueing)
    ring = 1 << max(1, (replicas - 1).bit_length())
    absent = np.zeros(replicas, layout.REPLICAS)
    absent["request"], absent["work_s"], absent["rejects_s"] = -1, layout.NO_WORK, math.inf
    none = np.zeros(0)
    (end_times_s, end_owners), (send_times_s, send_owners) = tournament.empty(replicas), tournament.empty(1)
    samples = service.samples_s if service.samples_s is not None else np.zeros((1, 1, 1))
    calls = service.calls if service.calls is not None else np.zeros((1, 1), np.int64)
    return Memory(
        world=np.zeros(1, layout.WORLD),
        parameters=np.zeros(1, layout.PARAMETERS),
        stations=stations,
        replicas=absent,
        requests=np.zeros(_INITIAL_ROWS, layout.REQUESTS),
        queues=np.zeros((len(queueing) + (replicas if own else 0), _INITIAL_ROWS), np.int64),
        idle=np.zeros((len(queueing), ring), np.int64),
        ready=np.zeros((len(queueing), replicas), np.int64),
        pollers=np.zeros((len(queueing), layout.MAX_POLLERS), layout.POLLERS),
        pending_poll_s=np.zeros(replicas),
        end_times_s=end_times_s,
        end_owners=end_owners,
        send_times_s=send_times_s,
        send_owners=send_owners,
        due_s=none.copy(),
        photo_order=np.zeros((1, 1), np.int64),
        think_times_s=np.zeros((1, 1)),
        active_from_s=np.zeros((1, 1)),
        active_to_s=np.zeros((1, 1)),
        sent_counts=np.zeros(1, np.int64),
        work_samples_s=np.ascontiguousarray(samples, np.float64),
        call_counts=np.ascontiguousarray(calls, np.int64),
        rows=np.zeros(max(2, rows), layout.ROWS),
        totals=np.zeros(4, layout.TOTALS),
        bins=np.zeros(layout.BINS, np.int64),
        rng_state=seed_state(*seed),
        samples=np.zeros((len(queueing), 1), np.int64),
    )


def _set_parameters(
    memory: Memory,
    service: Service,
    processor: Processor,
    clients: Clients,
    closed: bool,
    records: bool,
    begin_s: float,
) -> None:
    p = memory.parameters
    p["service"], p["mean_s"] = service.kind, service.mean_s
    p["quota_cores"], p["period_s"] = processor.quota_cores, processor.period_s
    p["timeout_s"], p["cancels"], p["overhead_s"] = clients.timeout_s, clients.cancels, clients.overhead_s
    p["closed"], p["records"], p["begin_s"] = closed, records, begin_s
    p["polled"] = (memory.stations["routing"] == layout.POLLED_QUEUE).any()
