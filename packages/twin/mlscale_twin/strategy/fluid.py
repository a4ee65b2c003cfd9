"""A day of traffic under a thousand settings in seconds: the first, approximate stage of the search.

Time advances in seconds. Requests flow like a fluid. They wait for a backlog; without one, they wait at random, by
Sakasegawa's approximation for several servers (An approximation formula L_q = alpha * rho^beta / (1 - rho), Ann. Inst.
Stat. Math. 29, 1977) with an exponential tail. Control loops apply the rules of `mlscale_twin.policies` once per
period, at phase 0; replicas and machines take their mean time to start. The twin repeats what this finds best.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import numpy.typing as npt
from numba import njit

Records = npt.NDArray[np.void]
Floats = npt.NDArray[np.float64]

# Control loops: none; requests in flight that exceed a target for a delay (Ray Serve, the worker controller); the ratio
# of a metric to its target (the HPA); alarms (target tracking).
FIXED, DELAYED, RATIO, TRACKING = range(4)
# Metrics: requests in flight per replica, or the share of the quota in use.
IN_FLIGHT, CPU = range(2)
# Longest time until a replica or machine is ready, s.
RING: Final = 1024
# An HPA's recent recommendations, and an alarm's recent values, at most.
_RECOMMENDATIONS: Final = 256
_VALUES: Final = 64

# One record per strategy. late_s: age of a metric when it is known; up_s, down_s: delays, windows or cooldowns;
# per_machine: replicas that fit on a machine (0: machines do not scale); kept_free: replicas that capacity is kept free
# for; pooled: one queue for all replicas, else one for each; light_s, busy_s: service time on an idle replica, and on
# one that is never idle; waiting: requests that may wait (pooled: in all; else per replica).
SETTINGS: Final = np.dtype(
    [
        ("loop", "i8"),
        ("metric", "i8"),
        ("least", "i8"),
        ("most", "i8"),
        ("target", "f8"),
        ("period_s", "i8"),
        ("late_s", "i8"),
        ("up_s", "i8"),
        ("down_s", "i8"),
        ("tolerance", "f8"),
        ("out_points", "i8"),
        ("in_points", "i8"),
        ("start_s", "i8"),
        ("per_machine", "i8"),
        ("boot_s", "i8"),
        ("removal_s", "i8"),
        ("kept_free", "i8"),
        ("pooled", "i8"),
        ("arrivals_cv2", "f8"),
        ("service_cv2", "f8"),
        ("light_s", "f8"),
        ("busy_s", "f8"),
        ("outside_s", "f8"),
        ("waiting", "f8"),
        ("timeout_s", "f8"),
    ],
    align=True,
)
# Sums over the counted requests (slow: those over the limit), and over all seconds (replica_s: replicas from their
# request to their end).
TOTALS: Final = np.dtype(
    [
        ("requests", "f8"),
        ("response_s", "f8"),
        ("squares_s2", "f8"),
        ("slow", "f8"),
        ("failed", "f8"),
        ("replica_s", "f8"),
        ("machine_s", "f8"),
        ("peak", "i8"),
    ],
    align=True,
)


def simulate(
    rates_rps: Floats,
    settings: Records,
    minimums: npt.NDArray[np.int64],
    *,
    part_s: int,
    limit_s: float,
    counted: npt.NDArray[np.bool_] | None = None,
) -> Records:
    """`TOTALS` of each strategy.

    Args:
        rates_rps: requests of each second, (n,).
        settings: `SETTINGS`, (k,).
        minimums: minimum of replicas in each ``part_s`` seconds of the trace, (k, m).
        limit_s: a request that takes longer is slow.
        counted: seconds whose requests are counted, (n,); None: all.
    """
    totals = np.zeros(len(settings), TOTALS)
    inside = np.ones(len(rates_rps), np.bool_) if counted is None else counted
    _simulate(rates_rps, inside, minimums, part_s, limit_s, settings, totals)
    return totals


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def _simulate(
    rates_rps: Floats,
    counted: npt.NDArray[np.bool_],
    minimums: npt.NDArray[np.int64],
    part_s: int,
    limit_s: float,
    settings: Records,
    totals: Records,
) -> None:
    starting = np.zeros(RING, np.int64)
    booting = np.zeros(RING, np.int64)
    recommendations = np.zeros(_RECOMMENDATIONS, np.int64)
    values = np.zeros(_VALUES, np.float64)
    for place in range(len(settings)):
        p, out = settings[place], totals[place]
        starting[:] = 0
        booting[:] = 0
        ready = total = desired = max(p.least, minimums[place, 0])
        requested = registered = 0  # machines
        if p.per_machine > 0:
            requested = registered = math.ceil((total + p.kept_free) / p.per_machine)
        queue = 0.0
        up_for = down_for = surplus_for = 0
        metric_sum, metric_n = 0.0, 0
        syncs = periods = 0
        out_cooldown_until = in_cooldown_until = 0.0
        for t in range(len(rates_rps)):
            rate = rates_rps[t]
            ready += starting[t % RING]
            starting[t % RING] = 0
            registered += booting[t % RING]
            booting[t % RING] = 0

            # Requests served, left in the queue, and refused.
            capacity = ready / p.busy_s
            served = min(queue + rate, capacity)
            left = queue + rate - served
            refused = max(0.0, left - (p.waiting if p.pooled == 1 else p.waiting * ready))
            left -= refused
            used = served / capacity if capacity > 0 else 1.0

            # Response time: mean, variance and the share over the limit.
            servers = float(max(ready, 1)) if p.pooled == 1 else 1.0
            busy = min(used, 0.98)
            waits, tail_s = random_wait(busy, servers, p.busy_s, p.arrivals_cv2, p.service_cv2)
            backlog_s = 0.5 * (queue + left) / capacity if capacity > 0 else p.timeout_s
            if left > 0.0:  # a backlog determines the wait; chance adds little
                waits = 0.0
            service_s = p.light_s + (p.busy_s - p.light_s) * busy
            mean_s = min(p.outside_s + service_s + backlog_s + waits * tail_s, p.timeout_s)
            variance = p.service_cv2 * service_s**2 + waits * (2.0 - waits) * tail_s**2
            left_s = limit_s - p.outside_s - service_s - backlog_s
            slow = share_late(left_s, service_s, p.service_cv2, waits, tail_s)
            lost = max(refused, rate) if backlog_s >= p.timeout_s else refused
            lost_share = min(1.0, lost / rate) if rate > 0.0 else 0.0
            mean_s += lost_share * (p.timeout_s - mean_s)
            if counted[t]:
                out.requests += rate
                out.response_s += rate * mean_s
                out.squares_s2 += rate * (mean_s**2 + variance)
                out.slow += rate * max(slow, lost_share)
                out.failed += rate * lost_share
            out.replica_s += total
            out.machine_s += requested
            out.peak = max(out.peak, total)
            queue = left
            in_flight = left + rate * (service_s + waits * tail_s)

            # The control loop.
            least = max(p.least, minimums[place, min(t // part_s, minimums.shape[1] - 1)])
            wanted = desired
            metric_sum += used if p.metric == CPU else in_flight
            metric_n += 1
            if p.loop == DELAYED:
                needed = min(max(math.ceil(in_flight / p.target - 1e-9), least), p.most)
                up_for = up_for + 1 if needed > desired else 0
                down_for = down_for + 1 if needed < desired else 0
                if up_for > p.up_s or down_for > p.down_s:
                    wanted, up_for, down_for = needed, 0, 0
            elif p.period_s > 0 and (t + 1) % p.period_s == 0:
                metric = metric_sum / metric_n
                metric_sum, metric_n = 0.0, 0
                if p.loop == RATIO:
                    ratio = metric / p.target if p.metric == CPU else in_flight / (p.target * desired)
                    needed = math.ceil((ready if p.metric == CPU else desired) * ratio - 1e-9)
                    if abs(ratio - 1.0) <= p.tolerance:
                        needed = desired
                    recommendations[syncs % _RECOMMENDATIONS] = needed
                    syncs += 1
                    if needed > desired:
                        wanted = min(needed, max(2 * desired, desired + 4))
                    else:
                        highest = needed
                        for back in range(1, min(syncs, p.down_s // p.period_s + 1, _RECOMMENDATIONS)):
                            highest = max(highest, recommendations[(syncs - 1 - back) % _RECOMMENDATIONS])
                        wanted = min(desired, highest)
                elif p.loop == TRACKING:
                    values[periods % _VALUES] = 100.0 * metric if p.metric == CPU else metric / max(ready, 1)
                    periods += 1
            if p.loop == TRACKING and (t + 1 - p.late_s) % p.period_s == 0:
                known = (t + 1 - p.late_s) // p.period_s
                if known > periods - _VALUES and known >= p.out_points:
                    above = below = True
                    for back in range(p.out_points):
                        above = above and values[(known - 1 - back) % _VALUES] > p.target
                    for back in range(p.in_points):
                        below = below and back < known and values[(known - 1 - back) % _VALUES] < 0.9 * p.target
                    needed = math.ceil(desired * values[(known - 1) % _VALUES] / p.target - 1e-9)
                    if above and needed > desired and t >= out_cooldown_until:
                        wanted, out_cooldown_until = needed, t + p.up_s
                    elif below and known >= p.in_points and needed < desired and t >= in_cooldown_until:
                        wanted, in_cooldown_until = needed, t + p.down_s
            desired = min(max(wanted, least), max(p.most, least))

            # Replicas and machines follow.
            if desired > total:
                more = desired - total
                at_once = more
                if p.per_machine > 0:
                    at_once = min(more, max(0, registered * p.per_machine - total))
                    needed = math.ceil((desired + p.kept_free) / p.per_machine)
                    if needed > requested:
                        booting[(t + max(1, p.boot_s)) % RING] += needed - requested
                        requested = needed
                starting[(t + max(1, p.start_s)) % RING] += at_once
                starting[(t + max(1, min(p.start_s + p.boot_s, RING - 1))) % RING] += more - at_once
            elif desired < total:
                surplus = total - desired
                back = RING - 1
                while surplus > 0 and back > 0:  # the newest first
                    removed = min(surplus, starting[(t + back) % RING])
                    starting[(t + back) % RING] -= removed
                    surplus -= removed
                    back -= 1
                ready -= surplus
            total = desired
            if p.per_machine > 0:
                needed = max(1, math.ceil((total + p.kept_free) / p.per_machine))
                surplus_for = surplus_for + 1 if needed < requested else 0
                if surplus_for > p.removal_s:
                    requested, registered, surplus_for = needed, min(registered, needed), 0


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def random_wait(
    busy: float, servers: float, busy_s: float, arrivals_cv2: float, service_cv2: float
) -> tuple[float, float]:
    """Share of requests that wait without a backlog, and the mean of their wait, s (Sakasegawa)."""
    waits = busy ** (math.sqrt(2.0 * (servers + 1.0)) - 1.0)
    return waits, busy_s * (arrivals_cv2 + service_cv2) / 2.0 / (servers * (1.0 - busy))


@njit(cache=True, error_model="numpy")  # type: ignore[untyped-decorator]
def share_late(left_s: float, service_s: float, service_cv2: float, waits: float, tail_s: float) -> float:
    """Share of requests whose service (about normal) or random wait takes longer than is left of the limit.

    Args:
        left_s: of the limit, after everything else. waits: share of requests that wait; tail_s: mean of their wait.
    """
    spread_s = max(math.sqrt(service_cv2) * service_s, 1e-9)
    late = 1.0 / (1.0 + math.exp(min(max(1.702 * left_s / spread_s, -50.0), 50.0)))
    if left_s > 0.0 and waits > 0.0:
        late = 1.0 - (1.0 - late) * (1.0 - waits * math.exp(-left_s / tail_s))
    return late
