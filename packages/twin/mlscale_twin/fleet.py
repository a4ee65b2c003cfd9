"""Adds and removes replicas between two steps of the kernel."""

from __future__ import annotations

import math

from mlscale_twin import layout as lay
from mlscale_twin.answers import answer
from mlscale_twin.cfs import done_by
from mlscale_twin.compiled import compiled
from mlscale_twin.earliest import put
from mlscale_twin.memory import Arrays, Memory, memory_of
from mlscale_twin.router import return_sent, wake
from mlscale_twin.serving import forget_idle, rest, took_waiting


@compiled
def come(r: int, station: int, serial: int, phase_s: float, arrays: Arrays) -> None:
    """A replica becomes ready: it takes a request that waits in the station's queue, or is idle."""
    m = memory_of(arrays)
    s, replica = m.stations[station], m.replicas[r]
    replica.station, replica.serial, replica.state, replica.request = station, serial, lay.READY, -1
    replica.work_s = lay.NO_WORK
    replica.head = replica.outstanding = replica.seen = 0
    replica.phase_s, replica.period, replica.used_s, replica.cpu_s = phase_s, -1, 0.0, 0.0
    replica.seen_at_s = replica.clears_s = -math.inf
    replica.booked, replica.sent, replica.hears_s = lay.UNKNOWN, 0, math.inf
    m.ready[station, s.ready] = r
    s.ready += 1
    if s.routing == lay.POLLED_QUEUE:
        wake(m, station)
    elif s.routing == lay.SHARED_QUEUE and not took_waiting(m, r, station):
        rest(m, station, r)


@compiled
def go(r: int, arrays: Arrays) -> None:
    """Drains a replica: it takes no new requests and finishes those it has (an idle one is gone at once)."""
    m = memory_of(arrays)
    _leave(m, r)
    m.replicas[r].state = lay.ABSENT if m.replicas[r].request < 0 else lay.DRAINING


@compiled
def die(r: int, arrays: Arrays) -> None:
    """Removes a replica at once; the requests that it served and those in its own queue are lost."""
    m = memory_of(arrays)
    w, replica = m.world[0], m.replicas[r]
    s = m.stations[replica.station]
    if replica.state == lay.READY:
        _leave(m, r)
    replica.state = lay.ABSENT
    if s.routing == lay.POLLED_QUEUE:
        return_sent(m, r)
    if replica.request < 0:
        return
    if replica.work_s != lay.NO_WORK:
        put(m.ends_s, m.ends, r, math.inf)
        w.active -= m.parameters[0].cpu == lay.SHARED_CORES
    _lose(m, replica.request)
    waiting = replica.outstanding - 1 if s.routing > lay.POLLED_QUEUE else 0
    for number in range(waiting):
        _lose(m, m.queues[len(m.stations) + r, (replica.head + number) & (m.queues.shape[1] - 1)])
    s.ongoing -= 1 + waiting
    replica.request, replica.outstanding, replica.work_s = -1, 0, lay.NO_WORK


@compiled
def _lose(m: Memory, row: int) -> None:
    m.requests[row].state = lay.DONE
    if not m.requests[row].answered:
        m.requests[row].answered = 1
        answer(m, row, lay.LOST)


@compiled
def _leave(m: Memory, r: int) -> None:
    """Removes a replica from routing."""
    station = m.replicas[r].station
    s = m.stations[station]
    kept = 0
    for number in range(s.ready):
        if m.ready[station, number] != r:
            m.ready[station, kept] = m.ready[station, number]
            kept += 1
    s.ready = kept
    forget_idle(m, station, r)


@compiled
def cpu_s(r: int, arrays: Arrays) -> float:
    """CPU time that a replica has used so far, s."""
    m = memory_of(arrays)
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    if replica.request < 0 or m.requests[replica.request].state != lay.SERVED:
        return replica.cpu_s
    if p.cpu == lay.SHARED_CORES:
        return replica.cpu_s + w.virtual_s - replica.began_used_s
    quota_cores = p.quota_cores if p.cpu == lay.QUOTA else 1.0
    return replica.cpu_s + done_by(
        w.now_s, replica.began_s, replica.work_s, replica.phase_s, replica.began_period, replica.began_used_s,
        quota_cores, p.period_s,
    )  # fmt: skip
