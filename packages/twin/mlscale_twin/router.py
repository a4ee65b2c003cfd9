"""A queue that polls replicas, since it is not told when one is free: Ray Serve's (serve/_private/request_router and
router.py).

Askers poll, each on behalf of one waiting request, and send the request that has waited longest. The router's books
hold the number of requests of each replica. A replica that is free by the books is not polled; the answers of others
arrive when they run. A sent request enters the books only a moment later: an asker that finds a free replica for its
own request therefore continues with the next one by the same books, and may send it all that waits. The replica serves
the first and rejects the rest, which wait again in their old places.
"""

from __future__ import annotations

import math

from mlscale_twin import layout as lay
from mlscale_twin.cfs import finish, runs_from
from mlscale_twin.compiled import inlined
from mlscale_twin.earliest import TOP, put
from mlscale_twin.generator import below
from mlscale_twin.memory import Memory
from mlscale_twin.serving import begin, dropped, wait


@inlined
def next_act_s(m: Memory) -> float:
    """Time at which an asker next looks or hears an answer, or a sent request reaches its replica."""
    first_s = math.inf
    if not m.parameters[0].polled:
        return first_s
    for station in range(len(m.stations)):
        for a in range(m.stations[station].askers):
            first_s = min(first_s, m.askers[station, a].at_s)
    for r in range(len(m.replicas)):
        first_s = min(first_s, m.replicas[r].hears_s)
    return first_s


@inlined
def act_next(m: Memory, now_s: float) -> None:
    """Runs the next action; rejections come first."""
    for r in range(len(m.replicas)):
        if m.replicas[r].hears_s == now_s:
            return_sent(m, r)
            return
    for station in range(len(m.stations)):
        for a in range(m.stations[station].askers):
            if m.askers[station, a].at_s == now_s:
                _act(m, station, a)
                return


@inlined
def ask_more(m: Memory, station: int) -> None:
    """Starts askers for the requests that have waited longest, as many as wait or are allowed; they look a moment
    later."""
    s = m.stations[station]
    for _ in range(_most(m, station) - s.askers):
        row = _unasked(m, station)
        if row == lay.NOBODY:
            return
        _ask_for(m, station, s.askers, row)
        s.askers += 1


@inlined
def wake(m: Memory, station: int) -> None:
    """A replica is available again: askers that had none to poll look now."""
    for a in range(m.stations[station].askers):
        if m.askers[station, a].at_s == math.inf:
            m.askers[station, a].at_s = m.world[0].now_s
    ask_more(m, station)


@inlined
def return_sent(m: Memory, r: int) -> None:
    """A replica rejects a request that was sent while it was busy, which costs it CPU."""
    replica = m.replicas[r]
    station = replica.station
    for number in range(replica.outstanding - 1, -1, -1):  # the last first: so those of one moment keep their order
        row = m.queues[len(m.stations) + r, (replica.head + number) & (m.queues.shape[1] - 1)]
        _wait_again(m, row, station)
    if replica.work_s != lay.NO_WORK:
        m.asked_s[r] += replica.outstanding * m.stations[station].ask_cpu_s
    replica.outstanding = 0
    replica.hears_s = math.inf
    replica.booked = int(replica.request >= 0)
    ask_more(m, station)


@inlined
def was_asked(m: Memory, r: int) -> bool:
    """Whether a service that would end now is extended by the cost of polls in the meantime."""
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
def _most(m: Memory, station: int) -> int:
    """Most askers allowed."""
    s = m.stations[station]
    return min(s.waiting, s.askers_each * s.ready, lay.ASKERS)


@inlined
def _unasked(m: Memory, station: int) -> int:
    """The longest-waiting request without an asker, or `layout.NOBODY`."""
    s = m.stations[station]
    for number in range(s.waiting):
        row = m.queues[station, (s.head + number) & (m.queues.shape[1] - 1)]
        if m.requests[row].asker == lay.NOBODY:
            return row
    return lay.NOBODY


@inlined
def _ask_for(m: Memory, station: int, a: int, row: int) -> None:
    """An asker starts polling for this request."""
    asker = m.askers[station, a]
    asker.row, asker.at_s, asker.pause_s = row, m.world[0].now_s, lay.FRESH
    asker.asked = asker.asked_too = lay.NOBODY
    m.requests[row].asker = a


@inlined
def _act(m: Memory, station: int, a: int) -> None:
    """An asker looks or hears an answer; as long as it finds free replicas without waiting, it continues."""
    s = m.stations[station]
    crew = s.askers  # those who are called off now leave it later
    if m.askers[station, a].row == lay.NOBODY and not _took_up_another(m, station, a):
        _call_off(m, station, a)
        return
    if m.askers[station, a].asked != lay.NOBODY:
        r = _answered(m, station, a)
        if r == lay.NOBODY:
            _pause(m, station, a)
    else:
        r = _looked(m, station, a)
    while r != lay.NOBODY:
        row = _sent(m, station, r)
        if row == m.askers[station, a].row or row == lay.NOBODY:
            if crew > _most(m, station) or not _took_up_another(m, station, a):
                _call_off(m, station, a)
                break
        else:
            called_off = m.requests[row].asker
            if called_off != lay.NOBODY:
                _call_off(m, station, called_off)
                a = called_off if a == s.askers else a  # the last one has taken its place
            if m.askers[station, a].pause_s != lay.FRESH:
                _pause(m, station, a)
                break
            m.askers[station, a].pause_s = 0.0
        r = _looked(m, station, a)
    for number in range(s.ready):
        replica = m.replicas[m.ready[station, number]]
        replica.booked += replica.sent
        replica.sent = 0
    ask_more(m, station)


@inlined
def _took_up_another(m: Memory, station: int, a: int) -> bool:
    """Whether an asker whose own request is sent or given up finds another request to poll for."""
    row = _unasked(m, station)
    if row == lay.NOBODY:
        return False
    own = m.askers[station, a].row
    if own != lay.NOBODY:
        m.requests[own].asker = lay.NOBODY
    _ask_for(m, station, a, row)
    return True


@inlined
def _call_off(m: Memory, station: int, a: int) -> None:
    """Removes an asker; the last one takes its place."""
    s, askers = m.stations[station], m.askers
    if askers[station, a].row != lay.NOBODY:
        m.requests[askers[station, a].row].asker = lay.NOBODY
    s.askers -= 1
    if a != s.askers:
        last, here = askers[station, s.askers], askers[station, a]
        here.at_s, here.pause_s, here.row = last.at_s, last.pause_s, last.row
        here.asked, here.asked_too = last.asked, last.asked_too
        if here.row != lay.NOBODY:
            m.requests[here.row].asker = a


@inlined
def _pause(m: Memory, station: int, a: int) -> None:
    """An asker that found no free replica looks again: at once the first time, then after a pause."""
    s, asker = m.stations[station], m.askers[station, a]
    if asker.pause_s == lay.FRESH:
        asker.pause_s = 0.0
    elif asker.pause_s == 0.0:
        asker.pause_s = s.first_pause_s
    else:
        asker.pause_s = min(s.growth * asker.pause_s, s.longest_pause_s)
    asker.at_s = m.world[0].now_s + asker.pause_s


@inlined
def _looked(m: Memory, station: int, a: int) -> int:
    """Of two drawn replicas, one that is free by the books, in which case the other's entry is refreshed; or
    `layout.NOBODY`, in which case both are polled."""
    s, asker = m.stations[station], m.askers[station, a]
    if s.ready == 0:
        asker.at_s = math.inf
        return lay.NOBODY
    place = below(m.words, s.ready)
    first, second = m.ready[station, place], lay.NOBODY
    if s.ready > 1:
        second = m.ready[station, (place + 1 + below(m.words, s.ready - 1)) % s.ready]
    if m.replicas[first].booked < 1:
        if second != lay.NOBODY and m.replicas[second].booked >= 1:
            _set_right(m, second)
        return first
    if second != lay.NOBODY and m.replicas[second].booked < 1:
        _set_right(m, first)
        return second
    asker.asked, asker.asked_too = first, second
    asker.at_s = _heard_s(m, first)
    if second != lay.NOBODY:
        asker.at_s = max(asker.at_s, _heard_s(m, second))
    return lay.NOBODY


@inlined
def _answered(m: Memory, station: int, a: int) -> int:
    """The first polled replica that is free, or `layout.NOBODY`. Updates the books with their answers."""
    asker = m.askers[station, a]
    free = lay.NOBODY
    for r in (asker.asked_too, asker.asked):
        if r != lay.NOBODY and m.replicas[r].state == lay.READY:
            m.replicas[r].booked = int(m.replicas[r].request >= 0)
            if m.replicas[r].booked == 0:
                free = r
    asker.asked = asker.asked_too = lay.NOBODY
    return free


@inlined
def _heard_s(m: Memory, r: int) -> float:
    """Time at which a replica's answer to a poll made now arrives: when it runs. A busy replica pays for the poll."""
    replica = m.replicas[r]
    if replica.work_s != lay.NO_WORK:
        m.asked_s[r] += m.stations[replica.station].ask_cpu_s
    return _runs_s(m, r)


@inlined
def _set_right(m: Memory, r: int) -> None:
    """Polls a replica only to refresh the books."""
    _heard_s(m, r)
    m.replicas[r].booked = int(m.replicas[r].request >= 0)


@inlined
def _sent(m: Memory, station: int, r: int) -> int:
    """Sends the longest-waiting request to a replica, which serves it if it has none; its row, or `layout.NOBODY` if
    none waits."""
    s, replica = m.stations[station], m.replicas[r]
    mask = m.queues.shape[1] - 1
    while s.waiting > 0:
        row = m.queues[station, s.head]
        s.head = (s.head + 1) & mask
        s.waiting -= 1
        if dropped(m, row, station):
            if m.requests[row].asker != lay.NOBODY:
                m.askers[station, m.requests[row].asker].row = lay.NOBODY
            continue
        replica.sent += 1
        if replica.request < 0:
            begin(m, r, row)
        else:
            m.queues[len(m.stations) + r, (replica.head + replica.outstanding) & mask] = row
            replica.outstanding += 1
            m.requests[row].state = lay.SENT
            replica.hears_s = min(replica.hears_s, _runs_s(m, r))
        return row
    return lay.NOBODY


@inlined
def _wait_again(m: Memory, row: int, station: int) -> None:
    """Puts a request back into the queue, behind those that came earlier."""
    s = m.stations[station]
    mask = m.queues.shape[1] - 1
    wait(m, row, station)
    place = s.waiting - 1
    while place > 0:
        before = m.queues[station, (s.head + place - 1) & mask]
        if m.requests[before].queued_s < m.requests[row].queued_s:
            break
        m.queues[station, (s.head + place) & mask] = before
        place -= 1
    m.queues[station, (s.head + place) & mask] = row


@inlined
def _runs_s(m: Memory, r: int) -> float:
    """Time at which a replica runs: now or, if its quota is used up, at the start of its next period."""
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    if p.cpu != lay.QUOTA:
        return w.now_s
    period, used_s, since_s = replica.period, replica.used_s, math.inf
    if replica.work_s != lay.NO_WORK:
        period, used_s, since_s = replica.began_period, replica.began_used_s, replica.began_s
    return runs_from(w.now_s, since_s, replica.phase_s, period, used_s, p.quota_cores, p.period_s)
