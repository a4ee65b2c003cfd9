"""What replicas and machines cost, by hand, and of published runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mlscale import environments
from mlscale.cost import (
    MONTH_H,
    Usage,
    cost_table,
    machine_changes,
    mean_and_peak,
    read_prices,
    usage_of,
    usd_per_month,
)
from mlscale.runs import MlscaleError, load_runs

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
    assert usd_per_month("ecs", scaling, Usage(2.5, 4, 0.0, 1.0), PRICES) == pytest.approx(
        MONTH_H * (2.5 * task_h + balancer_h)
    )


def test_own_machines_are_paid_for_as_the_peak_needs_them() -> None:
    local = PRICES.local
    replicas = round(1.5 * local["cores"] / 0.3)
    scaling = scaling_of("k3s", cpu_cores=0.3)
    one, two = (usd_per_month("k3s", scaling, Usage(1.0, peak, 0.0, 0.0), PRICES) for peak in (1, replicas))
    assert two == pytest.approx(2 * one)
    busy = usd_per_month("k3s", scaling, Usage(1.0, 1, 0.0, 2.0), PRICES)
    assert busy - one == pytest.approx(2.0 * local["core_watts"] / 1000 * MONTH_H * local["kwh_usd"])


def test_machines_count_from_their_request_to_their_end() -> None:
    scaling = scaling_of("eks", min_replicas=1, buffer_replicas=0)
    events = [(10.0, "machine_requested"), (30.0, "machine_ready"), (50.0, "machine_removed")]
    changes = machine_changes(events, scaling)
    assert [number for _, number in changes] == [1, 2, 1], "a simulated run begins with a machine"
    assert mean_and_peak(changes, 100.0, changes[0][1]) == (pytest.approx(1.4), 2)
    live = machine_changes([(-60.0, "machine_requested"), *events], scaling)
    assert [number for _, number in live] == [0, 1, 2, 1]


def test_published_runs_have_a_cost() -> None:
    runs = load_runs([REFERENCE / "core", REFERENCE / "rehearsal"])
    rehearsed = next(run for run in runs if run.info.environment == "eks")
    usage = usage_of(rehearsed, 0.0, rehearsed.info.schedule.duration_s)
    assert 1 <= usage.machines <= 6
    assert usage.replicas <= usage.peak_replicas
    table = cost_table(runs, 1.0)
    assert (table > 0).all(axis=None)
    assert (table["USD per month, idle"] <= table["USD per month"] + 1e-9).all()


@pytest.mark.parametrize("text", ["", "{}", '{"local": {"machine_usd": -1}}', '{"local": 3}'])
def test_a_file_that_is_no_price_list_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "prices.json"
    file.write_text(text)
    with pytest.raises(MlscaleError, match=r"prices\.json"):
        read_prices(local=file)
    file.write_text(json.dumps({"local": dict(PRICES.local) | {"cores": 0}}))
    with pytest.raises(MlscaleError, match="cores must be above 0"):
        read_prices(local=file)
    with pytest.raises(MlscaleError, match="no prices are known"):
        read_prices("mars-north-1")
