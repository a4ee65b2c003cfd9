"""Elasticity after the SPEC RG (METHOD §3): how closely the number of replicas follows the number that is needed.

With demand d and supply s in replicas, over a time T:
    a_U = 1/T int max(d - s, 0) dt, a_O = 1/T int max(s - d, 0) dt   (accuracy: replicas too few, too many)
    t_U, t_O = share of the time with s < d, with s > d              (timeshare)
    jitter = (E_S - E_D) / T                                         (changes of supply less changes of demand)
Source: N. R. Herbst, S. Kounev, R. Reussner, ICAC 2013, 23-27, as extended by the SPEC RG Cloud ("Ready for rain?",
2016).
"""

from __future__ import annotations

from typing import Final

import numpy as np

from mlscale.analysis.components import replicas_in_all, value_at
from mlscale.analysis.durations import Floats, right_answers
from mlscale.analysis.moving import WINDOW_S
from mlscale.analysis.provisioning import new_replicas_needed
from mlscale.analysis.queues import open_response_s
from mlscale.analysis.resources import cpu_s_by_role
from mlscale.analysis.steady import caught_up_s
from mlscale.analysis.summary import span
from mlscale.runs import ClosedLoop, Run

_BIN_S: Final = 10.0
_MOST: Final = 256


def elasticity(run: Run, level_s: float) -> dict[str, float]:
    """Of the time that is compared (`summary.span`), by names for a table. Empty: an application in components, no CPU
    samples, no answers.

    The demand at a moment is the fewest replicas with which M/M/c answers within ``level_s`` on average, at the rate
    that the load asks for and the service time that the run shows: a replica's CPU per answer over its quota, once it
    has caught up (if it does), since replicas that start use CPU, too, and answer nothing.
    """
    from_s, to_s = span(run)
    if len(run.info.scaling) != 1 or run.replicas.empty:
        return {}
    (scaling,) = run.info.scaling.values()
    serving_s = _serving_from_s(run, from_s, to_s)
    cpu_s = cpu_s_by_role(run.resources, serving_s, to_s)
    right = right_answers(run.requests.assign(ok=run.requests["status"] == "ok"), serving_s, to_s)
    if "replica" not in cpu_s.index or not right:
        return {}
    service_s = float(cpu_s["replica"]) / right / min(float(scaling["cpu_cores"]), 1.0)
    times, rates = _rates(run, level_s)
    demand = np.array([needed_replicas(float(rate), service_s, level_s) for rate in rates], dtype=float)
    supply = replicas_in_all(run.replicas)
    return of_steps(times, demand, supply["t_s"].to_numpy(float), supply["ready"].to_numpy(float), from_s, to_s)


def _serving_from_s(run: Run, from_s: float, to_s: float) -> float:
    """When the last needed new replica was ready; ``from_s`` without a step, or where that is too late."""
    if run.info.step_s is None:
        return from_s
    horizon_s = to_s - from_s
    caught_s = caught_up_s(run, from_s, horizon_s, new_replicas_needed(run, from_s, from_s + horizon_s))
    return from_s + caught_s if caught_s <= horizon_s - WINDOW_S else from_s


def needed_replicas(rate_rps: float, service_s: float, level_s: float) -> int:
    """The fewest servers with which M/M/c answers within ``level_s`` on average; where none do, since service alone
    takes longer, those that are busy 70 % of the time."""
    if service_s >= level_s:
        return max(1, int(np.ceil(rate_rps * service_s / 0.7)))
    enough = (count for count in range(1, _MOST) if open_response_s(count, rate_rps, service_s) <= level_s)
    return next(enough, _MOST)


def of_steps(
    demand_t: Floats, demand: Floats, supply_t: Floats, supply: Floats, from_s: float, to_s: float
) -> dict[str, float]:
    """Of two step functions (a value holds until the next time) over [from_s, to_s]: replicas too few and too many on
    average; the same as shares of the time; changes. Before its first sample a function has its first value."""
    edges = np.unique(np.clip(np.concatenate([demand_t, supply_t, [from_s, to_s]]), from_s, to_s))
    starts, widths = edges[:-1], np.diff(edges)
    d, s = value_at(demand_t, demand, starts), value_at(supply_t, supply, starts)
    total_s = to_s - from_s
    changes = np.count_nonzero(np.diff(s)) - np.count_nonzero(np.diff(d))
    return {
        "replicas too few": float(np.sum(np.maximum(d - s, 0) * widths) / total_s),
        "too many": float(np.sum(np.maximum(s - d, 0) * widths) / total_s),
        "time with too few (%)": 100 * float(np.sum(widths[s < d]) / total_s),
        "with too many (%)": 100 * float(np.sum(widths[s > d]) / total_s),
        "jitter (1/min)": float(60 * changes / total_s),
    }


def _rates(run: Run, level_s: float) -> tuple[Floats, Floats]:
    """Times (s) and the rates from them on that the load asks for (requests/s): its constant levels, else what was sent
    in each 10 s. A closed loop's clients ask for what they would send if every answer took ``level_s`` (interactive
    response time law)."""
    schedule = run.info.schedule
    levels = np.array(schedule.levels)
    if np.isfinite(levels).all():
        cycle_s = schedule.think_mean_s + level_s if isinstance(schedule, ClosedLoop) else 1.0
        return np.array(schedule.boundaries_s), levels / cycle_s
    edges = np.arange(0.0, schedule.duration_s + _BIN_S, _BIN_S)
    counts, _ = np.histogram(run.requests["intended_s"].to_numpy(float), edges)
    return edges[:-1], counts / _BIN_S
