"""CPU time under a CFS quota, in closed form (Linux, sched/fair.c: bandwidth control; cpu.max or cfs_quota_us).

In each period of ``period_s`` a group may run for ``quota_cores * period_s``; then it stands still until the next one
begins. One thread runs at most as fast as the clock. So the end of a piece of work follows from its start, what the
group has used of the present period, and nothing else. What is left out: slices of 5 ms that a CPU may keep beyond a
period, and waiting for a core.
"""

from __future__ import annotations

import math

from mlscale_twin.compiled import inlined

_EPSILON_S = 1e-12


@inlined
def finish(
    began_s: float, work_s: float, phase_s: float, period: int, used_s: float, quota_cores: float, period_s: float
) -> tuple[float, int, float]:
    """When work that begins now is done: (time, the period it ends in, what was used of that one then).

    Args:
        phase_s: when period 0 began. period, used_s: the last period in which the group ran, and for how long.
        quota_cores: below 1; from 1 on one thread is never stopped.
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
    full = math.ceil(left_s / share_s - 1e-9) - 1  # periods that it uses up before its last one
    rest_s = left_s - full * share_s
    return ends_s + full * period_s + rest_s, now + 1 + full, rest_s


@inlined
def done_by(
    t_s: float,
    began_s: float,
    work_s: float,
    phase_s: float,
    period: int,
    used_s: float,
    quota_cores: float,
    period_s: float,
) -> float:
    """How much of the work that began at ``began_s`` is done at ``t_s``, CPU s; arguments as for `finish`."""
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
def runs_from(
    t_s: float, began_s: float, phase_s: float, period: int, used_s: float, quota_cores: float, period_s: float
) -> float:
    """When a group runs that would like to at ``t_s``: then, or, where its quota is used up, in its next period.

    Args:
        began_s: since when it has been at work without a rest; infinite where it is not.
        period, used_s: the last period in which it ran before, and for how long; a later one than that of ``t_s``: what
            it does since then has used up this one.
    """
    if quota_cores >= 1.0:
        return t_s
    now = math.floor((t_s - phase_s) / period_s)
    used = used_s if now == period else (period_s if period > now else 0.0)
    used += max(0.0, t_s - max(began_s, phase_s + now * period_s))
    return t_s if used < quota_cores * period_s - _EPSILON_S else phase_s + (now + 1) * period_s
