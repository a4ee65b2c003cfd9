"""Replicas at work: requests that come to a component are routed, queued, served."""

from __future__ import annotations

from typing import Final

from mlscale.simulator import layout as lay
from mlscale.simulator.cfs import finish
from mlscale.simulator.compiled import inlined
from mlscale.simulator.first import TOP, put
from mlscale.simulator.generator import below, exponential
from mlscale.simulator.memory import Memory

FRONT: Final = 0


@inlined
def join(m: Memory, row: int, station: int) -> bool:
    """A request comes to a component: served at once, queued, or, where the queue is full, neither (False)."""
    s, q = m.stations[station], m.requests[row]
    q.station = station
    q.queued_s = m.world[0].now_s
    s.arrived += 1
    if s.routing == lay.SHARED_QUEUE:
        r = _idle_one(m, station)
        if r >= 0:
            s.ongoing += 1
            begin(m, r, row)
            return True
        if s.waiting >= s.queue_limit:
            return False
        _wait(m, row, station)
    elif s.routing == lay.POLLED_QUEUE:
        if s.waiting >= s.queue_limit:
            return False
        _wait(m, row, station)
        s.ongoing += 1
        ask_more(m, station)
        return True
    else:
        r = _chosen(m, station) if s.ready > 0 else -1
        if r < 0 or m.replicas[r].outstanding > s.queue_limit:
            return False
        served = m.replicas[r]
        served.outstanding += 1
        if served.request < 0:
            s.ongoing += 1
            begin(m, r, row)
            return True
        place = len(m.stations) + r
        m.queues[place, (served.head + served.outstanding - 2) & (m.queues.shape[1] - 1)] = row
        q.state = lay.WAITING
    s.ongoing += 1
    return True


@inlined
def _wait(m: Memory, row: int, station: int) -> None:
    """Into the station's queue."""
    s = m.stations[station]
    m.queues[station, (s.head + s.waiting) & (m.queues.shape[1] - 1)] = row
    s.waiting += 1
    m.requests[row].state = lay.WAITING


@inlined
def _idle_one(m: Memory, station: int) -> int:
    """The replica that has been idle longest, or -1."""
    s = m.stations[station]
    if s.idle == 0:
        return -1
    r = m.idle[station, s.idle_head]
    s.idle_head = (s.idle_head + 1) & (m.idle.shape[1] - 1)
    s.idle -= 1
    return r


@inlined
def _chosen(m: Memory, station: int) -> int:
    """Which replica a request goes to, where each has a queue of its own."""
    s = m.stations[station]
    if s.routing == lay.ROUND_ROBIN:
        s.turn = (s.turn + 1) % s.ready
        return m.ready[station, s.turn]
    first = below(m.words, s.ready)
    if s.routing == lay.RANDOM:
        return m.ready[station, first]
    if s.routing == lay.TWO_CHOICES:
        second = below(m.words, s.ready)
        a, b = m.ready[station, first], m.ready[station, second]
        r = a if _seen(m, a, s.stale_s) <= _seen(m, b, s.stale_s) else b
        m.replicas[r].seen += 1
        return r
    best = m.ready[station, first]  # ties go to a random one
    for number in range(1, s.ready):
        r = m.ready[station, (first + number) % s.ready]
        if m.replicas[r].outstanding < m.replicas[best].outstanding:
            best = r
    return best


@inlined
def _seen(m: Memory, r: int, stale_s: float) -> int:
    """The replica's length as last looked at, no longer ago than ``stale_s``."""
    replica = m.replicas[r]
    if m.world[0].now_s - replica.seen_at_s >= stale_s:
        replica.seen = replica.outstanding
        replica.seen_at_s = m.world[0].now_s
    return replica.seen


@inlined
def begin(m: Memory, r: int, row: int) -> None:
    """A replica begins to serve a request that has come or waited."""
    q = m.requests[row]
    q.state = lay.SERVED
    q.began_s = m.world[0].now_s
    q.queue_s += m.world[0].now_s - q.queued_s
    if m.replicas[r].station == FRONT:
        q.replica = r
    m.replicas[r].request = row
    work(m, r, drawn(m, m.replicas[r].station, q.photo))


@inlined
def drawn(m: Memory, station: int, photo: int) -> float:
    """Of a service: its work, CPU s."""
    p = m.parameters[0]
    if p.service == lay.FIXED:
        return p.mean_s
    if p.service == lay.EXPONENTIAL:
        return p.mean_s * exponential(m.words)
    return m.work_s[station, photo, below(m.words, m.work_s.shape[2])]


@inlined
def work(m: Memory, r: int, work_s: float) -> None:
    """A replica works from now on; when it is done is known."""
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    replica.work_s = work_s
    m.asked_s[r] = 0.0
    replica.began_s = w.now_s
    ends_s = w.now_s + work_s
    replica.began_period, replica.began_used_s = replica.period, replica.used_s
    if p.cpu == lay.QUOTA:
        ends_s, replica.period, replica.used_s = finish(
            w.now_s, work_s, replica.phase_s, replica.period, replica.used_s, p.quota_cores, p.period_s
        )
    elif p.cpu == lay.SHARED_CORES:
        replica.began_used_s = w.virtual_s
        ends_s = w.virtual_s + work_s
        w.active += 1
    put(m.ends_s, m.ends, r, ends_s)


@inlined
def free(m: Memory, r: int) -> None:
    """A replica takes the next request, or is idle, or, where it was to go, has gone."""
    replica = m.replicas[r]
    station = replica.station
    s = m.stations[station]
    s.ongoing -= 1
    replica.request = -1
    if s.routing > lay.POLLED_QUEUE:
        replica.outstanding -= 1
        while replica.outstanding > 0:
            row = m.queues[len(m.stations) + r, replica.head]
            replica.head = (replica.head + 1) & (m.queues.shape[1] - 1)
            if not dropped(m, row, station):
                begin(m, r, row)
                return
            replica.outstanding -= 1
    elif s.routing == lay.SHARED_QUEUE and replica.state == lay.READY and took_waiting(m, r, station):
        return
    if replica.state == lay.DRAINING:
        replica.state = lay.ABSENT
    elif s.routing <= lay.POLLED_QUEUE:
        rest(m, station, r)


@inlined
def took_waiting(m: Memory, r: int, station: int) -> bool:
    """A replica begins with the next request of the station's queue that is not given up; False: there is none."""
    s = m.stations[station]
    while s.waiting > 0:
        row = m.queues[station, s.head]
        s.head = (s.head + 1) & (m.queues.shape[1] - 1)
        s.waiting -= 1
        if not dropped(m, row, station):
            begin(m, r, row)
            return True
    return False


@inlined
def ask_more(m: Memory, station: int) -> None:
    """As many ask as requests wait, or as may."""
    s = m.stations[station]
    while s.askers < _askers(m, station):
        m.pauses_s[station, s.askers] = 0.0
        s.askers += 1
        ask(m, station, s.askers - 1)


@inlined
def _askers(m: Memory, station: int) -> int:
    s = m.stations[station]
    return min(s.waiting, s.askers_each * s.ready, lay.ASKERS)


@inlined
def ask(m: Memory, station: int, a: int) -> None:
    """An asker asks for a free replica; with one it goes on for the next request, where more wait than ask."""
    s = m.stations[station]
    pause_s = m.pauses_s[station, a]
    while True:
        r = _found(m, station)
        if r < 0 and pause_s == 0.0:
            r = _found(m, station)
        if r < 0:
            m.pauses_s[station, a] = min(2 * pause_s, s.longest_pause_s) if pause_s > 0.0 else s.first_pause_s
            m.asks_s[station, a] = m.world[0].now_s + m.pauses_s[station, a]
            return
        if not took_waiting(m, r, station):
            rest(m, station, r)
        if s.askers > _askers(m, station):
            s.askers -= 1
            m.asks_s[station, a], m.pauses_s[station, a] = m.asks_s[station, s.askers], m.pauses_s[station, s.askers]
            return
        pause_s = 0.0


@inlined
def _found(m: Memory, station: int) -> int:
    """A free one of two replicas that are drawn, off the ring of idle ones; or -1. To answer costs those CPU that are
    at work."""
    s = m.stations[station]
    if s.ready == 0:
        return -1
    first = below(m.words, s.ready)
    second = (first + 1 + below(m.words, s.ready - 1)) % s.ready if s.ready > 1 else first
    for place in (first, second):
        r = m.ready[station, place]
        if m.replicas[r].request < 0:
            forget_idle(m, station, r)
            return r
    m.asked_s[m.ready[station, first]] += s.ask_cpu_s
    if second != first:
        m.asked_s[m.ready[station, second]] += s.ask_cpu_s
    return -1


@inlined
def forget_idle(m: Memory, station: int, r: int) -> None:
    """Off the ring of those that are idle, if it is there."""
    s = m.stations[station]
    mask = m.idle.shape[1] - 1
    kept = 0
    for number in range(s.idle):
        other = m.idle[station, (s.idle_head + number) & mask]
        if other != r:
            m.idle[station, (s.idle_head + kept) & mask] = other
            kept += 1
    s.idle = kept


@inlined
def was_asked(m: Memory, r: int) -> bool:
    """Whether a service whose end has come lasts longer, for what its replica was asked meanwhile: then it ends when
    that is done, too."""
    p, replica = m.parameters[0], m.replicas[r]
    if m.asked_s[r] == 0.0:
        return False
    replica.work_s += m.asked_s[r]
    ends_s = m.ends_s[TOP] + m.asked_s[r]
    m.asked_s[r] = 0.0
    if p.cpu == lay.QUOTA:
        ends_s, replica.period, replica.used_s = finish(
            replica.began_s, replica.work_s, replica.phase_s, replica.began_period, replica.began_used_s,
            p.quota_cores, p.period_s,
        )  # fmt: skip
    put(m.ends_s, m.ends, r, ends_s)
    return True


@inlined
def rest(m: Memory, station: int, r: int) -> None:
    """Onto the ring of those that are idle."""
    s = m.stations[station]
    m.idle[station, (s.idle_head + s.idle) & (m.idle.shape[1] - 1)] = r
    s.idle += 1


@inlined
def dropped(m: Memory, row: int, station: int) -> bool:
    """Where servers notice that a client gave up, its request is not served."""
    if station != FRONT or not m.parameters[0].cancels or not m.requests[row].answered:
        return False
    m.requests[row].state = lay.DONE
    m.stations[station].ongoing -= 1
    return True
