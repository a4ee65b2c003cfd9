"""The price table is complete, and what a run costs at most follows from it."""

from __future__ import annotations

import json
from typing import Literal

import pytest

from mlscale.cost import PRICES
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.machine_types import catalogue
from mlscale.runs import MlscaleError
from mlscale_aws.run_cost import Cost, ecs_cost, eks_cost, shown_cost
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
    machines = MachineScaling().max_machines + 1
    assert cost.usd == pytest.approx(1.5 * (0.10 + machines * (0.05132 * 1.12 + 0.005)))
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
