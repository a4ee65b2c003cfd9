"""The most that a run on AWS can cost: list prices x the hours until its stack deletes itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd

from mlscale.cost import MONTH_H, PRICES, read_prices
from mlscale.defaults import defaults
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.notebook.parameters import checked
from mlscale.runs import MlscaleError
from mlscale_aws.settings import EcsScaling

# From expiry until everything is gone, h: the deletion is scheduled every 15 minutes and takes a while itself.
DELETION_H: Final = 0.5
# Logs of a run: the compressed requests table, and the output of tasks.
_LOG_GB: Final = 0.05


@dataclass(frozen=True)
class Cost:
    """``lines``: item -> USD."""

    region: str
    hours: float
    date: str
    lines: Mapping[str, float]

    @property
    def usd(self) -> float:
        return sum(self.lines.values())

    def table(self) -> str:
        """A line for each item, then the total."""
        rows = [f"  {item:<44} {usd:8.4f} USD" for item, usd in self.lines.items()]
        head = f"at most, in {self.region}, prices of {self.date}, {self.hours:g} h with everything running:"
        return "\n".join([head, *rows, f"  {'total':<44} {self.usd:8.4f} USD"])


def ecs_cost(scaling: EcsScaling, region: str) -> Cost:
    """Cost of a run on Fargate that is ended only by its expiry.

    Raises:
        MlscaleError: no prices are known for the region.
    """
    price = read_prices(region).aws
    hours = scaling.lifetime_min / 60 + DELETION_H
    tasks = scaling.max_replicas
    cores = tasks * scaling.cpu_cores + scaling.load_cores
    memory_gb = (tasks * scaling.memory_mib + scaling.load_memory_mib) / 1024
    lines = {
        f"Fargate, {cores:g} vCPU ({tasks} tasks and the load)": hours * cores * price["fargate_vcpu_h"],
        f"Fargate, {memory_gb:g} GB": hours * memory_gb * price["fargate_gb_h"],
        "load balancer": hours * price["alb_h"],
        "load balancer, one capacity unit": hours * price["alb_lcu_h"],
        f"public IPv4 addresses ({tasks + 1})": hours * (tasks + 1) * price["ipv4_h"],
        "logs": _LOG_GB * price["logs_gb"],
        "CloudWatch, metrics of 20 s and alarms": (
            hours / MONTH_H * (price["metric_month"] + 2 * price["high_resolution_alarm_month"])
            if scaling.metric_period_s == 20
            else 0.0
        ),
    }
    return Cost(region, hours, price["date"], lines)


def eks_cost(scaling: MachineScaling, region: str) -> Cost:
    """Cost of a cluster (cloud/eks.yaml: in Auto Mode) that expires after an hour, with the most machines that a run
    may have, all of its most expensive type, and one for the load.

    Raises:
        MlscaleError: no prices are known for the region, or for one of the machine types.
    """
    price = read_prices(region).aws
    known = price["instances_h"]
    unknown = [name for name in scaling.machine_types if name not in known]
    if unknown:
        what = f"no price is known for {', '.join(unknown)} in {region}"
        raise MlscaleError(what, str(PRICES), f"choose one of {', '.join(known)}, or add it there")
    hours, machines = 1.0 + DELETION_H, scaling.max_machines + 1
    name = max(scaling.machine_types, key=lambda machine: float(known[machine]))
    machines_usd = hours * machines * known[name]
    fee = {"Auto Mode, a share of the machines' price": machines_usd * price["eks_auto_mode_share"]}
    lines = {
        "control plane": hours * price["eks_cluster_h"],
        f"{machines} machines ({name})": machines_usd,
        **(fee if scaling.auto_mode else {}),
        f"public IPv4 addresses ({machines})": hours * machines * price["ipv4_h"],
    }
    return Cost(region, hours, price["date"], lines)


def shown_cost(
    environment: Literal["ecs", "eks"], scaling: Mapping[str, Any], region: str = "us-east-1"
) -> pd.DataFrame:
    """The most that a run on AWS can cost at list prices, USD: with the protocol's sizes, overridden by ``scaling``."""
    sizes = defaults().sized(environment, scaling, None)
    if environment == "ecs":
        cost = ecs_cost(checked(EcsScaling, sizes), region)
    else:
        cost = eks_cost(checked(MachineScaling, sizes), region)
    lines = {**cost.lines, f"total, {cost.hours:g} h, prices of {cost.date}": cost.usd}
    return pd.DataFrame({"USD": lines}).rename_axis(cost.region).round(3)
