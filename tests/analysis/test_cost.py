"""What replicas and machines cost, by hand, and of published runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlscale import environments
from mlscale.cost import (
    MONTH_H,
    Usage,
    cost_table,
    machine_changes,
    mean_and_peak,
    paid_by,
    read_prices,
    usage_of,
    usd_per_month,
)
from mlscale.cost import PRICES as SHIPPED
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale.runs.tables import TableName

REFERENCE = Path(__file__).parents[2] / "data/reference"
PRICES = read_prices()


def scaling_of(name: str, **changes: object) -> dict[str, object]:
    environment = environments.get(name)
    return {**environment.arm("matched").model_dump(), **changes}


def test_tasks_cost_what_they_use_and_a_load_balancer_is_always_paid() -> None:
    scaling = scaling_of("ecs", cpu_cores=0.5, memory_mib=1024)
    aws = PRICES.aws
    task_h = 0.5 * aws["fargate_vcpu_h"] + 1.0 * aws["fargate_gb_h"] + aws["ipv4_h"]
    balancer_h = aws["alb_h"] + aws["alb_lcu_h"]
    usage = Usage.of(scaling, 2.5, 4, 0.0, 1.0)
    assert usd_per_month("ecs", scaling, usage, PRICES) == pytest.approx(MONTH_H * (2.5 * task_h + balancer_h))
    free_gb_h = aws["transfer_free_gb"] / MONTH_H
    more = usd_per_month("ecs", scaling, replace(usage, answers_gb_h=free_gb_h + 1.0), PRICES)
    assert more - usd_per_month("ecs", scaling, usage, PRICES) == pytest.approx(MONTH_H * aws["transfer_out_gb"])
    busy = usd_per_month("ecs", scaling, replace(usage, connections_per_s=250.0), PRICES)
    assert busy - usd_per_month("ecs", scaling, usage, PRICES) == pytest.approx(MONTH_H * 9 * aws["alb_lcu_h"])


def test_instances_carry_the_fee_of_what_starts_them() -> None:
    aws = PRICES.aws
    usage = Usage(2.0, 0.6, 0.6, 0.0, 1.5, 0.0)
    common_h = aws["alb_h"] + aws["alb_lcu_h"]
    karpenter = scaling_of("eks", machine_types=("c7a.medium",), node_class="karpenter.k8s.aws/EC2NodeClass/default")
    machine_h = aws["instances_h"]["c7a.medium"] + aws["ipv4_h"]
    plain = MONTH_H * (1.5 * machine_h + aws["eks_cluster_h"] + common_h)
    assert usd_per_month("eks", karpenter, usage, PRICES) == pytest.approx(plain)
    auto = {**karpenter, "node_class": "eks.amazonaws.com/NodeClass/default"}
    fee = MONTH_H * 1.5 * aws["instances_h"]["c7a.medium"] * aws["eks_auto_mode_share"]
    assert usd_per_month("eks", auto, usage, PRICES) - plain == pytest.approx(fee)
    ecs = scaling_of("ecs", launch="ec2", instance_cores=2.0, instance_memory_mib=8192)
    machine_h = aws["instances_h"]["m7i.large"] + aws["ipv4_h"]
    assert usd_per_month("ecs", ecs, usage, PRICES) == pytest.approx(MONTH_H * (1.5 * machine_h + common_h))
    on_spot = aws["spot_instances_h"]["c7a.medium"] - aws["instances_h"]["c7a.medium"]
    saved = usd_per_month("eks", auto, usage, PRICES, spot=True) - usd_per_month("eks", auto, usage, PRICES)
    assert saved == pytest.approx(MONTH_H * 1.5 * on_spot), "the fee stays"
    assert math.isnan(usd_per_month("ecs", scaling_of("ecs"), usage, PRICES, spot=True)), "not known"
    ray = {"cpu_cores": 0.3, "machine_types": ("c7a.medium",)}
    machine_h = aws["instances_h"]["c7a.medium"] + aws["ipv4_h"]
    assert usd_per_month("rayserve", ray, usage, PRICES) == pytest.approx(MONTH_H * (1.5 * machine_h + common_h))
    with pytest.raises(MlscaleError, match="no price is known"):
        usd_per_month("ecs", {**ecs, "instance_cores": 96.0}, usage, PRICES)


def test_dedicated_machines_are_paid_for_as_the_peak_needs_them() -> None:
    local = PRICES.local
    replicas = round(1.5 * local["cores"] / 0.3)
    scaling = scaling_of("k3s", cpu_cores=0.3)

    def usd(peak: int, busy_cores: float = 0.0) -> float:
        return usd_per_month("k3s", scaling, Usage.of(scaling, 1.0, peak, 0.0, busy_cores), PRICES, "dedicated")

    assert usd(replicas) == pytest.approx(2 * usd(1))
    assert usd(1, 2.0) - usd(1) == pytest.approx(2.0 * local["core_watts"] / 1000 * MONTH_H * local["kwh_usd"])


def test_shared_machines_are_paid_for_as_cores_are_reserved() -> None:
    """Whoever reserves as many cores as are reserved on average pays for the machine."""
    local = PRICES.local
    scaling = scaling_of("k3s", cpu_cores=1.0)
    reserved = local["cores"] * local["reserved_share"]
    share, half = (Usage.of(scaling, count, local["cores"], 0.0, 0.0) for count in (reserved, reserved / 2))
    dedicated = usd_per_month("k3s", scaling, share, PRICES, "dedicated")
    assert usd_per_month("k3s", scaling, share, PRICES) == pytest.approx(dedicated)
    assert usd_per_month("k3s", scaling, half, PRICES) == pytest.approx(dedicated / 2)


def test_an_environment_is_local_by_what_it_pays_not_by_its_name() -> None:
    names = [name for name in environments.names() if paid_by(name, scaling_of(name)) == "own machines"]
    assert {"torchserve", "rayserve", "k3s"} <= set(names)
    assert not {"ecs", "eks"} & set(names)
    assert paid_by("ecs", scaling_of("ecs", launch="ec2")) == "instances"


def test_every_component_of_an_application_is_paid_for(tmp_path: Path) -> None:
    """Two components of 0.5 and 0.25 cores, sampled in turn, one of them twice."""
    run = load_runs([REFERENCE / "core"])[0]
    scaling = next(iter(run.info.scaling.values()))
    both = {"front": {**scaling, "cpu_cores": 0.5}, "back": {**scaling, "cpu_cores": 0.25}}
    counts = {"front": 1, "back": 2}
    rows = [
        (10 * turn + delay, name, counts[name]) for turn in range(3) for delay, name in ((0.0, "front"), (0.1, "back"))
    ]
    blank = {"desired": 0, "starting": 0, "machines_desired": 0, "machines_ready": 0}
    samples = pd.DataFrame([{"t_s": t_s, "component": name, "ready": ready, **blank} for t_s, name, ready in rows])
    names: tuple[TableName, ...] = ("requests", "hops", "replicas", "events", "resources")
    tables: dict[TableName, pd.DataFrame] = {name: getattr(run, name) for name in names} | {"replicas": samples}
    usage = usage_of(Run.in_memory(run.info.model_copy(update={"scaling": both}), tables), 5.0, 25.0)
    assert usage.replicas == pytest.approx(3.0)
    assert usage.peak_cores == pytest.approx(0.5 + 2 * 0.25)
    assert usage.cores == usage.peak_cores


def test_machines_count_from_their_request_to_their_end() -> None:
    scaling = scaling_of("eks", min_replicas=1, buffer_replicas=0)
    events = [(10.0, "machine_requested"), (30.0, "machine_ready"), (50.0, "machine_removed")]
    changes = machine_changes(events, [scaling])
    assert [number for _, number in changes] == [1, 2, 1], "a simulated run begins with a machine"
    assert mean_and_peak(changes, 100.0, changes[0][1]) == (pytest.approx(1.4), 2)
    live = machine_changes([(-60.0, "machine_requested"), *events], [scaling])
    assert [number for _, number in live] == [0, 1, 2, 1]


def test_published_runs_have_a_cost() -> None:
    runs = load_runs([REFERENCE / "core", REFERENCE / "rehearsal"])
    rehearsed = next(run for run in runs if run.info.environment == "eks")
    usage = usage_of(rehearsed, 0.0, rehearsed.info.schedule.duration_s)
    assert 1 <= usage.machines <= 6
    assert usage.cores <= usage.peak_cores
    table = cost_table(runs, 1.0)
    assert (table.filter(like="USD") > 0).all(axis=None)
    cloud, own = table.loc["eks"], table.loc["k3s"]
    assert (cloud["USD per month"] == cloud["USD per month, dedicated"]).all()
    assert (own["USD per month"] != own["USD per month, dedicated"]).all()
    assert (table["USD per month, idle"] <= table["USD per month"] + 1e-9).all()


@pytest.mark.parametrize("text", ["", "{}", '{"local": {"machine_usd": -1}}', '{"local": 3}'])
def test_a_file_that_is_no_price_list_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(MlscaleError, match=r"prices\.json"):
        read_prices(file=file)
    file.write_text(json.dumps({"local": dict(PRICES.local) | {"cores": 0}}))
    with pytest.raises(MlscaleError, match=r"local\.cores: .*greater than 0"):
        read_prices(file=file)
    with pytest.raises(MlscaleError, match="no prices are known"):
        read_prices("mars-north-1")


@pytest.mark.parametrize(
    ("section", "name", "value", "named"),
    [
        ("local", "date", None, "local.date"),
        ("local", "machine_usd", "700", "local.machine_usd"),
        ("local", "kwh_usd", math.nan, "local.kwh_usd"),
        ("region", "alb_h", None, "no price is known for alb_h in us-east-1"),
        ("region", "alb_h", {"usd": -1, "date": "2026", "source": "me"}, "us-east-1.alb_h.usd: -1 is not a price"),
        ("region", "alb_h", {"usd": math.nan, "date": "2026", "source": "me"}, "alb_h.usd: nan is not a price"),
        ("region", "instances_h", {"usd": {"m7i.large": -1}, "date": "2026", "source": "me"}, "-1 is not a price"),
        ("region", "instances_h", {"usd": 1, "date": "2026", "source": "me"}, "no price is known for instances_h"),
        ("regions", "us-east-1", {}, "no price is known for fargate_vcpu_h in us-east-1"),
    ],
)
def test_an_entry_that_is_missing_or_no_price_is_named(
    tmp_path: Path, section: str, name: str, value: Any, named: str
) -> None:
    table = json.loads(SHIPPED.read_text())
    changed = {"local": table["local"], "regions": table["regions"], "region": table["regions"]["us-east-1"]}[section]
    del changed[name]
    changed |= {} if value is None else {name: value}
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(table))
    with pytest.raises(MlscaleError, match=named) as caught:
        read_prices(file=file)
    assert "\n" not in str(caught.value)


def test_an_instance_of_an_unknown_size_does_not_count(tmp_path: Path) -> None:
    table = json.loads(SHIPPED.read_text())
    table["regions"]["us-east-1"]["instances_h"]["usd"]["m99.large"] = 0.001
    file = tmp_path / "prices.json"
    file.write_text(json.dumps(table))
    ecs, usage = scaling_of("ecs", launch="ec2", instance_cores=2.0, instance_memory_mib=8192), Usage(1, 1, 1, 1, 1, 0)
    assert usd_per_month("ecs", ecs, usage, read_prices(file=file)) == usd_per_month("ecs", ecs, usage, PRICES)
