"""The compiled core of the twin: processes requests event by event until a given time.

It allocates nothing, and only service times and random routing are random. Between two calls, Python adds and removes
replicas (`membership`), reads what the autoscalers observe, and refills exhausted arrays.
"""

from __future__ import annotations

import math

from mlscale_twin import layout
from mlscale_twin.compiled import compiled, inlined
from mlscale_twin.completion import complete, release_rows, skip_answered
from mlscale_twin.generator import random_index
from mlscale_twin.memory import Arrays, Memory, memory_of
from mlscale_twin.polling import extend_by_polls, next_poll_s, run_next_poll
from mlscale_twin.routing import admit
from mlscale_twin.serving import FRONT, draw_work_s, release, start_work
from mlscale_twin.tournament import ROOT, set_time


@compiled
def advance(until_s: float, all_due: bool, arrays: Arrays) -> int:
    """Advances the clock to ``until_s``.

    Args:
        all_due: whether ``due_s`` holds the last send times.
        arrays: a `Memory` as a plain tuple, which makes a call from Python much faster.

    Returns:
        `layout.TIME_REACHED` at ``until_s``, or what has to be refilled before it can continue.
    """
    m = memory_of(arrays)
    w, p = m.world[0], m.parameters[0]
    size = len(m.requests)
    while True:
        if w.rows + 2 > len(m.rows):
            return layout.NEED_OUTPUT_ROWS
        if not p.closed and w.due_index == len(m.due_s) and not all_due:
            return layout.NEED_SEND_TIMES
        end_s, send_s, timeout_s, poll_s = m.end_times_s[ROOT], _next_send_s(m), _next_timeout_s(m), next_poll_s(m)
        now_s = min(end_s, send_s, timeout_s, poll_s)
        if now_s > until_s:
            _advance_clock(m, until_s)
            _sample(m, True)
            return layout.TIME_REACHED
        if send_s == now_s and w.sequence - w.oldest >= size:
            release_rows(m)
            if w.sequence - w.oldest >= size:
                return layout.NEED_REQUEST_ROWS
        _advance_clock(m, now_s)
        if end_s == now_s:
            r = m.end_owners[ROOT]
            if p.polled and extend_by_polls(m, r):
                continue
            _end_service(m, r)
            if m.replicas[r].work_s == layout.NO_WORK:
                set_time(m.end_times_s, m.end_owners, r, math.inf)
        elif send_s == now_s:
            _send_request(m)
        elif poll_s == now_s:
            run_next_poll(m, now_s)
        else:
            _time_out(m)


@inlined
def _next_send_s(m: Memory) -> float:
    w = m.world[0]
    if m.parameters[0].closed:
        return m.send_times_s[ROOT]
    return m.due_s[w.due_index] if w.due_index < len(m.due_s) else math.inf


@inlined
def _next_timeout_s(m: Memory) -> float:
    """Time at which the next client gives up: in sending order, since all have the same timeout."""
    w = m.world[0]
    if m.parameters[0].timeout_s == math.inf:
        return math.inf
    skip_answered(m)
    if w.oldest_unanswered == w.sequence:
        return math.inf
    return m.requests[w.oldest_unanswered & (len(m.requests) - 1)].intended_s + m.parameters[0].timeout_s


@inlined
def _advance_clock(m: Memory, t_s: float) -> None:
    """Advances the clock to ``t_s``, before which nothing happens."""
    w = m.world[0]
    elapsed_s = t_s - w.now_s
    for place in range(len(m.stations)):
        m.stations[place].ongoing_integral += m.stations[place].ongoing * elapsed_s
    w.now_s = t_s
    _sample(m, False)


@inlined
def _sample(m: Memory, now_too: bool) -> None:
    """Samples the requests queued and in service, at the times due since; nothing has happened in between."""
    now_s = m.world[0].now_s
    for index in range(len(m.stations)):
        s = m.stations[index]
        while s.sample_at_s < now_s or (now_too and s.sample_at_s == now_s):
            m.samples[index, s.samples % m.samples.shape[1]] = s.ongoing
            s.samples += 1
            s.sample_at_s = s.sample_first_s + s.samples * s.sample_period_s


@inlined
def _send_request(m: Memory) -> None:
    """The next request leaves its client and arrives at the front component."""
    w, p = m.world[0], m.parameters[0]
    row = w.sequence & (len(m.requests) - 1)
    q = m.requests[row]
    if p.closed:
        q.client = m.send_owners[ROOT]
        set_time(m.send_times_s, m.send_owners, q.client, math.inf)
        k = m.sent_counts[q.client]
        m.sent_counts[q.client] = k + 1
        q.number = q.client * 1_000_000_000 + k
        q.photo = m.photo_order[q.client, k % m.photo_order.shape[1]]
    else:
        q.client = 0
        q.number = w.sequence
        q.photo = m.photo_order[0, w.photo_index]
        w.photo_index = w.photo_index + 1 if w.photo_index + 1 < m.photo_order.shape[1] else 0
        w.due_index += 1
    q.intended_s = w.now_s
    q.answered = 0
    q.replica = -1
    q.queue_s = 0.0
    q.inference_s = 0.0
    q.calls = 0
    if len(m.stations) > 1:
        q.calls = m.call_counts[q.photo, random_index(m.rng_state, m.call_counts.shape[1])]
    w.sequence += 1
    if not admit(m, row, FRONT):
        q.state = layout.REJECTED
        q.answered = 1
        complete(m, row, layout.REFUSED)


@inlined
def _end_service(m: Memory, r: int) -> None:
    """A replica has finished its work: the request is answered, makes its next call, or continues after one."""
    w, replica = m.world[0], m.replicas[r]
    row = replica.request
    q = m.requests[row]
    replica.cpu_s += replica.work_s
    replica.work_s = layout.NO_WORK
    q.inference_s += w.now_s - replica.clock_s
    if replica.station != FRONT:
        release(m, r)
        start_work(m, q.replica, 0.0, draw_work_s(m, FRONT, q.photo))  # the calling front replica continues
        q.state = layout.IN_SERVICE
        q.station = FRONT
        return
    if q.calls > 0:
        q.calls -= 1
        q.state = layout.AWAITING_CALL
        if admit(m, row, FRONT + 1):
            return
        q.state = layout.DONE  # a refused call refuses the request
        release(m, r)
        if not q.answered:
            q.answered = 1
            complete(m, row, layout.REFUSED)
        return
    q.state = layout.DONE
    release(m, r)
    if not q.answered:
        q.answered = 1
        complete(m, row, layout.OK)


@inlined
def _time_out(m: Memory) -> None:
    row = m.world[0].oldest_unanswered & (len(m.requests) - 1)
    m.requests[row].answered = 1
    complete(m, row, layout.TIMED_OUT)
