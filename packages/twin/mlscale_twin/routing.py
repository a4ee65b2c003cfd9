"""Routes a request that arrives at a component: to a replica, into a queue, or, if that is full, nowhere."""

from __future__ import annotations

from mlscale_twin import layout
from mlscale_twin.compiled import inlined
from mlscale_twin.generator import random_index
from mlscale_twin.memory import Memory
from mlscale_twin.polling import start_pollers
from mlscale_twin.serving import enqueue, start_service


@inlined
def admit(m: Memory, row: int, station: int) -> bool:
    """A request arrives at a component: it is served at once, queued, or, if the queue is full, neither (False)."""
    s, q = m.stations[station], m.requests[row]
    q.station = station
    q.queued_s = m.world[0].now_s
    if s.routing == layout.SHARED_QUEUE:
        r = _pop_idle(m, station)
        if r >= 0:
            s.ongoing += 1
            start_service(m, r, row)
            return True
        if s.waiting >= s.queue_limit:
            return False
        enqueue(m, row, station)
    elif s.routing == layout.POLLED_QUEUE:
        if s.waiting >= s.queue_limit:
            return False
        enqueue(m, row, station)
        s.ongoing += 1
        start_pollers(m, station)
        return True
    elif s.holds and s.ready == 0:
        enqueue(m, row, station)
    else:
        r = _choose_replica(m, station) if s.ready > 0 else -1
        if r < 0 or m.replicas[r].outstanding > s.queue_limit:
            return False
        served = m.replicas[r]
        served.outstanding += 1
        if served.request < 0:
            s.ongoing += 1
            start_service(m, r, row)
            return True
        index = len(m.stations) + r
        m.queues[index, (served.head + served.outstanding - 2) & (m.queues.shape[1] - 1)] = row
        q.state = layout.WAITING
    s.ongoing += 1
    return True


@inlined
def _pop_idle(m: Memory, station: int) -> int:
    """The replica that has been idle longest, or -1."""
    s = m.stations[station]
    if s.idle == 0:
        return -1
    r = m.idle[station, s.idle_head]
    s.idle_head = (s.idle_head + 1) & (m.idle.shape[1] - 1)
    s.idle -= 1
    return r


@inlined
def _choose_replica(m: Memory, station: int) -> int:
    """The replica that a request goes to, if each replica has its own queue."""
    s = m.stations[station]
    if s.routing == layout.ROUND_ROBIN:
        s.round_robin_index = (s.round_robin_index + 1) % s.ready
        return m.ready[station, s.round_robin_index]
    first = random_index(m.rng_state, s.ready)
    if s.routing == layout.RANDOM:
        return m.ready[station, first]
    if s.routing == layout.TWO_CHOICES:
        second = random_index(m.rng_state, s.ready)
        a, b = m.ready[station, first], m.ready[station, second]
        r = a if _last_seen_length(m, a, s.stale_s) <= _last_seen_length(m, b, s.stale_s) else b
        m.replicas[r].seen_length += 1
        return r
    best = m.ready[station, first]  # ties go to a random one
    for number in range(1, s.ready):
        r = m.ready[station, (first + number) % s.ready]
        if m.replicas[r].outstanding < m.replicas[best].outstanding:
            best = r
    return best


@inlined
def _last_seen_length(m: Memory, r: int, stale_s: float) -> int:
    """The replica's queue length as last seen, at most ``stale_s`` ago."""
    replica = m.replicas[r]
    if m.world[0].now_s - replica.seen_at_s >= stale_s:
        replica.seen_length = replica.outstanding
        replica.seen_at_s = m.world[0].now_s
    return replica.seen_length
