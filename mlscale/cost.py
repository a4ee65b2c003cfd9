"""What a run's replicas and machines would cost per month: list prices of AWS, or the price, life time and power of
machines of one's own (METHOD §3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.resources import SERVING, cpu_by_role
from mlscale.analysis.summary import span
from mlscale.environments.aws_cost import prices_of
from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.errors import MlscaleError
from mlscale.runs import Run

# Hours of a month.
MONTH_H: Final = 730.0
_LOCAL: Final = Path(__file__).parent / "environments/local_prices.json"
_NEEDED: Final = ("machine_usd", "cores", "life_years", "idle_watts", "core_watts", "kwh_usd")


@dataclass(frozen=True)
class Prices:
    """``aws``: of a region (aws_prices.json); ``local``: of a machine of one's own (local_prices.json)."""

    region: str
    aws: Mapping[str, Any]
    local: Mapping[str, Any]


@dataclass(frozen=True)
class Usage:
    """On average over a time: replicas and machines from their request to their end, and cores in use;
    ``peak_replicas``: the most at once."""

    replicas: float
    peak_replicas: int
    machines: float
    busy_cores: float


def read_prices(region: str = "us-east-1", local: Path | None = None) -> Prices:
    """Prices of a region and of a machine of one's own.

    Raises:
        MlscaleError: no prices are known for the region, or ``local`` is not such a price list.
    """
    path = local or _LOCAL
    try:
        own = dict(json.loads(path.read_text())["local"])
        invalid = [name for name in _NEEDED if not float(own[name]) > 0]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MlscaleError(f"not a price list: {error!r}", str(path), f"write it like {_LOCAL}") from error
    if invalid:
        raise MlscaleError(f"{', '.join(invalid)} must be above 0", str(path), "correct it")
    return Prices(region, prices_of(region), own)


def usd_per_month(environment: str, scaling: Mapping[str, Any], usage: Usage, prices: Prices) -> float:
    """Cost of one component's replicas and machines, and of what is paid while idle (load balancer, control plane).

    Machines of one's own are paid for whether they are used or not: as many as the most replicas need.

    Args:
        scaling: every setting of the environment.
    """
    cores, aws, local = float(scaling["cpu_cores"]), prices.aws, prices.local
    if environment == "ecs":
        memory_gb = scaling["memory_mib"] / 1024
        task_h = cores * aws["fargate_vcpu_h"] + memory_gb * aws["fargate_gb_h"] + aws["ipv4_h"]
        return float(MONTH_H * (usage.replicas * task_h + aws["alb_h"] + aws["alb_lcu_h"]))
    if environment == "eks":
        types = catalogue().types
        instance_h = min(aws["instances_h"].get(name, types[name].usd_per_hour) for name in scaling["machine_types"])
        machine_h = instance_h * (1 + aws["eks_auto_mode_share"]) + aws["ipv4_h"]
        return float(MONTH_H * (usage.machines * machine_h + aws["eks_cluster_h"] + aws["alb_h"] + aws["alb_lcu_h"]))
    owned = math.ceil(usage.peak_replicas * cores / local["cores"])
    purchase_usd = owned * local["machine_usd"] / (local["life_years"] * 12)
    watts = owned * local["idle_watts"] + usage.busy_cores * local["core_watts"]
    return float(purchase_usd + watts / 1000 * MONTH_H * local["kwh_usd"])


def usage_of(run: Run, from_s: float, to_s: float) -> Usage:
    """What a run's components used in [from_s, to_s] of the run's clock."""
    samples = run.replicas[run.replicas["t_s"].between(from_s, to_s)]
    there = (samples["ready"] + samples["starting"]).groupby(samples["t_s"]).sum()
    scaling = next(iter(run.info.scaling.values()))
    changes = machine_changes(zip(run.events["t_s"], run.events["kind"], strict=True), scaling)
    machines, _ = mean_and_peak([(t_s - from_s, number) for t_s, number in changes], to_s - from_s, changes[0][1])
    busy_cores = float(cpu_by_role(run.resources, from_s, to_s)["mean_cores"].reindex(SERVING).sum())
    return Usage(float(there.mean()), int(there.max()), machines, busy_cores)


def cost_table(runs: Sequence[Run], limit_s: float, prices: Prices | None = None) -> pd.DataFrame:
    """Mean cost of each environment's runs, by mode, as if the time after the load step went on.

    Args:
        limit_s: a response that counts as good, at most. prices: None: `read_prices` without arguments.

    Returns:
        Index environment and mode; columns USD per month, USD per million good answers, and USD per month while idle,
        with the least replicas.
    """
    known = prices or read_prices()
    rows = []
    for run in runs:
        from_s, to_s = span(run)
        scaling = next(iter(run.info.scaling.values()), None)
        if scaling is None or "min_replicas" not in scaling or run.replicas.empty:
            continue  # a load test of somebody's server
        usd = usd_per_month(run.info.environment, scaling, usage_of(run, from_s, to_s), known)
        idle = Usage(scaling["min_replicas"], scaling["min_replicas"], initial_machines(scaling), 0.0)
        answers = intended_between(durations(run.requests, timeout_s=run.info.timeout_s), from_s, to_s)
        good_per_month = (answers["response_s"] <= limit_s).sum() / (to_s - from_s) * MONTH_H * 3600
        million_usd = 1e6 * usd / good_per_month if good_per_month else np.inf
        rows.append(
            {
                "environment": run.info.environment,
                "mode": run.info.mode,
                "USD per month": usd,
                f"USD per million answers within {limit_s:g} s": million_usd,
                "USD per month, idle": usd_per_month(run.info.environment, scaling, idle, known),
            }
        )
    keys = ["environment", "mode"]
    return pd.DataFrame(rows).groupby(keys, sort=False).mean() if rows else pd.DataFrame(columns=keys)


_CHANGE: Final = {"machine_requested": 1, "machine_removed": -1, "machine_failed": -1}


def replicas_per_machine(scaling: Mapping[str, Any]) -> int:
    """Replicas that fit on a machine of the cheapest allowed type; 0 where machines do not scale."""
    if "machine_types" not in scaling:
        return 0
    types = catalogue().types
    cheapest = min((types[name] for name in scaling["machine_types"]), key=lambda kind: kind.usd_per_hour)
    return max(1, int((cheapest.cpu_cores - RESERVED_CORES) / scaling["cpu_cores"] + 1e-9))


def initial_machines(scaling: Mapping[str, Any]) -> int:
    """Machines for the first replicas and the capacity kept free; 0 where machines do not scale."""
    fit = replicas_per_machine(scaling)
    return math.ceil((scaling["min_replicas"] + scaling["buffer_replicas"]) / fit) if fit else 0


def machine_changes(events: Iterable[tuple[float, str]], scaling: Mapping[str, Any]) -> list[tuple[float, int]]:
    """When the number of machines changes, s, and to what; a machine counts from its request to its end.

    Args:
        events: time, s, and kind.
    """
    ordered = sorted(events)
    # A simulated run begins with machines that nobody requested.
    requested_before = any(kind == "machine_requested" and t_s < 0 for t_s, kind in ordered)
    number = 0 if requested_before else initial_machines(scaling)
    changes = [(-math.inf, number)]
    for t_s, kind in ordered:
        if kind in _CHANGE:
            number += _CHANGE[kind]
            changes.append((t_s, number))
    return changes


def mean_and_peak(changes: Sequence[tuple[float, int]], duration_s: float, initial: int) -> tuple[float, int]:
    """Of a number that changes at given times (s), over [0, ``duration_s``]."""
    at_s, number, total, peak = 0.0, initial, 0.0, initial
    for t_s, to in sorted(changes):
        until_s = min(max(t_s, at_s), duration_s)
        total += number * (until_s - at_s)
        at_s, number, peak = until_s, to, max(peak, to)
    return (total + number * (duration_s - at_s)) / duration_s, peak
