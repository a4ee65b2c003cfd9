"""What a run's replicas and machines would cost per month: list prices of AWS, or the price, life time and power of
the user's own machines (METHOD §3)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from mlscale import environments
from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.elasticity import elasticity
from mlscale.analysis.resources import SERVING, cpu_by_role
from mlscale.analysis.summary import span
from mlscale.environments.base import PaidBy
from mlscale.environments.kubernetes.machine_settings import is_auto_mode
from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.errors import MlscaleError, first_invalid
from mlscale.runs import Run

PRICES: Final = Path(__file__).with_name("prices.json")
# Hours of a month.
MONTH_H: Final = 730.0
# How the user's own machines are charged: only what replicas reserve ("shared", as other work uses the rest), or as
# many whole machines as the peak needs, busy or idle ("dedicated").
Tenancy = Literal["shared", "dedicated"]
# New connections per second that a unit of a load balancer takes (aws.amazon.com/elasticloadbalancing/pricing).
UNIT_CONNECTIONS_PER_S: Final = 25.0


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
                raise ValueError(f"{price!r} is not a price")
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
class Prices:
    """``aws``: of a region; ``local``: of the user's own machine (prices.json)."""

    region: str
    aws: Mapping[str, Any]
    local: Mapping[str, Any]

    @property
    def local_machine_h(self) -> float:
        """USD for an hour of an idle machine of the user's."""
        purchase_h = self.local["machine_usd"] / (self.local["life_years"] * 12 * MONTH_H)
        return float(purchase_h + self.local["idle_watts"] / 1000 * self.local["kwh_usd"])

    @property
    def local_core_h(self) -> float:
        """USD for reserving a core of a shared machine for an hour: reserved cores pay for the others, too."""
        return self.local_machine_h / float(self.local["cores"] * self.local["reserved_share"])


@dataclass(frozen=True)
class Usage:
    """On average over a time, of all components: replicas, and cores and memory that they reserve, from their request
    to their end; ``machines``: the same of machines; cores in use; answers sent, GB/h; new connections. ``peak_cores``:
    most cores reserved at once."""

    replicas: float
    cores: float
    peak_cores: float
    memory_gb: float
    machines: float
    busy_cores: float
    answers_gb_h: float = 0.0
    connections_per_s: float = 0.0

    @classmethod
    def of(cls, scaling: Mapping[str, Any], replicas: float, peak: int, machines: float, busy_cores: float) -> Usage:
        """Of one component's replicas, ``peak`` at most."""
        cores, memory_gb = float(scaling["cpu_cores"]), scaling.get("memory_mib", 0) / 1024
        return cls(replicas, replicas * cores, peak * cores, replicas * memory_gb, machines, busy_cores)


def read_prices(region: str = "us-east-1", file: Path | None = None) -> Prices:
    """Prices of a region and of the user's own machine.

    Args:
        file: like prices.json (`mlscale prices --out FILE`); what it lacks of "local" and "regions" is
            taken from there.

    Raises:
        MlscaleError: no prices are known for the region, or ``file`` is not such a price list.
    """
    path = file or PRICES
    table = price_table(path)
    return Prices(region, region_prices(region, table["regions"], path), table["local"])


def region_prices(region: str, table: Mapping[str, Any], prices: Path) -> Mapping[str, Any]:
    """The list prices of a region, USD, without taxes; ``date``: of the oldest and the newest.

    Args:
        table: the regions of a `price_table` that was read from ``prices``.

    Raises:
        MlscaleError: none are known, or one that runs are charged by is missing.
    """
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
        MlscaleError: it can't be read, or is not a price list; names the entry.
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


def paid_by(environment: str, scaling: Mapping[str, Any]) -> PaidBy:
    """What an environment's replicas are paid by.

    Raises:
        MlscaleError: an unknown environment.
    """
    return environments.get(environment).settings.paid_by(scaling)


def usd_per_month(
    environment: str,
    scaling: Mapping[str, Any],
    usage: Usage,
    prices: Prices,
    tenancy: Tenancy = "shared",
    *,
    spot: bool = False,
) -> float:
    """Cost of replicas and machines, and of what is paid while idle (load balancer, control plane).

    Args:
        scaling: every setting of one component. tenancy: of the user's own machines. spot: AWS's spare capacity, which
            it may take back; NaN where its price is not known.

    Raises:
        MlscaleError: an unknown environment.
    """
    aws, local = prices.aws, prices.local
    kind = paid_by(environment, scaling)
    if kind == "own machines":
        power_h = usage.busy_cores * local["core_watts"] / 1000 * local["kwh_usd"]
        machines = math.ceil(usage.peak_cores / local["cores"] - 1e-9)
        reserved_h = usage.cores * prices.local_core_h if tenancy == "shared" else machines * prices.local_machine_h
        return float(MONTH_H * (reserved_h + power_h))
    answers_gb = max(0.0, usage.answers_gb_h * MONTH_H - aws["transfer_free_gb"])
    units = max(1.0, usage.connections_per_s / UNIT_CONNECTIONS_PER_S)
    common_usd = MONTH_H * (aws["alb_h"] + units * aws["alb_lcu_h"]) + answers_gb * aws["transfer_out_gb"]
    if kind == "tasks":
        core_h, gb_h = (aws[f"fargate_{'spot_' * spot}{unit}_h"] for unit in ("vcpu", "gb"))
        if core_h is None or gb_h is None:
            return math.nan
        reserved_h = usage.cores * core_h + usage.memory_gb * gb_h
        return float(MONTH_H * (reserved_h + usage.replicas * aws["ipv4_h"] + aws["ecs_cluster_h"]) + common_usd)
    machine_h = _instance_h(environment, scaling, aws, spot) + aws["ipv4_h"]
    cluster_h = aws.get(f"{environment}_cluster_h", 0.0)  # Ray's head node is one of the machines
    return float(MONTH_H * (usage.machines * machine_h + cluster_h) + common_usd)


def _instance_h(environment: str, scaling: Mapping[str, Any], aws: Mapping[str, Any], spot: bool) -> float:
    """USD per hour of the cheapest allowed instance, with Auto Mode's fee, which is of its price on demand, where it
    starts them."""
    types, on_spot = catalogue().types, aws["spot_instances_h"]
    if "machine_types" not in scaling:
        cores, memory_mib = scaling["instance_cores"], scaling["instance_memory_mib"]
        known = aws["instances_h"]
        sizes = {name: types[name] for name in known if name in types}
        fits = [name for name, size in sizes.items() if size.cpu_cores >= cores and size.memory_mib >= memory_mib]
        if not fits:
            what = f"no price is known for an instance of {cores:g} cores and {memory_mib} MiB"
            raise MlscaleError(what, "prices", f"choose one that is no larger than one of {', '.join(known)}")
        return float(min(on_spot.get(name, math.nan) if spot else known[name] for name in fits))
    usd, name = min((aws["instances_h"].get(name, types[name].usd_per_hour), name) for name in scaling["machine_types"])
    auto_mode = environment == "eks" and is_auto_mode(scaling.get("node_class"), scaling.get("node_group"))
    fee = usd * aws["eks_auto_mode_share"] * auto_mode
    return float((on_spot.get(name, math.nan) if spot else usd) + fee)


def usage_of(run: Run, from_s: float, to_s: float) -> Usage:
    """What a run's components used in [from_s, to_s] of the run's clock."""
    there = run.replicas.assign(there=run.replicas["ready"] + run.replicas["starting"])
    # Components are sampled in turn: a sample holds until its component's next one.
    each = there.pivot_table(index="t_s", columns="component", values="there", aggfunc="last").ffill().fillna(0)
    counts = each.loc[from_s:to_s]
    scalings = run.info.scaling
    cores = sum(counts[name] * scalings[name]["cpu_cores"] for name in counts)
    memory_gb = sum(counts[name] * scalings[name].get("memory_mib", 0) / 1024 for name in counts)
    changes = machine_changes(zip(run.events["t_s"], run.events["kind"], strict=True), list(scalings.values()))
    machines, _ = mean_and_peak([(t_s - from_s, number) for t_s, number in changes], to_s - from_s, changes[0][1])
    answers = run.requests[run.requests["done_s"].between(from_s, to_s)]["bytes_in"].sum()
    sent = run.requests["sent_s"].between(from_s, to_s).sum() if run.info.connections == "fresh" else 0
    return Usage(
        replicas=float(counts.sum(axis=1).mean()),
        cores=float(cores.mean()),
        peak_cores=float(cores.max()),
        memory_gb=float(memory_gb.mean()),
        machines=machines,
        busy_cores=float(cpu_by_role(run.resources, from_s, to_s)["mean_cores"].reindex(SERVING).sum()),
        answers_gb_h=float(answers) / 1e9 / (to_s - from_s) * 3600,
        connections_per_s=float(sent) / (to_s - from_s),
    )


def _idle(scalings: Sequence[Mapping[str, Any]]) -> Usage:
    """Of the least replicas of each component."""
    each = [Usage.of(scaling, scaling["min_replicas"], scaling["min_replicas"], 0.0, 0.0) for scaling in scalings]
    replicas, cores, memory_gb = (
        sum(getattr(one, name) for one in each) for name in ("replicas", "cores", "memory_gb")
    )
    return Usage(replicas, cores, cores, memory_gb, initial_machines(scalings), 0.0)


def cost_table(runs: Sequence[Run], limit_s: float, prices: Prices | None = None) -> pd.DataFrame:
    """Mean cost of each environment's runs, by mode, as if the load after the step went on. The user's own machines
    are shared, except in the last column.

    Args:
        limit_s: a response that counts as good, at most. prices: None: `read_prices` without arguments.

    Returns:
        Index environment and mode; columns USD per month, USD per million good answers, USD per month while idle, with
        the least replicas, and USD per month if the user's own machines do nothing else (the same in a cloud); then the
        run's elasticity (`mlscale.analysis.elasticity`, with ``limit_s`` as the level).
    """
    known = prices or read_prices()
    rows = []
    for run in runs:
        from_s, to_s = span(run)
        name, scalings = run.info.environment, list(run.info.scaling.values())
        known_bounds = scalings and all("min_replicas" in scaling for scaling in scalings)
        if name not in environments.names() or not known_bounds or run.replicas.empty:
            continue  # a load test of somebody's server, or an environment that is not installed
        usage = usage_of(run, from_s, to_s)
        usd = usd_per_month(name, scalings[0], usage, known)
        answers = intended_between(durations(run.requests, timeout_s=run.info.timeout_s), from_s, to_s)
        good_per_month = (answers["response_s"] <= limit_s).sum() / (to_s - from_s) * MONTH_H * 3600
        million_usd = 1e6 * usd / good_per_month if good_per_month else np.inf
        rows.append(
            {
                "environment": name,
                "mode": run.info.mode,
                "USD per month": usd,
                f"USD per million answers within {limit_s:g} s": million_usd,
                "USD per month, idle": usd_per_month(name, scalings[0], _idle(scalings), known),
                "USD per month, dedicated": usd_per_month(name, scalings[0], usage, known, "dedicated"),
                **elasticity(run, limit_s),
            }
        )
    keys = ["environment", "mode"]
    return pd.DataFrame(rows).groupby(keys, sort=False).mean() if rows else pd.DataFrame(columns=keys)


_CHANGE: Final = {"machine_requested": 1, "machine_removed": -1, "machine_failed": -1}


def replicas_per_machine(scaling: Mapping[str, Any]) -> int:
    """Replicas that fit on a machine of the cheapest allowed type; 0 where machines do not scale."""
    if "machine_types" in scaling:
        types = catalogue().types
        cheapest = min((types[name] for name in scaling["machine_types"]), key=lambda kind: kind.usd_per_hour)
        return max(1, int((cheapest.cpu_cores - RESERVED_CORES) / scaling["cpu_cores"] + 1e-9))
    if scaling.get("launch") == "ec2":
        return max(1, int(scaling["instance_cores"] / scaling["cpu_cores"] + 1e-9))
    return 0


def initial_machines(scalings: Sequence[Mapping[str, Any]]) -> int:
    """Machines for the first replicas of all components and the capacity kept free; 0 where machines do not scale."""
    needed = sum(
        (scaling["min_replicas"] + scaling.get("buffer_replicas", 0)) / fit
        for scaling in scalings
        if (fit := replicas_per_machine(scaling))
    )
    least = max((int(scaling.get("min_instances", 0)) for scaling in scalings), default=0)
    return max(math.ceil(needed - 1e-9), least) if needed else 0


def machine_changes(
    events: Iterable[tuple[float, str]], scalings: Sequence[Mapping[str, Any]]
) -> list[tuple[float, int]]:
    """When the number of machines changes, s, and to what; a machine counts from its request to its end.

    Args:
        events: time, s, and kind. scalings: of each component.
    """
    ordered = sorted(events)
    # A simulated run begins with machines that nobody requested.
    requested_before = any(kind == "machine_requested" and t_s < 0 for t_s, kind in ordered)
    number = 0 if requested_before else initial_machines(scalings)
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
