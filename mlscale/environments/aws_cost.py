"""The most that a run on AWS can cost: list prices (prices.json) x the hours until its stack deletes itself."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlscale.environments.ecs.settings import EcsScaling
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.errors import first_invalid
from mlscale.runs import MlscaleError

PRICES: Final = Path(__file__).parent / "prices.json"
# From expiry until everything is gone, h: the deletion is scheduled every 15 minutes and takes a while itself.
DELETION_H: Final = 0.5
# Hours of a month, for CloudWatch's monthly prices, which are prorated hourly.
_MONTH_H: Final = 730.0
# Logs of a run: the compressed requests table, and the output of tasks.
_LOG_GB: Final = 0.05
_AboveZero = Annotated[float, Field(gt=0)]


class _Checked(BaseModel):
    """Strict: a price in quotes would be text where it is used."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    date: str
    source: str


class _Entry(_Checked):
    """``usd``: None where it is not known; by instance type where there are several."""

    usd: Any

    @field_validator("usd")
    @classmethod
    def _prices(cls, usd: Any) -> Any:
        for price in usd.values() if isinstance(usd, dict) else [0 if usd is None else usd]:
            if not isinstance(price, int | float) or not 0 <= price < math.inf:
                raise ValueError(f"{price!r} is no price")
        return usd


class _OwnMachine(_Checked):
    machine_usd: _AboveZero
    cores: _AboveZero
    life_years: _AboveZero
    idle_watts: _AboveZero
    core_watts: _AboveZero
    kwh_usd: _AboveZero
    reserved_share: Annotated[float, Field(gt=0, le=1)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid")

    local: _OwnMachine
    regions: dict[str, dict[str, _Entry]] = Field(min_length=1)


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


def ecs_cost(scaling: EcsScaling, region: str, prices: Path = PRICES) -> Cost:
    """Cost of a run on Fargate that is ended only by its expiry.

    Raises:
        MlscaleError: no prices are known for the region.
    """
    price = prices_of(region, prices)
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
            hours / _MONTH_H * (price["metric_month"] + 2 * price["high_resolution_alarm_month"])
            if scaling.metric_period_s == 20
            else 0.0
        ),
    }
    return Cost(region, hours, price["date"], lines)


def eks_cost(scaling: MachineScaling, region: str, lifetime_min: float = 60.0, prices: Path = PRICES) -> Cost:
    """Cost of a cluster (cloud/eks.yaml: in Auto Mode) with that lifetime, the most machines that a run may have, all
    of its most expensive type, and one for the load.

    Raises:
        MlscaleError: no prices are known for the region, or for one of the machine types.
    """
    price = prices_of(region, prices)
    known = price["instances_h"]
    unknown = [name for name in scaling.machine_types if name not in known]
    if unknown:
        what = f"no price is known for {', '.join(unknown)} in {region}"
        raise MlscaleError(what, str(prices), f"choose one of {', '.join(known)}, or add it there")
    hours, machines = lifetime_min / 60 + DELETION_H, scaling.max_machines + 1
    name = max(scaling.machine_types, key=lambda machine: float(known[machine]))
    auto = scaling.node_group is None and scaling.node_class.startswith("eks.amazonaws.com/")
    lines = {
        "control plane": hours * price["eks_cluster_h"],
        f"{machines} machines ({name})": hours * machines * known[name],
        **(
            {"Auto Mode, a share of the machines' price": hours * machines * known[name] * price["eks_auto_mode_share"]}
            if auto
            else {}
        ),
        f"public IPv4 addresses ({machines})": hours * machines * price["ipv4_h"],
    }
    return Cost(region, hours, price["date"], lines)


def prices_of(region: str, prices: Path = PRICES) -> Mapping[str, Any]:
    """The list prices of a region, USD, without taxes; ``date``: of the oldest and the newest.

    Raises:
        MlscaleError: none are known, or one that runs are charged by is missing.
    """
    return region_prices(region, price_table(prices)["regions"], prices)


def region_prices(region: str, table: Mapping[str, Any], prices: Path) -> Mapping[str, Any]:
    """`prices_of`, from the regions of a `price_table` that was read from ``prices``."""
    if region not in table:
        known = ", ".join(sorted(table))
        what = f"no prices are known for {region}"
        raise MlscaleError(what, str(prices), f"choose one of {known}, or mlscale prices --refresh --region {region}")
    usd = {name: entry["usd"] for name, entry in table[region].items()}
    shipped: dict[str, dict[str, Any]] = json.loads(PRICES.read_bytes())["regions"]
    for name, entry in next(iter(shipped.values())).items():
        like, own = entry["usd"], usd.get(name)
        if like is not None and (own is None or isinstance(own, dict) != isinstance(like, dict)):
            what = f"no price is known for {name} in {region}"
            raise MlscaleError(what, str(prices), "add it as in mlscale prices --out FILE")
    dates = sorted(entry["date"] for entry in table[region].values())
    return {"date": f"{dates[0]} to {dates[-1]}"} | usd


def price_table(file: Path = PRICES) -> dict[str, Any]:
    """What ``file`` holds, checked; without "local" or "regions", with those of the shipped table.

    Raises:
        MlscaleError: it can't be read, or is no price list; names the entry.
    """
    try:
        given = json.loads(file.read_bytes())
        if not isinstance(given, dict) or not given.keys() & {"local", "regions"}:
            raise ValueError('it has neither "local" nor "regions"')
        table = {**json.loads(PRICES.read_bytes()), **given}
        _Table.model_validate(table)
    except (OSError, ValueError, RecursionError) as error:
        what = first_invalid(error) if isinstance(error, ValidationError) else str(error)
        raise MlscaleError(f"not a price list: {what}", str(file), "start from mlscale prices --out FILE") from error
    return table
