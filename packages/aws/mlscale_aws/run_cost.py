"""What a run on AWS costs at list prices, until its stack deletes itself: at most, where the load is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd

from mlscale.cost import MONTH_H, PRICES, UNIT_CONNECTIONS_PER_S, read_prices
from mlscale.defaults import defaults
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.notebook.parameters import checked
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop
from mlscale.runs.schedule import Constant, Ramp, Sine, Spike, Staircase
from mlscale_aws.settings import EcsScaling

# From expiry until everything is gone, h: the deletion is scheduled every 15 minutes and takes a while itself.
DELETION_H: Final = 0.5
# Logs of a run: the compressed requests table, and the output of tasks.
_LOG_GB: Final = 0.05
# The image (of the code reader: 0.41 GB).
_IMAGE_GB: Final = 1.0
# Metrics that a run reads from CloudWatch an hour: two, every 20 s (`deployed`).
_METRICS_READ_H: Final = 2 * 3600 / 20
# What a unit of a load balancer processes (aws.amazon.com/elasticloadbalancing/pricing).
_UNIT_GB_H: Final = 1.0
# Alarms of target tracking: above the target, and below.
_ALARMS: Final = 2
# Disk of a machine in EKS Auto Mode, GB: the default of its NodeClass (EKS user guide, "Create a Node Class").
_DISK_GB: Final = 80.0
# Auto Mode starts no machine with a single core for metrics-server; this type or a cheaper one (assumed).
_METRICS_MACHINE: Final = "c7i.large"


@dataclass(frozen=True)
class Traffic:
    """What a load sends.

    Attributes:
        rate_rps: most requests per second, each on a new connection. bounded: whether that is certain; the clients of a
            closed loop without think time send as fast as they are answered.
        duration_s: for how long. body_bytes: of a request, and at most of its answer (assumed).
    """

    rate_rps: float
    duration_s: float
    body_bytes: float
    bounded: bool

    @classmethod
    def of(cls, schedule: ClosedLoop | OpenLoop, body_bytes: float) -> Traffic:
        """Of a schedule other than a recorded trace."""
        if isinstance(schedule, ClosedLoop):
            bounded = schedule.think_mean_s > 0
            # Without think time a client is taken to be answered within 100 ms.
            rate_rps = max(schedule.levels) / (schedule.think_mean_s or 0.1)
            return cls(rate_rps, schedule.duration_s, body_bytes, bounded)
        match schedule.rate:
            case Constant(rate_rps=rate_rps):
                most = rate_rps
            case Staircase(steps=steps):
                most = max(step.rate_rps for step in steps)
            case Ramp(from_rps=first, to_rps=last):
                most = max(first, last)
            case Sine(mean_rps=mean, amplitude_rps=amplitude):
                most = mean + amplitude
            case Spike(base_rps=base, spike_rps=spike):
                most = max(base, spike)
            case _:
                raise ValueError("a recorded trace is not sent from AWS")
        return cls(most, schedule.duration_s, body_bytes, bounded=True)

    @property
    def gb(self) -> float:
        """Bodies and answers."""
        return 2 * self.rate_rps * self.duration_s * self.body_bytes / 1e9

    @property
    def units(self) -> float:
        """Capacity units of the load balancer: by new connections or by bytes, whichever needs more."""
        gb_h = self.gb / self.duration_s * 3600
        return max(self.rate_rps / UNIT_CONNECTIONS_PER_S, gb_h / _UNIT_GB_H)


@dataclass(frozen=True)
class Cost:
    """``lines``: item -> USD. ``bounded``: whether it can't cost more."""

    region: str
    hours: float
    date: str
    lines: Mapping[str, float]
    bounded: bool

    @property
    def usd(self) -> float:
        return sum(self.lines.values())

    def table(self) -> str:
        """A line for each item, then the total."""
        rows = [f"  {item:<44} {usd:8.4f} USD" for item, usd in self.lines.items()]
        most = "at most" if self.bounded else "about"
        head = f"{most}, in {self.region}, prices of {self.date}, {self.hours:g} h with everything running:"
        return "\n".join([head, *rows, f"  {'total':<44} {self.usd:8.4f} USD"])


def ecs_cost(scaling: EcsScaling, region: str, traffic: Traffic | None = None) -> Cost:
    """Cost of a run on Fargate that is ended only by its expiry. ``traffic`` None: what is sent is not known yet.

    Raises:
        MlscaleError: no prices are known for the region.
    """
    price = read_prices(region, Path(scaling.prices) if scaling.prices else None).aws
    sent = traffic or Traffic(0.0, 1.0, 0.0, bounded=False)
    hours = scaling.lifetime_min / 60 + DELETION_H
    tasks = scaling.max_replicas
    cores = tasks * scaling.cpu_cores + scaling.load_cores
    memory_gb = (tasks * scaling.memory_mib + scaling.load_memory_mib) / 1024
    unit_h = hours + max(0.0, sent.units - 1.0) * sent.duration_s / 3600
    alarm = "high_resolution_alarm_month" if scaling.metric_period_s == 20 else "alarm_month"
    lines = {
        f"Fargate, {cores:g} vCPU ({tasks} tasks and the load)": hours * cores * price["fargate_vcpu_h"],
        f"Fargate, {memory_gb:g} GB": hours * memory_gb * price["fargate_gb_h"],
        "load balancer": hours * price["alb_h"],
        f"load balancer, {unit_h:.3g} hours of a capacity unit": unit_h * price["alb_lcu_h"],
        f"public IPv4 addresses ({tasks + 1})": hours * (tasks + 1) * price["ipv4_h"],
        "logs": _LOG_GB * price["logs_gb"],
        "CloudWatch, alarms": hours / MONTH_H * _ALARMS * price[alarm],
        "CloudWatch, metrics read": hours * _METRICS_READ_H / 1000 * price["metrics_read_1000"],
        f"the image in ECR ({_IMAGE_GB:g} GB)": hours / MONTH_H * _IMAGE_GB * price["ecr_gb_month"],
    }
    if scaling.metric_period_s == 20:
        lines["CloudWatch, metrics of 20 s"] = hours / MONTH_H * price["metric_month"]
    if traffic is not None:
        label = f"between zones, {sent.gb:.3g} GB (answers as large as bodies)"
        lines[label] = sent.gb * 2 * price["transfer_zones_gb"]  # each way is charged on both sides
    return Cost(region, hours, price["date"], lines, sent.bounded)


def eks_cost(scaling: MachineScaling, region: str) -> Cost:
    """Cost of a cluster (cloud/eks.yaml: in Auto Mode) that expires after an hour, with the most machines that a run
    may have, all of its most expensive type, one for the load and one for metrics-server. Nothing limits how long a
    cluster is used or what else is put on it.

    Raises:
        MlscaleError: no prices are known for the region, or for one of the machine types.
    """
    price = read_prices(region).aws
    known = price["instances_h"]
    unknown = [name for name in (*scaling.machine_types, _METRICS_MACHINE) if name not in known]
    if unknown:
        what = f"no price is known for {', '.join(unknown)} in {region}"
        raise MlscaleError(what, str(PRICES), f"choose one of {', '.join(known)}, or add it there")
    hours, machines = 1.0 + DELETION_H, scaling.max_machines + 2
    name = max(scaling.machine_types, key=lambda machine: float(known[machine]))
    metrics = max(name, _METRICS_MACHINE, key=lambda machine: float(known[machine]))
    machines_usd = hours * ((machines - 1) * known[name] + known[metrics])
    fee = {"Auto Mode, a share of the machines' price": machines_usd * price["eks_auto_mode_share"]}
    lines = {
        "control plane": hours * price["eks_cluster_h"],
        f"{machines - 1} machines ({name}), and one for metrics-server ({metrics})": machines_usd,
        **(fee if scaling.auto_mode else {}),
        f"public IPv4 addresses ({machines})": hours * machines * price["ipv4_h"],
        f"their disks, {_DISK_GB:g} GB each": hours / MONTH_H * machines * _DISK_GB * price["disk_gb_month"],
    }
    return Cost(region, hours, price["date"], lines, bounded=False)


def shown_cost(
    environment: Literal["ecs", "eks"], scaling: Mapping[str, Any], region: str = "us-east-1"
) -> pd.DataFrame:
    """What a run on AWS costs at list prices until it expires, USD, without what depends on the load: with the
    protocol's sizes, overridden by ``scaling``."""
    sizes = defaults().sized(environment, scaling, None)
    if environment == "ecs":
        cost = ecs_cost(checked(EcsScaling, sizes), region)
    else:
        cost = eks_cost(checked(MachineScaling, sizes), region)
    lines = {**cost.lines, f"total, {cost.hours:g} h, prices of {cost.date}": cost.usd}
    return pd.DataFrame({"USD": lines}).rename_axis(cost.region).round(3)
