"""Routes a request that arrives at a component: to a replica, into a queue, or, if that is full, nowhere."""

from __future__ import annotations

from mlscale_twin import layout as lay
from mlscale_twin.compiled import inlined
from mlscale_twin.generator import below
from mlscale_twin.memory import Memory
from mlscale_twin.router import ask_more
from mlscale_twin.serving import begin, wait


@inlined
def join(m: Memory, row: int, station: int) -> bool:
    """A request arrives at a component: it is served at once, queued, or, if the queue is full, neither (False)."""
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
        wait(m, row, station)
    elif s.routing == lay.POLLED_QUEUE:
        if s.waiting >= s.queue_limit:
            return False
        wait(m, row, station)
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
    """The replica that a request goes to, if each replica has its own queue."""
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
    """The replica's queue length as last seen, at most ``stale_s`` ago."""
    replica = m.replicas[r]
    if m.world[0].now_s - replica.seen_at_s >= stale_s:
        replica.seen = replica.outstanding
        replica.seen_at_s = m.world[0].now_s
    return replica.seen
