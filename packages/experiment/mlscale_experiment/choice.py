"""What a pilot chooses for a given model on a given host, and why, or what it refuses. Pure functions (METHOD §5).

Nothing can be chosen about the model, so quota, replicas, clients and times are fitted to it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mlscale.measurement.model_load import quotas_for
from mlscale.measurement.sizing import MOST_LOAD_CORES, MOST_OF_HOST, PERIOD_S, Demand, Host, Size, fit
from mlscale.measurement.trial import Cost
from mlscale.progress import duration
from mlscale.runs import MlscaleError

# Enough to see a framework scale.
MOST_REPLICAS: Final = 4
# A quota is avoided with which the number of periods that an answer takes depends on a change of its work by so much of
# a period; from this many periods on, one more hardly matters.
_MARGIN, _MANY_PERIODS = 0.15, 5.0
# Further quotas that are tried around the preferred ones, cores.
_AROUND_CORES: Final = (0.0, -0.02, -0.04, 0.02)
# Smaller quotas are taken only where larger ones don't fit: starts take too long with them.
_SMALL_CORES, LEAST_QUOTA_CORES = 0.2, 0.05
# How long the step is watched: so many times the slowest start, and so many answers of a replica.
STARTS, _ANSWERS = 2.5, 20.0
SHORTEST_S, LONGEST_S = 60.0, 900.0
# The same for a first look.
_QUICK_STARTS, _QUICK_ANSWERS, _QUICK_MORE_S, _QUICK_LONGEST_S = 1.2, 10.0, 20.0, 300.0
_BASELINE_S, _TURNS, _QUICK_BASELINE_S, _QUICK_TURNS = 30.0, 12.0, 15.0, 6.0
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class Choice:
    """``size``: replicas, quota, clients, think time, L; ``at_edge``: no quota keeps an answer away from the edge of a
    period; ``why``: field of the protocol -> where its number comes from."""

    size: Size
    at_edge: bool
    baseline_s: float
    horizon_s: float
    quick_baseline_s: float
    quick_duration_s: float
    timeout_s: float
    why: Mapping[str, str]


def refuse(
    cost: Cost, *, equality: bool, cores: float, memory_bytes: float, application: str, quotas: bool = True
) -> None:
    """Raise MlscaleError for a model that no experiment on this host can measure, with the way out.

    Args:
        equality: right answers are those that equal a label.
        cores, memory_bytes: the host's.
        quotas: whether a replica's CPU is limited here; else one of several threads takes it from all others.
    """
    if equality and not cost.alike:
        what = (
            "it answers the same body differently from call to call, so that equality with labels.jsonl means nothing"
        )
        raise MlscaleError(what, application, "fix its seed, or name application.check: module:function, or none")
    if cost.memory_bytes * 2 > memory_bytes:
        what = f"a replica takes {cost.memory_bytes / 2**30:.1f} GB of this host's {memory_bytes / 2**30:.1f} GB"
        raise MlscaleError(f"{what}: two would not fit", application, "use a smaller model, or a host with more memory")
    if not quotas and _threads(cost) > max(1.0, MOST_OF_HOST * cores):
        what = f"an answer keeps {_threads(cost):.1f} of {cores:g} cores busy at once, and no quota limits it here"
        raise MlscaleError(what, application, "limit its threads (torch.set_num_threads(1)), or use a larger host")


def _threads(cost: Cost) -> float:
    """Cores that an answer keeps busy at once."""
    return cost.cpu_s / max(cost.wall_s, 1e-9)


def choose(
    cost: Cost,
    demands: Mapping[str, Demand],
    host: Host,
    start_s: Mapping[str, float],
    level_s: float | None = None,
) -> Choice:
    """Quota, replicas, load and times for a model.

    Args:
        cost: what the trial measured.
        demands: what an answer demands of each environment beside the model.
        start_s: of a replica under its quota, by environment, s.
        level_s: L, if the user gave one.
    Raises:
        MlscaleError: too few replicas fit this host, or the load generator can't send what would be needed.
    """

    def model_s(quota_cores: float) -> float:
        return max(cost.cpu_s, quota_cores * cost.wall_s)  # a model that waits keeps its replica, too

    _check_sendable(cost, demands, host)
    preferred = quotas_for(cost.cpu_s)
    candidates = [round(quota + more, 2) for quota in preferred for more in _AROUND_CORES]
    tried = sorted(
        dict.fromkeys(quota for quota in candidates if quota >= LEAST_QUOTA_CORES),
        key=lambda quota: (
            quota < _SMALL_CORES,
            edge(cost, demands, quota),
            preferred.index(min(preferred, key=lambda each: abs(each - quota))),
        ),
    )
    size = fit(demands, host, model_s, tried, MOST_REPLICAS)
    service_s = max(size.model_s + demand.own_s for demand in demands.values()) / size.quota_cores
    slowest_s = max(start_s.values())
    turn_s = (size.think_s + service_s) / size.baseline_clients
    horizon_s = min(max(SHORTEST_S, STARTS * slowest_s, _ANSWERS * service_s), LONGEST_S)
    quick_baseline_s = max(_QUICK_BASELINE_S, _QUICK_TURNS * turn_s)
    watched_s = max(45.0, _QUICK_STARTS * slowest_s + _QUICK_ANSWERS * service_s + _QUICK_MORE_S)
    chosen = Choice(
        size=size if level_s is None else replace(size, level_s=level_s),
        at_edge=edge(cost, demands, size.quota_cores),
        baseline_s=float(math.ceil(max(_BASELINE_S, _TURNS * turn_s))),
        horizon_s=float(math.ceil(horizon_s)),
        quick_baseline_s=float(math.ceil(quick_baseline_s)),
        quick_duration_s=float(math.ceil(quick_baseline_s + min(watched_s, _QUICK_LONGEST_S))),
        timeout_s=max(_TIMEOUT_S, 10.0 * math.ceil(1.5 * size.clients * service_s / 10)),
        why={},
    )
    return replace(chosen, why=_why(chosen, cost, demands, host, start_s, level_s))


def edge(cost: Cost, demands: Mapping[str, Demand], quota_cores: float) -> bool:
    """Whether, in some environment, a small change of an answer's work changes how many quota periods it takes."""
    share_s = quota_cores * PERIOD_S
    for demand in demands.values():
        low, high = ((each + demand.own_s) / share_s for each in _spread(cost))
        if low < _MANY_PERIODS and math.floor(high + _MARGIN) > math.floor(low - _MARGIN) and high + _MARGIN >= 1:
            return True
    return False


def _spread(cost: Cost) -> tuple[float, float]:
    """CPU of the cheapest and the dearest body, s."""
    return (cost.low_s, cost.high_s) if math.isfinite(cost.low_s) else (cost.cpu_s, cost.cpu_s)


def _check_sendable(cost: Cost, demands: Mapping[str, Demand], host: Host) -> None:
    """Raise MlscaleError for a model so cheap that the load generator could not make one replica busy."""
    cheapest = min(demands, key=lambda name: demands[name].own_s)
    answer_s = max(cost.cpu_s, cost.wall_s * LEAST_QUOTA_CORES) + demands[cheapest].own_s
    rate_rps = 3 * quotas_for(cost.cpu_s)[-1] / answer_s
    if rate_rps * host.load_s > MOST_LOAD_CORES:
        what = (
            f"an answer costs {_time(answer_s)} of CPU on {cheapest}: three of the smallest replicas take "
            f"{rate_rps:.0f} requests/s, more than the load generator can send beside them "
            f"({MOST_LOAD_CORES / host.load_s:.0f}/s)"
        )
        raise MlscaleError(
            what, "pilot", "let a request carry more work, such as a batch, or use a host with more cores"
        )


def _why(
    chosen: Choice,
    cost: Cost,
    demands: Mapping[str, Demand],
    host: Host,
    start_s: Mapping[str, float],
    level_s: float | None,
) -> dict[str, str]:
    size = chosen.size
    dearest = max(size.forecast_cores, key=lambda name: size.forecast_cores[name])
    cores = size.forecast_cores[dearest]
    periods = sorted((cost.cpu_s + each.own_s) / (size.quota_cores * PERIOD_S) for each in demands.values())
    waits = f", of which it waits {_time(cost.wall_s - cost.cpu_s)}" if cost.wall_s > 1.1 * cost.cpu_s else ""
    if _threads(cost) > 1.2:
        waits = f", and keeps {_threads(cost):.1f} of them busy at once"
    return {
        "application": f"an answer of the model alone takes {_time(cost.wall_s)} on whole cores{waits}"
        + (f" ({_time(cost.low_s)} to {_time(cost.high_s)} of CPU by body)" if cost.high_s > 0 else "")
        + (f"; the very first one {_time(cost.first_s)}" if cost.first_s > 2 * cost.wall_s + 0.01 else "")
        + (f"; {cost.body_bytes:,.0f} bytes in, {cost.answer_bytes:,.0f} out" if cost.body_bytes > 0 else ""),
        "cpu_cores": f"{size.quota_cores:g} core a replica: an answer takes {periods[0]:.2f} to {periods[-1]:.2f} "
        "times what a period of 100 ms gives"
        + (
            "; no quota keeps every answer away from the edge of a period, so repeat it with another period "
            "(cells: [core, sensitivity])"
            if chosen.at_edge
            else ""
        ),
        "replicas": f"{size.replicas} replicas: {dearest}, the most expensive, is forecast to use {cores:.2f} of "
        f"{host.cores:g} cores at full load, with everything around it (at most {MOST_OF_HOST:.0%})",
        "think_mean_s": f"clients think {size.think_s:g} s, so that {size.baseline_clients} of them keep "
        f"{_range(size.baseline_use.values())} of one replica busy",
        "step_clients": f"{size.clients} clients after the step, who ask for {_range(size.step_replicas.values())} "
        "replicas" + _overload(size),
        "horizon_s": f"the step is watched for {chosen.horizon_s:g} s: {STARTS:g} times the slowest start "
        f"({max(start_s, key=lambda name: start_s[name])}, {max(start_s.values()):.0f} s), within "
        f"{SHORTEST_S:g} to {LONGEST_S:g} s",
        "level_s": f"L = {size.level_s:g} s: "
        + (
            "as given"
            if level_s is not None
            else "the mean response of those clients on all replicas, if requests went to one at random and took "
            "exponential times, rounded up to 50 ms"
        ),
    }


def _overload(size: Size) -> str:
    """Which environments stay overloaded, if any."""
    names = [name for name, replicas in size.step_replicas.items() if replicas > size.replicas]
    return f"; {', '.join(names)} stays overloaded: with fewer, others would not scale" if names else ""


def check_hours(left_s: float, at_most_h: float, blocks: int, per_block_s: float) -> None:
    """Raise MlscaleError where an experiment takes longer than was allowed; says how many blocks would fit."""
    if left_s <= at_most_h * 3600:
        return
    fits = int(at_most_h * 3600 // per_block_s) if per_block_s > 0 else 0
    remedy = (
        f"--blocks {fits}, or at_most_h: {math.ceil(left_s / 3600)}"
        if fits
        else f"at_most_h: {math.ceil(left_s / 3600)}"
    )
    raise MlscaleError(
        f"{blocks} blocks take {duration(left_s)}, {at_most_h:g} h are allowed", "experiment.yaml: at_most_h", remedy
    )


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def _range(values: Any) -> str:
    low, high = (f"{value:.2f}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"
