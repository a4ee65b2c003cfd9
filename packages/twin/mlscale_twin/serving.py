"""Replicas at work: they serve requests that arrive or wait."""

from __future__ import annotations

from typing import Final

from mlscale_twin import layout
from mlscale_twin.cfs import finish
from mlscale_twin.compiled import inlined
from mlscale_twin.generator import exponential, random_index
from mlscale_twin.memory import Memory
from mlscale_twin.tournament import set_time

FRONT: Final = 0


@inlined
def enqueue(m: Memory, row: int, station: int) -> None:
    """Appends a request to the station's queue."""
    s = m.stations[station]
    m.queues[station, (s.head + s.waiting) & (m.queues.shape[1] - 1)] = row
    s.waiting += 1
    m.requests[row].state = layout.WAITING
    m.requests[row].poller = layout.NONE


@inlined
def dequeue(m: Memory, station: int) -> int:
    """Takes the longest-waiting request, of which there has to be one, from the station's queue."""
    s = m.stations[station]
    row = m.queues[station, s.head]
    s.head = (s.head + 1) & (m.queues.shape[1] - 1)
    s.waiting -= 1
    return row


@inlined
def start_service(m: Memory, r: int, row: int) -> None:
    """A replica starts to serve a request that arrived or waited."""
    q, replica = m.requests[row], m.replicas[r]
    q.state = layout.IN_SERVICE
    if replica.station == FRONT:
        q.replica = r
    replica.request = row
    start_work(m, r, m.stations[replica.station].ahead_cpu_s, draw_work_s(m, replica.station, q.photo))
    q.queue_s += replica.clock_s - q.queued_s


@inlined
def draw_work_s(m: Memory, station: int, photo: int) -> float:
    """Draws the work of a service, CPU s."""
    p = m.parameters[0]
    if p.service == layout.FIXED:
        return p.mean_s
    if p.service == layout.EXPONENTIAL:
        return p.mean_s * exponential(m.rng_state)
    return m.work_samples_s[station, photo, random_index(m.rng_state, m.work_samples_s.shape[2])]


@inlined
def start_work(m: Memory, r: int, ahead_s: float, clocked_s: float) -> None:
    """A replica starts to work, now or after cleaning up; sets when its clock starts and when it is done. ``ahead_s``,
    ``clocked_s``: work before and after the clock starts, CPU s."""
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    work_s = ahead_s + clocked_s
    replica.work_s = work_s
    m.pending_poll_s[r] = 0.0
    replica.began_s = max(w.now_s, replica.cleaned_up_s)
    replica.clock_s = replica.began_s
    replica.began_period, replica.began_used_s = replica.period, replica.used_s
    if ahead_s > 0.0:
        replica.clock_s = finish(
            replica.began_s, ahead_s, replica.phase_s, replica.period, replica.used_s, p.quota_cores, p.period_s
        )[0]
    ends_s, replica.period, replica.used_s = finish(
        replica.began_s, work_s, replica.phase_s, replica.period, replica.used_s, p.quota_cores, p.period_s
    )
    set_time(m.end_times_s, m.end_owners, r, ends_s + m.stations[replica.station].waits_s)


@inlined
def _clean_up(m: Memory, r: int) -> None:
    """Work of a replica after an answer is out; its next work starts after that."""
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    after_s = m.stations[replica.station].after_cpu_s
    if after_s == 0.0:
        return
    replica.cpu_s += after_s
    replica.cleaned_up_s, replica.period, replica.used_s = finish(
        w.now_s, after_s, replica.phase_s, replica.period, replica.used_s, p.quota_cores, p.period_s
    )


@inlined
def release(m: Memory, r: int) -> None:
    """A replica takes the next request, becomes idle, or, if it was draining, is gone."""
    replica = m.replicas[r]
    station = replica.station
    s = m.stations[station]
    s.ongoing -= 1
    replica.request = -1
    _clean_up(m, r)
    if s.routing > layout.POLLED_QUEUE:
        replica.outstanding -= 1
        while replica.outstanding > 0:
            row = m.queues[len(m.stations) + r, replica.head]
            replica.head = (replica.head + 1) & (m.queues.shape[1] - 1)
            if not drop_if_abandoned(m, row, station):
                start_service(m, r, row)
                return
            replica.outstanding -= 1
    elif s.routing == layout.POLLED_QUEUE:
        replica.cached_length = max(0, replica.cached_length - 1)
    elif replica.state == layout.READY and start_next_waiting(m, r, station):
        return
    if replica.state == layout.DRAINING:
        replica.state = layout.ABSENT
    elif s.routing == layout.SHARED_QUEUE:
        add_idle(m, station, r)


@inlined
def start_next_waiting(m: Memory, r: int, station: int) -> bool:
    """A replica starts the next request in the station's queue that was not given up; False if there is none."""
    s = m.stations[station]
    while s.waiting > 0:
        row = dequeue(m, station)
        if not drop_if_abandoned(m, row, station):
            start_service(m, r, row)
            return True
    return False


@inlined
def remove_idle(m: Memory, station: int, r: int) -> None:
    """Removes a replica from the idle ring, if it is in it."""
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
def add_idle(m: Memory, station: int, r: int) -> None:
    """Adds a replica to the idle ring."""
    s = m.stations[station]
    m.idle[station, (s.idle_head + s.idle) & (m.idle.shape[1] - 1)] = r
    s.idle += 1


@inlined
def drop_if_abandoned(m: Memory, row: int, station: int) -> bool:
    """Whether a request is dropped, since the server notices that its client gave up."""
    if station != FRONT or not m.parameters[0].cancels or not m.requests[row].answered:
        return False
    m.requests[row].state = layout.DONE
    m.stations[station].ongoing -= 1
    return True
