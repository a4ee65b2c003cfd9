"""Adds and removes replicas between two steps of the kernel."""

from __future__ import annotations

import math

from mlscale_twin import layout
from mlscale_twin.cfs import work_done_s
from mlscale_twin.compiled import compiled, inlined
from mlscale_twin.completion import complete
from mlscale_twin.memory import Arrays, Memory, memory_of
from mlscale_twin.polling import reject_sent, wake_pollers
from mlscale_twin.serving import add_idle, dequeue, drop_if_abandoned, remove_idle, start_next_waiting, start_service
from mlscale_twin.tournament import set_time


@compiled
def add(r: int, station: int, serial: int, phase_s: float, arrays: Arrays) -> None:
    """A replica becomes ready: it takes a request that waits in the station's queue, or is idle."""
    m = memory_of(arrays)
    s, replica = m.stations[station], m.replicas[r]
    replica.station, replica.serial, replica.state, replica.request = station, serial, layout.READY, -1
    replica.work_s = layout.NO_WORK
    replica.head = replica.outstanding = replica.seen_length = 0
    replica.phase_s, replica.period, replica.used_s, replica.cpu_s = phase_s, -1, 0.0, 0.0
    replica.seen_at_s = replica.cleaned_up_s = -math.inf
    replica.cached_length, replica.newly_sent, replica.rejects_s = layout.UNKNOWN_LENGTH, 0, math.inf
    m.ready[station, s.ready] = r
    s.ready += 1
    if s.routing == layout.POLLED_QUEUE:
        wake_pollers(m, station)
    elif s.routing == layout.SHARED_QUEUE:
        if not start_next_waiting(m, r, station):
            add_idle(m, station, r)
    elif s.holds:
        _take_held(m, r, station)


@inlined
def _take_held(m: Memory, r: int, station: int) -> None:
    """A replica with its own queue receives all requests that were held; those that it has no room for are refused."""
    s, replica = m.stations[station], m.replicas[r]
    mask = m.queues.shape[1] - 1
    while s.waiting > 0:
        row = dequeue(m, station)
        if drop_if_abandoned(m, row, station):
            continue
        if replica.request < 0:
            replica.outstanding = 1
            start_service(m, r, row)
        elif replica.outstanding > s.queue_limit:
            s.ongoing -= 1
            _end_unserved(m, row, layout.REFUSED)
        else:
            m.queues[len(m.stations) + r, (replica.head + replica.outstanding - 1) & mask] = row
            replica.outstanding += 1


@compiled
def drain(r: int, arrays: Arrays) -> None:
    """Drains a replica: it takes no new requests and finishes those it has (an idle one is gone at once)."""
    m = memory_of(arrays)
    _stop_routing(m, r)
    m.replicas[r].state = layout.ABSENT if m.replicas[r].request < 0 else layout.DRAINING


@compiled
def kill(r: int, arrays: Arrays) -> None:
    """Removes a replica at once; the requests that it served and those in its own queue are lost."""
    m = memory_of(arrays)
    replica = m.replicas[r]
    s = m.stations[replica.station]
    if replica.state == layout.READY:
        _stop_routing(m, r)
    replica.state = layout.ABSENT
    if s.routing == layout.POLLED_QUEUE:
        reject_sent(m, r)
    if replica.request < 0:
        return
    if replica.work_s != layout.NO_WORK:
        set_time(m.end_times_s, m.end_owners, r, math.inf)
    _end_unserved(m, replica.request, layout.LOST)
    waiting = replica.outstanding - 1 if s.routing > layout.POLLED_QUEUE else 0
    for number in range(waiting):
        row = m.queues[len(m.stations) + r, (replica.head + number) & (m.queues.shape[1] - 1)]
        _end_unserved(m, row, layout.LOST)
    s.ongoing -= 1 + waiting
    replica.request, replica.outstanding, replica.work_s = -1, 0, layout.NO_WORK


@compiled
def _end_unserved(m: Memory, row: int, outcome: int) -> None:
    """A request ends for its client, unless that has given up before."""
    m.requests[row].state = layout.DONE
    if not m.requests[row].answered:
        m.requests[row].answered = 1
        complete(m, row, outcome)


@compiled
def _stop_routing(m: Memory, r: int) -> None:
    """Removes a replica from routing."""
    station = m.replicas[r].station
    s = m.stations[station]
    kept = 0
    for number in range(s.ready):
        if m.ready[station, number] != r:
            m.ready[station, kept] = m.ready[station, number]
            kept += 1
    s.ready = kept
    remove_idle(m, station, r)


@compiled
def cpu_s(r: int, arrays: Arrays) -> float:
    """CPU time that a replica has used so far, s."""
    m = memory_of(arrays)
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    if replica.request < 0 or m.requests[replica.request].state != layout.IN_SERVICE:
        return replica.cpu_s
    return replica.cpu_s + work_done_s(
        w.now_s, replica.began_s, replica.work_s, replica.phase_s, replica.began_period, replica.began_used_s,
        p.quota_cores, p.period_s,
    )  # fmt: skip
