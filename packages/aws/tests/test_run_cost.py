"""The price table is complete, and what a run costs follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from mlscale.cost import PRICES
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.machine_types import catalogue
from mlscale.runs import ClosedLoop, MlscaleError, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant, Ramp, Sine, Spike, Staircase, Step
from mlscale_aws.run_cost import Cost, Traffic, ecs_cost, eks_cost, shown_cost
from mlscale_aws.settings import EcsScaling

REGIONS = json.loads(PRICES.read_text())["regions"]
TYPES = [name for name, each in catalogue().types.items() if each.on_ec2]


@pytest.mark.parametrize("region", REGIONS)
def test_every_price_that_is_asked_for_is_there(region: str) -> None:
    assert set(REGIONS[region]["instances_h"]["usd"]) == set(TYPES), "every machine type that a run may have"
    for cost in (ecs_cost(EcsScaling(metric_period_s=20), region), *(of_types(name, region=region) for name in TYPES)):
        assert all(usd > 0 for usd in cost.lines.values())


def of_types(*names: str, region: str = "us-east-1") -> Cost:
    return eks_cost(MachineScaling(machine_types=names), region)


def test_a_cluster_costs_its_control_plane_and_the_most_expensive_machines() -> None:
    cost = of_types("c7a.medium")
    machines = MachineScaling().max_machines + 1  # of the load
    instances = machines * 0.05132 + 0.08925  # metrics-server's has more than one core
    disks = (machines + 1) * 80 * 0.08 / 730
    assert cost.usd == pytest.approx(1.5 * (0.10 + instances * 1.12 + (machines + 1) * 0.005 + disks))
    assert of_types("c7a.medium", "m7i.large").usd == of_types("m7i.large").usd


def test_what_has_no_price_is_named() -> None:
    with pytest.raises(MlscaleError, match=r"no price is known for t2\.nano in us-east-1"):
        of_types("t2.nano")
    with pytest.raises(MlscaleError, match="no prices are known for mars-1"):
        ecs_cost(EcsScaling(), "mars-1")


@pytest.mark.parametrize("environment", ["ecs", "eks"])
def test_a_setting_that_has_no_cost_is_named(environment: Literal["ecs", "eks"]) -> None:
    with pytest.raises(MlscaleError, match="'max_replicsa'"):
        shown_cost(environment, {"max_replicsa": 2})


SHAPES: list[tuple[Any, float]] = [
    (Constant(rate_rps=50), 50),
    (Staircase(steps=(Step(start_s=0, rate_rps=5), Step(start_s=30, rate_rps=50), Step(start_s=40, rate_rps=1))), 50),
    (Ramp(from_rps=50, to_rps=5), 50),
    (Sine(mean_rps=30, amplitude_rps=20, period_s=10), 50),
    (Spike(base_rps=5, spike_rps=50, at_s=10, width_s=5), 50),
]


@pytest.mark.parametrize(("shape", "most_rps"), SHAPES, ids=lambda each: getattr(each, "shape", ""))
def test_a_load_s_most_requests_bound_what_it_costs(shape: Any, most_rps: float) -> None:
    sent = Traffic.of(OpenLoop(duration_s=60, rate=shape), body_bytes=100)
    assert (sent.rate_rps, sent.bounded) == (most_rps, True)


def test_capacity_units_follow_from_connections_or_bytes() -> None:
    """25 new connections a second each, or 1 GB an hour."""
    half_an_hour = OpenLoop(duration_s=1800, rate=Constant(rate_rps=500))
    scaling, idle = EcsScaling(lifetime_min=60), ecs_cost(EcsScaling(lifetime_min=60), "us-east-1").usd
    few_bytes = ecs_cost(scaling, "us-east-1", Traffic.of(half_an_hour, body_bytes=100))
    assert few_bytes.bounded
    assert few_bytes.usd - idle == pytest.approx(19 * 0.5 * 0.008 + 0.18 * 2 * 0.01), "20 units in place of one"
    many_bytes = ecs_cost(scaling, "us-east-1", Traffic.of(half_an_hour, body_bytes=50_000))
    assert many_bytes.usd - idle == pytest.approx(179 * 0.5 * 0.008 + 90 * 2 * 0.01), "180 GB an hour"


def test_at_most_is_said_only_where_it_is_certain() -> None:
    def head(think_mean_s: float) -> str:
        closed = ClosedLoop(duration_s=60, stages=(ClosedStage(start_s=0, clients=10),), think_mean_s=think_mean_s)
        return ecs_cost(EcsScaling(), "us-east-1", Traffic.of(closed, 1000)).table()

    assert head(0.5).startswith("at most, in us-east-1")
    assert head(0.0).startswith("about, in us-east-1"), "clients that don't think send as fast as they are answered"
    assert ecs_cost(EcsScaling(), "us-east-1").table().startswith("about"), "the load is not known"
    assert not of_types("c7a.medium").bounded, "nothing limits a cluster"


def test_what_a_run_reads_watches_and_stores_has_a_price() -> None:
    lines = ecs_cost(EcsScaling(lifetime_min=60), "us-east-1").lines
    assert lines["CloudWatch, metrics read"] == pytest.approx(1.5 * 360 * 0.01 / 1000)
    assert lines["CloudWatch, alarms"] == pytest.approx(1.5 / 730 * 2 * 0.10)
    assert lines["the image in ECR (1 GB)"] == pytest.approx(1.5 / 730 * 0.10)


def test_a_region_of_one_s_own_price_list(tmp_path: Path) -> None:
    table = json.loads(PRICES.read_text())
    table["regions"]["eu-central-1"] = table["regions"]["us-east-1"]
    (tmp_path / "prices.json").write_text(json.dumps(table))
    scaling = EcsScaling(prices=str(tmp_path / "prices.json"))
    assert ecs_cost(scaling, "eu-central-1").usd == ecs_cost(EcsScaling(), "us-east-1").usd
