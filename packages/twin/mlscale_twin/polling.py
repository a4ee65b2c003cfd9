"""A queue that polls replicas, since it is not notified when one is free: Ray Serve's (serve/_private/request_router
and router.py).

Each poller polls for one waiting request, and sends the request that has waited longest. The router caches the
replicas' queue lengths. A replica that the cache shows as free is not polled; the others answer when they next run. A
sent request enters the cache only a moment later: a poller that finds a free replica for its own request continues with
the next request and the same cache, and may send everything that waits. The replica serves the first request and
rejects the rest, which return to their old places in the queue.
"""

from __future__ import annotations

import math

from mlscale_twin import layout
from mlscale_twin.cfs import finish, next_run_s
from mlscale_twin.compiled import inlined
from mlscale_twin.generator import random_index
from mlscale_twin.memory import Memory
from mlscale_twin.serving import dequeue, drop_if_abandoned, enqueue, start_service
from mlscale_twin.tournament import ROOT, set_time


@inlined
def next_poll_s(m: Memory) -> float:
    """Time at which a poller next acts, or a replica next rejects requests."""
    first_s = math.inf
    if not m.parameters[0].polled:
        return first_s
    for station in range(len(m.stations)):
        for a in range(m.stations[station].pollers):
            first_s = min(first_s, m.pollers[station, a].at_s)
    for r in range(len(m.replicas)):
        first_s = min(first_s, m.replicas[r].rejects_s)
    return first_s


@inlined
def run_next_poll(m: Memory, now_s: float) -> None:
    """Runs what is due now; rejections come first."""
    for r in range(len(m.replicas)):
        if m.replicas[r].rejects_s == now_s:
            reject_sent(m, r)
            return
    for station in range(len(m.stations)):
        for a in range(m.stations[station].pollers):
            if m.pollers[station, a].at_s == now_s:
                _run_poller(m, station, a)
                return


@inlined
def start_pollers(m: Memory, station: int) -> None:
    """Starts pollers for the longest-waiting requests, as many as wait or are allowed; they look a moment later."""
    s = m.stations[station]
    for _ in range(_max_pollers(m, station) - s.pollers):
        row = _longest_waiting_unpolled(m, station)
        if row == layout.NONE:
            return
        _assign(m, station, s.pollers, row)
        s.pollers += 1


@inlined
def wake_pollers(m: Memory, station: int) -> None:
    """A replica is available again: pollers that had none to poll look now."""
    for a in range(m.stations[station].pollers):
        if m.pollers[station, a].at_s == math.inf:
            m.pollers[station, a].at_s = m.world[0].now_s
    start_pollers(m, station)


@inlined
def reject_sent(m: Memory, r: int) -> None:
    """A replica rejects the requests that were sent while it was busy, which takes CPU."""
    replica = m.replicas[r]
    station = replica.station
    for number in range(
        replica.outstanding - 1, -1, -1
    ):  # last first, so that requests queued at the same time keep their order
        row = m.queues[len(m.stations) + r, (replica.head + number) & (m.queues.shape[1] - 1)]
        _requeue(m, row, station)
    if replica.work_s != layout.NO_WORK:
        m.pending_poll_s[r] += replica.outstanding * m.stations[station].poll_cpu_s
    replica.outstanding = 0
    replica.rejects_s = math.inf
    replica.cached_length = int(replica.request >= 0)
    start_pollers(m, station)


@inlined
def extend_by_polls(m: Memory, r: int) -> bool:
    """Adds the CPU time of polls to a service that would end now; False if there were none."""
    p, replica = m.parameters[0], m.replicas[r]
    if m.pending_poll_s[r] == 0.0:
        return False
    replica.work_s += m.pending_poll_s[r]
    ends_s = m.end_times_s[ROOT] + m.pending_poll_s[r]
    m.pending_poll_s[r] = 0.0
    if p.quota_cores < 1.0:
        ends_s, replica.period, replica.used_s = finish(
            replica.began_s, replica.work_s, replica.phase_s, replica.began_period, replica.began_used_s,
            p.quota_cores, p.period_s,
        )  # fmt: skip
        ends_s += m.stations[replica.station].waits_s
    set_time(m.end_times_s, m.end_owners, r, ends_s)
    return True


@inlined
def _max_pollers(m: Memory, station: int) -> int:
    """Number of pollers that are allowed now."""
    s = m.stations[station]
    return min(s.waiting, s.pollers_per_replica * s.ready, layout.MAX_POLLERS)


@inlined
def _longest_waiting_unpolled(m: Memory, station: int) -> int:
    """The longest-waiting request without a poller, or `layout.NONE`."""
    s = m.stations[station]
    for number in range(s.waiting):
        row = m.queues[station, (s.head + number) & (m.queues.shape[1] - 1)]
        if m.requests[row].poller == layout.NONE:
            return row
    return layout.NONE


@inlined
def _assign(m: Memory, station: int, a: int, row: int) -> None:
    """Makes a poller poll for this request."""
    poller = m.pollers[station, a]
    poller.row, poller.at_s, poller.backoff_s = row, m.world[0].now_s, layout.JUST_STARTED
    poller.polled_first = poller.polled_second = layout.NONE
    m.requests[row].poller = a


@inlined
def _run_poller(m: Memory, station: int, a: int) -> None:
    """A poller looks, or receives answers; it continues as long as it finds free replicas without waiting."""
    s = m.stations[station]
    pollers_before = s.pollers  # pollers that are removed now still count
    if m.pollers[station, a].row == layout.NONE and not _take_next(m, station, a):
        _remove_poller(m, station, a)
        return
    if m.pollers[station, a].polled_first != layout.NONE:
        r = _read_answers(m, station, a)
        if r == layout.NONE:
            _back_off(m, station, a)
    else:
        r = _pick_or_poll(m, station, a)
    while r != layout.NONE:
        row = _send_longest_waiting(m, station, r)
        if row == m.pollers[station, a].row or row == layout.NONE:
            if pollers_before > _max_pollers(m, station) or not _take_next(m, station, a):
                _remove_poller(m, station, a)
                break
        else:
            superfluous = m.requests[row].poller
            if superfluous != layout.NONE:
                _remove_poller(m, station, superfluous)
                a = superfluous if a == s.pollers else a  # the last poller has taken its place
            if m.pollers[station, a].backoff_s != layout.JUST_STARTED:
                _back_off(m, station, a)
                break
            m.pollers[station, a].backoff_s = 0.0
        r = _pick_or_poll(m, station, a)
    for number in range(s.ready):
        replica = m.replicas[m.ready[station, number]]
        replica.cached_length += replica.newly_sent
        replica.newly_sent = 0
    start_pollers(m, station)


@inlined
def _take_next(m: Memory, station: int, a: int) -> bool:
    """Gives a poller whose request was sent or dropped another one; False if there is none."""
    row = _longest_waiting_unpolled(m, station)
    if row == layout.NONE:
        return False
    own = m.pollers[station, a].row
    if own != layout.NONE:
        m.requests[own].poller = layout.NONE
    _assign(m, station, a, row)
    return True


@inlined
def _remove_poller(m: Memory, station: int, a: int) -> None:
    """Removes a poller; the last one takes its place."""
    s, pollers = m.stations[station], m.pollers
    if pollers[station, a].row != layout.NONE:
        m.requests[pollers[station, a].row].poller = layout.NONE
    s.pollers -= 1
    if a != s.pollers:
        last, here = pollers[station, s.pollers], pollers[station, a]
        here.at_s, here.backoff_s, here.row = last.at_s, last.backoff_s, last.row
        here.polled_first, here.polled_second = last.polled_first, last.polled_second
        if here.row != layout.NONE:
            m.requests[here.row].poller = a


@inlined
def _back_off(m: Memory, station: int, a: int) -> None:
    """A poller that found no free replica looks again: at once the first time, then after a pause."""
    s, poller = m.stations[station], m.pollers[station, a]
    if poller.backoff_s == layout.JUST_STARTED:
        poller.backoff_s = 0.0
    elif poller.backoff_s == 0.0:
        poller.backoff_s = s.initial_backoff_s
    else:
        poller.backoff_s = min(s.backoff_multiplier * poller.backoff_s, s.max_backoff_s)
    poller.at_s = m.world[0].now_s + poller.backoff_s


@inlined
def _pick_or_poll(m: Memory, station: int, a: int) -> int:
    """Draws two replicas. Returns one that the cache shows as free, and refreshes the other's entry; or polls both and
    returns `layout.NONE`."""
    s, poller = m.stations[station], m.pollers[station, a]
    if s.ready == 0:
        poller.at_s = math.inf
        return layout.NONE
    first_index = random_index(m.rng_state, s.ready)
    first, second = m.ready[station, first_index], layout.NONE
    if s.ready > 1:
        second = m.ready[station, (first_index + 1 + random_index(m.rng_state, s.ready - 1)) % s.ready]
    if m.replicas[first].cached_length < 1:
        if second != layout.NONE and m.replicas[second].cached_length >= 1:
            _refresh_length(m, second)
        return first
    if second != layout.NONE and m.replicas[second].cached_length < 1:
        _refresh_length(m, first)
        return second
    poller.polled_first, poller.polled_second = first, second
    poller.at_s = _poll_replica(m, first)
    if second != layout.NONE:
        poller.at_s = max(poller.at_s, _poll_replica(m, second))
    return layout.NONE


@inlined
def _read_answers(m: Memory, station: int, a: int) -> int:
    """A polled replica that is free, or `layout.NONE`. Updates the cache with the answers."""
    poller = m.pollers[station, a]
    free = layout.NONE
    for r in (poller.polled_second, poller.polled_first):
        if r != layout.NONE and m.replicas[r].state == layout.READY:
            m.replicas[r].cached_length = int(m.replicas[r].request >= 0)
            if m.replicas[r].cached_length == 0:
                free = r
    poller.polled_first = poller.polled_second = layout.NONE
    return free


@inlined
def _poll_replica(m: Memory, r: int) -> float:
    """Polls a replica, which takes CPU of a busy one; returns when it answers: when it next runs."""
    replica = m.replicas[r]
    if replica.work_s != layout.NO_WORK:
        m.pending_poll_s[r] += m.stations[replica.station].poll_cpu_s
    return _available_s(m, r)


@inlined
def _refresh_length(m: Memory, r: int) -> None:
    """Polls a replica only to refresh the cache."""
    _poll_replica(m, r)
    m.replicas[r].cached_length = int(m.replicas[r].request >= 0)


@inlined
def _send_longest_waiting(m: Memory, station: int, r: int) -> int:
    """Sends the longest-waiting request to a replica, which serves it if idle; returns its row or `layout.NONE`."""
    s, replica = m.stations[station], m.replicas[r]
    mask = m.queues.shape[1] - 1
    while s.waiting > 0:
        row = dequeue(m, station)
        if drop_if_abandoned(m, row, station):
            if m.requests[row].poller != layout.NONE:
                m.pollers[station, m.requests[row].poller].row = layout.NONE
            continue
        replica.newly_sent += 1
        if replica.request < 0:
            start_service(m, r, row)
        else:
            m.queues[len(m.stations) + r, (replica.head + replica.outstanding) & mask] = row
            replica.outstanding += 1
            m.requests[row].state = layout.SENT
            replica.rejects_s = min(replica.rejects_s, _available_s(m, r))
        return row
    return layout.NONE


@inlined
def _requeue(m: Memory, row: int, station: int) -> None:
    """Puts a request back into the queue, behind those that came earlier."""
    s = m.stations[station]
    mask = m.queues.shape[1] - 1
    enqueue(m, row, station)
    position = s.waiting - 1
    while position > 0:
        before = m.queues[station, (s.head + position - 1) & mask]
        if m.requests[before].queued_s < m.requests[row].queued_s:
            break
        m.queues[station, (s.head + position) & mask] = before
        position -= 1
    m.queues[station, (s.head + position) & mask] = row


@inlined
def _available_s(m: Memory, r: int) -> float:
    """Time at which a replica runs: now or, if its quota is used up, at the start of its next period."""
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    period, used_s, since_s = replica.period, replica.used_s, math.inf
    if replica.work_s != layout.NO_WORK:
        period, used_s, since_s = replica.began_period, replica.began_used_s, replica.began_s
    return next_run_s(w.now_s, since_s, replica.phase_s, period, used_s, p.quota_cores, p.period_s)
