"""How a request ends for its client, and what is recorded of it."""

from __future__ import annotations

import math

import numpy as np

from mlscale_twin import layout as lay
from mlscale_twin.compiled import inlined
from mlscale_twin.earliest import put
from mlscale_twin.memory import Memory


@inlined
def answer(m: Memory, row: int, status: int) -> None:
    """Ends a request for its client, which thinks and then sends again while it is active."""
    w, p, q = m.world[0], m.parameters[0], m.requests[row]
    done_s = w.now_s + (p.overhead_s if status == lay.OK else 0.0)
    if q.intended_s >= p.begin_s:
        _count(m, status, done_s - q.intended_s, q.queue_s)
    if p.records:
        out = m.rows[w.rows]
        out.number, out.client, out.photo, out.status = q.number, q.client, q.photo, status
        out.intended_s, out.done_s = q.intended_s, done_s
        answered = status == lay.OK
        out.replica = m.replicas[q.replica].serial if answered else -1
        out.queue_s = q.queue_s if answered else math.nan
        out.inference_s = q.inference_s if answered else math.nan
        w.rows += 1
    if p.closed:
        next_s = done_s + m.thinks_s[q.client, (m.sent[q.client] - 1) % m.thinks_s.shape[1]]
        for interval in range(m.to_s.shape[1]):
            if next_s < m.to_s[q.client, interval]:
                next_s = max(next_s, m.from_s[q.client, interval])
                put(m.sends_s, m.sends, q.client, next_s)
                break


@inlined
def _count(m: Memory, status: int, response_s: float, wait_s: float) -> None:
    t = m.totals[status]
    t.count += 1
    t.sum_s += response_s
    t.squares_s2 += response_s * response_s
    t.waits_s += wait_s
    if status == lay.OK:
        bits = np.float64(response_s).view(np.int64)
        place = (bits >> lay.BIN_SHIFT) - lay.FIRST_BIN
        m.bins[0 if place < 0 else (place if place < lay.BINS else lay.BINS - 1)] += 1


@inlined
def past_answered(m: Memory) -> None:
    """Advances ``oldest_unanswered`` to a request that its client still waits for."""
    w = m.world[0]
    while w.oldest_unanswered < w.sequence and m.requests[w.oldest_unanswered & (len(m.requests) - 1)].answered:
        w.oldest_unanswered += 1


@inlined
def tidy(m: Memory) -> None:
    """Advances past requests that are over for both client and replica, and so frees their rows."""
    past_answered(m)
    w = m.world[0]
    mask = len(m.requests) - 1
    while w.oldest < w.oldest_unanswered and m.requests[w.oldest & mask].state >= lay.DONE:
        w.oldest += 1
