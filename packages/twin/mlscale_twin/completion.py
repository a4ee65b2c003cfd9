"""The end of a request for its client, and what is recorded of it."""

from __future__ import annotations

import math

import numpy as np

from mlscale_twin import layout
from mlscale_twin.compiled import inlined
from mlscale_twin.memory import Memory
from mlscale_twin.tournament import set_time


@inlined
def complete(m: Memory, row: int, status: int) -> None:
    """Ends a request for its client, which thinks and then sends again while it is active."""
    w, p, q = m.world[0], m.parameters[0], m.requests[row]
    done_s = w.now_s + (p.overhead_s if status == layout.OK else 0.0)
    if q.intended_s >= p.begin_s:
        _add_statistics(m, status, done_s - q.intended_s)
    if p.records:
        out = m.rows[w.rows]
        out.number, out.client, out.photo, out.status = q.number, q.client, q.photo, status
        out.intended_s, out.done_s = q.intended_s, done_s
        answered = status == layout.OK
        out.replica = m.replicas[q.replica].serial if answered else -1
        out.queue_s = q.queue_s if answered else math.nan
        out.inference_s = q.inference_s if answered else math.nan
        w.rows += 1
    if p.closed:
        next_s = done_s + m.think_times_s[q.client, (m.sent_counts[q.client] - 1) % m.think_times_s.shape[1]]
        for interval in range(m.active_to_s.shape[1]):
            if next_s < m.active_to_s[q.client, interval]:
                next_s = max(next_s, m.active_from_s[q.client, interval])
                set_time(m.send_times_s, m.send_owners, q.client, next_s)
                break


@inlined
def _add_statistics(m: Memory, status: int, response_s: float) -> None:
    t = m.totals[status]
    t.count += 1
    t.sum_s += response_s
    t.squares_s2 += response_s * response_s
    if status == layout.OK:
        bits = np.float64(response_s).view(np.int64)
        index = (bits >> layout.BIN_SHIFT) - layout.FIRST_BIN
        m.bins[0 if index < 0 else (index if index < layout.BINS else layout.BINS - 1)] += 1


@inlined
def skip_answered(m: Memory) -> None:
    """Advances ``oldest_unanswered`` to a request that its client still waits for."""
    w = m.world[0]
    while w.oldest_unanswered < w.sequence and m.requests[w.oldest_unanswered & (len(m.requests) - 1)].answered:
        w.oldest_unanswered += 1


@inlined
def release_rows(m: Memory) -> None:
    """Advances past requests that are over for both client and replica, and so frees their rows."""
    skip_answered(m)
    w = m.world[0]
    mask = len(m.requests) - 1
    while w.oldest < w.oldest_unanswered and m.requests[w.oldest & mask].state >= layout.DONE:
        w.oldest += 1
