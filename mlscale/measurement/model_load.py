"""The load of a run of a user's own model, where none is given: sized by what the trial's answers cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from mlscale.host.facts import host_facts
from mlscale.measurement.sizing import LEAST_REPLICAS, MOST_OF_HOST, QUOTAS, Demand, Host, Size, fit, size_for
from mlscale.measurement.trial import Cost
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, OpenLoop

# What an answer demands of the frameworks besides the model: of the published pilot (data/reference/protocol.json).
TYPICAL: Final[Mapping[str, Demand]] = {
    "torchserve": Demand(0.005754, 0.01225, 0.005408, 0.002373, 0.74e9, 7.8),
    "rayserve": Demand(0.01519, 0.01322, 0.1111, 0.00291, 0.96e9, 35.6),
    "k3s": Demand(0.009416, 0.0, 0.04011, 0.00256, 0.76e9, 6.1),
}
# CPU of the load generator for one request, s, and of what belongs to no part of a run, cores: of that pilot, too.
LOAD_S, OTHER_CORES = 0.0025, 0.06
# A replica gets a larger quota, if the host has it, so that an answer takes at most this long, s; but no more than a
# single thread can use.
_SERVICE_S: Final = 1.0
_LARGEST_CORES: Final = 1.0
# Enough to see a framework scale.
_MOST_REPLICAS: Final = 4
_QUOTA_STEP_CORES: Final = 0.05
# How long each stage lasts at least, s, and in turns of a client before the step and answers of a replica after it.
_BEFORE_S, _BEFORE_TURNS = 15.0, 8.0
_AFTER_S, _AFTER_ANSWERS = 30.0, 20.0
# CPU that a replica of any framework takes to start, without the model, s (assumed: most of it imports torch).
_START_CPU_S: Final = 3.0
_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True)
class ModelLoad:
    """``sizes``: settings of every environment that it is for; ``timeout_s``: of a request; ``said``: a sentence."""

    schedule: ClosedLoop
    sizes: Mapping[str, Any]
    timeout_s: float
    said: str

    @property
    def options(self) -> str:
        """The command's options that give the same sizes again."""
        sizes = " ".join(f"--scaling {name}={value:g}" for name, value in self.sizes.items())
        return sizes + (f" --set timeout_s={self.timeout_s:g}" if self.timeout_s > _TIMEOUT_S else "")


def load_for(cost: Cost, given: Mapping[str, Any], host: Mapping[str, Any] | None = None) -> ModelLoad:
    """A load that keeps a third of one replica busy, and after a step 2.4 of every 3.

    Args:
        given: the user's own max_replicas and cpu_cores are kept.
        host: `mlscale.host.facts.host_facts`; None: of this host.

    Raises:
        MlscaleError: not even three replicas with the smallest quota fit the host.
    """
    facts = host or host_facts()
    if facts.get("cgroup_version", 1) is None:  # replicas will share all cores
        share_cores = min(MOST_OF_HOST * facts["cores"] / LEAST_REPLICAS, _LARGEST_CORES)
        given = {"max_replicas": LEAST_REPLICAS, "cpu_cores": round(share_cores, 2), **given}
    demands = {
        name: replace(each, memory_bytes=max(each.memory_bytes, cost.memory_bytes)) for name, each in TYPICAL.items()
    }
    machine = Host(float(facts["cores"]), float(facts["memory_bytes"] or math.inf), LOAD_S, OTHER_CORES)

    quotas_cores = [float(given["cpu_cores"])] if "cpu_cores" in given else quotas_for(cost.cpu_s)
    own_s = max(each.own_s for each in demands.values())
    if "max_replicas" in given:
        quota_cores = quotas_cores[0]
        size = size_for(demands, machine, int(given["max_replicas"]), _model_s(cost, quota_cores), quota_cores)
        return _load(size, cost, own_s)
    try:
        return _load(fit(demands, machine, partial(_model_s, cost), quotas_cores, _MOST_REPLICAS), cost, own_s)
    except MlscaleError as error:
        remedy = "use a host with more cores or memory, or give a load of your own: --schedule"
        raise MlscaleError(f"no load makes this model scale here: {error.what}", error.where, remedy) from error


def misfit(schedule: ClosedLoop | OpenLoop, cost: Cost, quota_cores: float) -> str:
    """A warning if a load of the user's own makes nothing scale, or too early, on any framework; else empty.

    A rate without a constant level is not judged.
    """
    services_s = [(_model_s(cost, quota_cores) + each.own_s) / quota_cores for each in TYPICAL.values()]

    def busy(level: float, service_s: float) -> float:
        """Replicas that are busy at ``level`` while nothing waits, by Little's law."""
        per_client = 1 / (schedule.think_mean_s + service_s) if isinstance(schedule, ClosedLoop) else 1.0
        return level * service_s * per_client

    first, peak = schedule.levels[0], max(schedule.levels)
    remedy = "without --schedule, measure fits one to the model"
    if len(schedule.levels) > 1 and (before := busy(first, min(services_s))) > 1:
        return f"this load keeps {before:.1f} replicas busy from its start, so expect scaling before its step; {remedy}"
    if (most := busy(peak, max(services_s))) < 1:
        return f"this load keeps at most {most:.1g} replicas busy, so nothing may scale; {remedy}"
    return ""


def _model_s(cost: Cost, quota_cores: float) -> float:
    return max(cost.cpu_s, quota_cores * cost.wall_s)  # a model that waits keeps its replica, too


def quotas_for(cpu_s: float) -> list[float]:
    """Quotas to try, cores: `QUOTAS`; for a slow model before them larger ones, from that which answers in time."""
    steps = math.ceil(min(cpu_s / _SERVICE_S, _LARGEST_CORES) / _QUOTA_STEP_CORES)
    larger = [_QUOTA_STEP_CORES * step for step in range(steps, 0, -1)]
    return [*(round(quota, 2) for quota in larger if quota > QUOTAS[0] + 1e-9), *QUOTAS]


def _load(size: Size, cost: Cost, own_s: float) -> ModelLoad:
    service_s = (size.model_s + own_s) / size.quota_cores
    turn_s = size.think_s + service_s
    step_s = math.ceil(max(_BEFORE_S, _BEFORE_TURNS * turn_s / size.baseline_clients))
    after_s = math.ceil(_AFTER_S + (_START_CPU_S + cost.load_cpu_s) / size.quota_cores + _AFTER_ANSWERS * service_s)
    stages = (
        ClosedStage(start_s=0, clients=size.baseline_clients),
        ClosedStage(start_s=step_s, clients=size.clients),
    )
    asked = math.prod(size.step_replicas.values()) ** (1 / len(size.step_replicas))
    return ModelLoad(
        schedule=ClosedLoop(duration_s=step_s + after_s, stages=stages, think_mean_s=size.think_s),
        sizes={"max_replicas": size.replicas, "cpu_cores": size.quota_cores},
        timeout_s=max(_TIMEOUT_S, 10.0 * math.ceil(1.5 * size.clients * service_s / 10)),
        said=f"the load is fitted to that: clients think {size.think_s:g} s, keep a third of one replica busy, and "
        f"{asked:.1f} of {size.replicas} with {size.quota_cores:g} core after the step; a mean response of "
        f"{size.level_s:g} s is good then (--level {size.level_s:g})",
    )
