"""From what an answer demands to a load that makes replicas scale on this host (METHOD §5). Pure functions.

The published protocol, the pilot of an experiment and the trial of a user's own model all size their load by `fit`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mlscale.runs import MlscaleError

# Forecast CPU of the most expensive environment at full load, as a share of the host's cores, at most.
MOST_OF_HOST: Final = 0.75
# CPU quotas of a replica, cores; the first with which `LEAST_REPLICAS` fit is taken.
QUOTAS: Final = (0.30, 0.25, 0.20, 0.15, 0.10)
PERIOD_S: Final = 0.1
LEAST_REPLICAS: Final = 3
MOST_REPLICAS: Final = 64
MOST_LOAD_CORES: Final = 0.6
MOST_MEMORY: Final = 0.6
BASELINE_CLIENTS: Final = 2
# Where an answer takes a replica longer than this, s, there is one client before the step: requests of two that overlap
# for longer than a controller looks back and waits (1.6 s in the arm matched) make it grow.
SLOW_S: Final = 0.5
# Of one replica, by the clients before the step.
UTILISATION: Final = (0.3, 0.4)
# Of all replicas, by the clients after the step.
DEMAND: Final = (2.2 / 3, 2.7 / 3)
# Of all replicas, in the environment where an answer costs most: more than all of them would never catch up.
MOST_DEMAND: Final = 0.95
# Replicas, in the environment where an answer costs least: with fewer, nothing has to scale there. Comes first.
LEAST_BUSY: Final = 1.3
_LEVEL_GRID_S: Final = 0.05
_PHASES: Final = 200


@dataclass(frozen=True)
class Demand:
    """What an answer demands of one environment, apart from the model: as a replica that is busy shows."""

    own_s: float
    """CPU of a replica for one answer, beside what the model takes, s."""
    data_plane_s: float
    """CPU of proxies and front ends for one answer, s."""
    control_cores: float
    """CPU of controllers, cores."""
    way_s: float
    """Part of a response that is neither waiting nor service, s."""
    memory_bytes: float
    """Resident memory of a replica."""
    start_s: float
    """From nothing to the first replica warmed up, s."""


@dataclass(frozen=True)
class Host:
    """``load_s``: CPU of the load generator for one request, s; ``other_cores``: what belongs to no part of a run."""

    cores: float
    memory_bytes: float
    load_s: float
    other_cores: float


@dataclass(frozen=True)
class Size:
    """What `fit` decides. ``model_s``: CPU of the model for one answer; ``baseline_clients`` are there before the step,
    ``clients`` after it; ``forecast_cores``: CPU of everything at full load, by environment."""

    replicas: int
    quota_cores: float
    model_s: float
    think_s: float
    baseline_clients: int
    clients: int
    level_s: float
    open_baseline_rps: float
    open_step_rps: float
    forecast_cores: Mapping[str, float]
    baseline_use: Mapping[str, float]
    step_replicas: Mapping[str, float]


def fit(
    demands: Mapping[str, Demand],
    host: Host,
    model_s: Callable[[float], float],
    quotas_cores: Sequence[float] = QUOTAS,
    most: int = MOST_REPLICAS,
) -> Size:
    """Replicas, quota, clients and levels for this host.

    Args:
        demands: by environment.
        model_s: CPU of the model for one answer, s, given the quota in cores.
        quotas_cores: the first with which `LEAST_REPLICAS` fit is taken.
        most: replicas that are wanted at most.

    Raises:
        MlscaleError: not even the fewest replicas with the last quota fit this host.
    """
    for quota_cores in quotas_cores:
        wanted_s = model_s(quota_cores)
        replicas = _most_replicas(demands, host, wanted_s, quota_cores, most)
        if replicas >= LEAST_REPLICAS:
            return size_for(demands, host, replicas, wanted_s, quota_cores)
    needed = max(forecast(demand, host, LEAST_REPLICAS, max(wanted_s, 0.0), quota_cores) for demand in demands.values())
    raise MlscaleError(
        f"{LEAST_REPLICAS} replicas with {quota_cores:g} core each would need {needed:.2f} of {host.cores:g} cores "
        f"(at most {MOST_OF_HOST:.0%})",
        "this host",
        "use a host with more cores or memory, or fewer environments",
    )


def forecast(demand: Demand, host: Host, replicas: int, model_s: float, quota_cores: float) -> float:
    """Total CPU while all replicas use their quota, cores."""
    answers_rps = replicas * quota_cores / (model_s + demand.own_s)
    around = demand.control_cores + host.other_cores
    return replicas * quota_cores + answers_rps * (demand.data_plane_s + host.load_s) + around


def light_response(demand: Demand, model_s: float, quota_cores: float) -> float:
    """Mean response without queueing, s: work under the quota that starts at any moment of a period."""
    work_s, share_s = model_s + demand.own_s, quota_cores * PERIOD_S
    left_s = PERIOD_S * (np.arange(_PHASES) + 0.5) / _PHASES  # of the period in which it begins
    rest_s = work_s - np.minimum(share_s, left_s)
    full_periods = np.ceil(rest_s / share_s) - 1  # periods whose share it uses up before its last one
    took_s = np.where(rest_s <= 0, work_s, left_s + full_periods * PERIOD_S + rest_s - full_periods * share_s)
    return float(np.mean(took_s)) + demand.way_s


def loaded(clients: int, think_s: float, service_s: float, replicas: int) -> tuple[float, float]:
    """(mean response, s; answers per second) of clients whose requests go to a replica at random.

    Mean value analysis of a closed network of exponential servers (Reiser and Lavenberg, Journal of the ACM 27 (1980),
    313-322). Real service is steadier and most routing better, so this is an upper bound for every environment.
    """
    queue, response_s, rate_rps = 0.0, service_s, 0.0
    for number in range(1, clients + 1):
        response_s = service_s * (1.0 + queue)
        rate_rps = number / (think_s + response_s)
        queue = rate_rps * response_s / replicas
    return response_s, rate_rps


def think_time(light_s: Mapping[str, float], rates_rps: Mapping[str, float], clients: int = BASELINE_CLIENTS) -> float:
    """Mean think time, s, at which the first clients use 0.3 to 0.4 of one replica.

    Their use is clients / ((think + response) * capacity). The environments' geometric mean is put in the middle; but
    where they differ too much for the range, the slowest one is held at its upper end, since more makes it grow before
    the step.

    Args:
        light_s: response without waiting; rates_rps: answers per second of one busy replica; by environment.
    """
    middle, highest = math.sqrt(UTILISATION[0] * UTILISATION[1]), UTILISATION[1]
    low_s, high_s = 0.0, 60.0 * max(1.0, *light_s.values())
    for _ in range(60):
        mid_s = (low_s + high_s) / 2
        used = [_use(clients, mid_s, light_s[name], rates_rps[name]) for name in light_s]
        enough = _geometric_mean(used) <= middle and max(used) <= highest
        low_s, high_s = (low_s, mid_s) if enough else (mid_s, high_s)
    return math.ceil(100 * high_s) / 100


def size_for(
    demands: Mapping[str, Demand],
    host: Host,
    replicas: int,
    model_s: float,
    quota_cores: float,
) -> Size:
    """The load for so many replicas with this quota, whether they fit the host or not."""
    service_s = {name: (model_s + demand.own_s) / quota_cores for name, demand in demands.items()}
    rates_rps = {name: 1 / seconds for name, seconds in service_s.items()}
    light_s = {name: light_response(demand, model_s, quota_cores) for name, demand in demands.items()}
    before = 1 if max(service_s.values()) > SLOW_S else BASELINE_CLIENTS
    think_s = think_time(light_s, rates_rps, before)
    demand = math.sqrt(DEMAND[0] * DEMAND[1]) * replicas
    per_client = [_use(1, think_s, light_s[name], rates_rps[name]) for name in demands]
    most = math.floor(MOST_DEMAND * replicas / max(per_client))
    fewest = math.ceil(LEAST_BUSY / min(per_client))
    clients = max(before + 1, fewest, min(round(demand / _geometric_mean(per_client)), most))
    full = {name: loaded(clients, think_s, service_s[name], replicas) for name in demands}
    level_s = max(full[name][0] + demand.way_s for name, demand in demands.items())
    return Size(
        replicas=replicas,
        quota_cores=quota_cores,
        model_s=model_s,
        think_s=think_s,
        baseline_clients=before,
        clients=clients,
        level_s=round(math.ceil(level_s / _LEVEL_GRID_S - 1e-9) * _LEVEL_GRID_S, 3),
        open_baseline_rps=_geometric_mean([before / (think_s + seconds) for seconds in light_s.values()]),
        open_step_rps=_geometric_mean([rate_rps for _, rate_rps in full.values()]),
        forecast_cores={
            name: forecast(demand, host, replicas, model_s, quota_cores) for name, demand in demands.items()
        },
        baseline_use={name: _use(before, think_s, light_s[name], rates_rps[name]) for name in demands},
        step_replicas={name: _use(clients, think_s, light_s[name], rates_rps[name]) for name in demands},
    )


def _most_replicas(demands: Mapping[str, Demand], host: Host, model_s: float, quota_cores: float, most: int) -> int:
    """The most replicas that CPU, memory and the load generator allow; 0 if no model could be cheap enough."""
    if model_s <= 0:
        return 0
    feasible = 0
    for replicas in range(1, most + 1):
        for demand in demands.values():
            load_cores = host.load_s * replicas * quota_cores / (model_s + demand.own_s)
            if (
                forecast(demand, host, replicas, model_s, quota_cores) > MOST_OF_HOST * host.cores
                or replicas * demand.memory_bytes > MOST_MEMORY * host.memory_bytes
                or load_cores > MOST_LOAD_CORES
            ):
                return feasible
        feasible = replicas
    return feasible


def _use(clients: int, think_s: float, response_s: float, rate_rps: float) -> float:
    """Replicas that the clients keep busy while no request waits."""
    return clients / ((think_s + response_s) * rate_rps)


def _geometric_mean(values: Any) -> float:
    return float(np.exp(np.mean(np.log(values))))
