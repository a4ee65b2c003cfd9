"""The compiled core of the twin: processes requests event by event until a given time.

It allocates nothing, and only service times and random routing are random. Between two calls, Python adds and removes
replicas (`fleet`), reads what the autoscalers observe, and refills exhausted arrays.
"""

from __future__ import annotations

import math

from mlscale_twin import layout as lay
from mlscale_twin.answers import answer, past_answered, tidy
from mlscale_twin.compiled import compiled, inlined
from mlscale_twin.earliest import TOP, put
from mlscale_twin.generator import below
from mlscale_twin.memory import Arrays, Memory, memory_of
from mlscale_twin.router import act_next, next_act_s, was_asked
from mlscale_twin.routing import join
from mlscale_twin.serving import FRONT, drawn, free, work


@compiled
def advance(until_s: float, last_due: bool, arrays: Arrays) -> int:
    """Advances the clock to ``until_s``.

    Args:
        last_due: whether the given send times are the last.
        arrays: a `Memory` as a plain tuple, which makes a call from Python much faster.

    Returns:
        `layout.RUNNING` at ``until_s``, or what has to be refilled before it can continue.
    """
    m = memory_of(arrays)
    w, p = m.world[0], m.parameters[0]
    size = len(m.requests)
    while True:
        if w.rows + 2 > len(m.rows):
            return lay.MORE_ROWS
        if not p.closed and w.due_at == len(m.due_s) and not last_due:
            return lay.MORE_DUE
        ended_s, sent_s, given_up_s, acts_s = _next_end(m), _next_send(m), _next_give_up(m), next_act_s(m)
        now_s = min(ended_s, sent_s, given_up_s, acts_s)
        if now_s > until_s:
            _pass(m, until_s)
            return lay.RUNNING
        if sent_s == now_s and w.sequence - w.oldest >= size:
            tidy(m)
            if w.sequence - w.oldest >= size:
                return lay.MORE_ROOM
        _pass(m, now_s)
        if ended_s == now_s:
            r = m.ends[TOP]
            if p.polled and was_asked(m, r):
                continue
            _end(m, r)
            if m.replicas[r].work_s == lay.NO_WORK:
                put(m.ends_s, m.ends, r, math.inf)
        elif sent_s == now_s:
            _send(m)
        elif acts_s == now_s:
            act_next(m, now_s)
        else:
            _give_up(m)


@inlined
def _next_end(m: Memory) -> float:
    """Earliest end of a service, as known now."""
    w, p = m.world[0], m.parameters[0]
    if p.cpu != lay.SHARED_CORES or w.active == 0:
        return m.ends_s[TOP]
    return w.now_s + max(0.0, m.ends_s[TOP] - w.virtual_s) / min(1.0, p.cores / w.active)


@inlined
def _next_send(m: Memory) -> float:
    w = m.world[0]
    if m.parameters[0].closed:
        return m.sends_s[TOP]
    return m.due_s[w.due_at] if w.due_at < len(m.due_s) else math.inf


@inlined
def _next_give_up(m: Memory) -> float:
    """Time at which the next client gives up: in sending order, since all have the same timeout."""
    w = m.world[0]
    if m.parameters[0].timeout_s == math.inf:
        return math.inf
    past_answered(m)
    if w.oldest_unanswered == w.sequence:
        return math.inf
    return m.requests[w.oldest_unanswered & (len(m.requests) - 1)].intended_s + m.parameters[0].timeout_s


@inlined
def _pass(m: Memory, t_s: float) -> None:
    """Advances the clock to ``t_s``, before which nothing happens."""
    w, p = m.world[0], m.parameters[0]
    elapsed_s = t_s - w.now_s
    for place in range(len(m.stations)):
        m.stations[place].ongoing_integral += m.stations[place].ongoing * elapsed_s
    if p.cpu == lay.SHARED_CORES and w.active > 0:
        w.virtual_s += elapsed_s * min(1.0, p.cores / w.active)
    w.now_s = t_s


@inlined
def _send(m: Memory) -> None:
    """The next request leaves its client and arrives at the front component."""
    w, p = m.world[0], m.parameters[0]
    row = w.sequence & (len(m.requests) - 1)
    q = m.requests[row]
    if p.closed:
        q.client = m.sends[TOP]
        put(m.sends_s, m.sends, q.client, math.inf)
        k = m.sent[q.client]
        m.sent[q.client] = k + 1
        q.number = q.client * 1_000_000_000 + k
        q.photo = m.order[q.client, k % m.order.shape[1]]
    else:
        q.client = 0
        q.number = w.sequence
        q.photo = m.order[0, w.photo_at]
        w.photo_at = w.photo_at + 1 if w.photo_at + 1 < m.order.shape[1] else 0
        w.due_at += 1
    q.intended_s = w.now_s
    q.answered = 0
    q.replica = -1
    q.queue_s = 0.0
    q.inference_s = 0.0
    q.calls = 0
    if len(m.stations) > 1:
        q.calls = m.calls[q.photo, below(m.words, m.calls.shape[1])]
    w.sequence += 1
    if not join(m, row, FRONT):
        q.state = lay.REJECTED
        q.answered = 1
        answer(m, row, lay.REFUSED)


@inlined
def _end(m: Memory, r: int) -> None:
    """A replica has finished its work: the request is answered, makes its next call, or continues after one."""
    w, p, replica = m.world[0], m.parameters[0], m.replicas[r]
    row = replica.request
    q = m.requests[row]
    replica.cpu_s += replica.work_s
    replica.work_s = lay.NO_WORK
    if p.cpu == lay.SHARED_CORES:
        w.active -= 1
    q.inference_s += w.now_s - replica.clock_s
    if replica.station != FRONT:
        free(m, r)
        work(m, q.replica, 0.0, drawn(m, FRONT, q.photo))  # its front replica goes on
        q.state = lay.SERVED
        q.station = FRONT
        return
    if q.calls > 0:
        q.calls -= 1
        q.state = lay.HELD
        if join(m, row, FRONT + 1):
            return
        q.state = lay.DONE  # the call was refused: so is the request
        free(m, r)
        if not q.answered:
            q.answered = 1
            answer(m, row, lay.REFUSED)
        return
    q.state = lay.DONE
    free(m, r)
    if not q.answered:
        q.answered = 1
        answer(m, row, lay.OK)


@inlined
def _give_up(m: Memory) -> None:
    row = m.world[0].oldest_unanswered & (len(m.requests) - 1)
    m.requests[row].answered = 1
    answer(m, row, lay.TIMED_OUT)
