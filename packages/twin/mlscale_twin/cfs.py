"""CPU time under a CFS quota, in closed form (Linux, sched/fair.c: bandwidth control; cpu.max or cfs_quota_us).

In each period of ``period_s`` a group may run for ``quota_cores * period_s``; then it is throttled until the next
period. One thread runs at most in real time. So the end of a piece of work follows from its start and what the group
has used of the current period. Not modelled: slices of 5 ms that a CPU may keep beyond a period, and waiting for a
core.
"""

from __future__ import annotations

import math

from mlscale_twin.compiled import inlined

_EPSILON_S = 1e-12


@inlined
def finish(
    began_s: float, work_s: float, phase_s: float, period: int, used_s: float, quota_cores: float, period_s: float
) -> tuple[float, int, float]:
    """End of work that starts now: (time, the period in which it ends, what is used of that period then).

    Args:
        phase_s: start of period 0. period, used_s: the last period in which the group ran, and for how long.
        quota_cores: below 1; from 1 on, one thread is never throttled.
    """
    if quota_cores >= 1.0:
        return began_s + work_s, period, used_s
    share_s = quota_cores * period_s
    now = math.floor((began_s - phase_s) / period_s)
    used = used_s if now == period else 0.0
    ends_s = phase_s + (now + 1) * period_s
    room_s = min(share_s - used, ends_s - began_s)
    if work_s <= room_s + _EPSILON_S:
        return began_s + work_s, now, used + work_s
    left_s = work_s - max(0.0, room_s)
    full = math.ceil(left_s / share_s - 1e-9) - 1  # periods used up before the last one
    rest_s = left_s - full * share_s
    return ends_s + full * period_s + rest_s, now + 1 + full, rest_s


@inlined
def work_done_s(
    t_s: float,
    began_s: float,
    work_s: float,
    phase_s: float,
    period: int,
    used_s: float,
    quota_cores: float,
    period_s: float,
) -> float:
    """Work done by ``t_s`` since ``began_s``, CPU s; arguments as for `finish`."""
    if t_s <= began_s:
        return 0.0
    if quota_cores >= 1.0:
        return min(work_s, t_s - began_s)
    share_s = quota_cores * period_s
    first = math.floor((began_s - phase_s) / period_s)
    used = used_s if first == period else 0.0
    ends_s = phase_s + (first + 1) * period_s
    room_s = max(0.0, min(share_s - used, ends_s - began_s))
    if t_s <= ends_s:
        return min(work_s, room_s, t_s - began_s)
    since_s = t_s - ends_s
    whole = math.floor(since_s / period_s)
    return min(work_s, room_s + whole * share_s + min(share_s, since_s - whole * period_s))


@inlined
def next_run_s(
    t_s: float, began_s: float, phase_s: float, period: int, used_s: float, quota_cores: float, period_s: float
) -> float:
    """When a group that is runnable at ``t_s`` runs: then or, if its quota is used up, in its next period.

    Args:
        began_s: start of its uninterrupted work; infinite if it is idle.
        period, used_s: the last period in which it ran before, and for how long; a period later than that of ``t_s``
            means that its work since then has used up this one.
    """
    if quota_cores >= 1.0:
        return t_s
    now = math.floor((t_s - phase_s) / period_s)
    used = used_s if now == period else (period_s if period > now else 0.0)
    used += max(0.0, t_s - max(began_s, phase_s + now * period_s))
    return t_s if used < quota_cores * period_s - _EPSILON_S else phase_s + (now + 1) * period_s
