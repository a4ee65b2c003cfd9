"""The coarse rung beside formulas, and what its control loops do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlscale.analysis.queues import open_response_s
from mlscale_twin.strategy import fluid
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.oracle import oracle_replicas
from mlscale_twin.strategy.replica import ReplicaModel

SERVICE_S = 0.2


def settings(**changes: Any) -> fluid.Records:
    table = np.zeros(1, fluid.SETTINGS)
    usual: dict[str, Any] = {
        "least": 1, "most": 8, "target": 1.0, "start_s": 20, "pooled": 1, "arrivals_cv2": 1.0, "service_cv2": 1.0,
        "light_s": SERVICE_S, "busy_s": SERVICE_S, "waiting": 1e9, "timeout_s": 30.0,
    }  # fmt: skip
    for name, value in (usual | changes).items():
        table[0][name] = value
    return table


def simulated(rates: Any, limit_s: float = 1.0, **changes: Any) -> Any:
    floors = np.zeros((1, 1), np.int64)
    return fluid.simulate(np.asarray(rates, float), settings(**changes), floors, part_s=900, limit_s=limit_s)[0]


@pytest.mark.parametrize("busy", [0.3, 0.6, 0.8, 0.9])
@pytest.mark.parametrize("replicas", [1, 4, 16])
def test_with_a_constant_rate_it_is_a_queue_with_several_servers(busy: float, replicas: int) -> None:
    rate = busy * replicas / SERVICE_S
    total = simulated(np.full(600, rate), least=replicas, most=replicas, loop=fluid.FIXED)
    expected = open_response_s(replicas, rate, SERVICE_S)
    assert total["response_s"] / total["requests"] == pytest.approx(expected, rel=0.06)
    assert total["replica_s"] == 600 * replicas


def test_what_can_not_be_served_waits_and_is_lost_where_nothing_may_wait() -> None:
    """10 requests/s where 5 are served: after 100 s, 500 wait, for 100 s."""
    total = simulated(np.full(100, 10.0), loop=fluid.FIXED, most=1, timeout_s=1e6)
    assert total["slow"] / total["requests"] > 0.95
    assert total["response_s"] / total["requests"] == pytest.approx(50.0, rel=0.05)
    total = simulated(np.full(100, 10.0), loop=fluid.FIXED, most=1, waiting=0.0)
    assert total["failed"] / total["requests"] == pytest.approx(0.5, abs=0.01)


def test_it_grows_by_requests_in_flight_and_shrinks_after_its_delay() -> None:
    rates = np.concatenate([np.full(100, 1.0), np.full(300, 15.0), np.full(300, 1.0)])
    total = simulated(rates, loop=fluid.DELAYED, up_s=1, down_s=60)
    assert total["peak"] >= 4
    later = simulated(rates, loop=fluid.DELAYED, up_s=30, down_s=60)
    assert later["slow"] > total["slow"]
    assert later["replica_s"] < total["replica_s"]


def test_an_hpa_looks_once_in_its_period_and_keeps_the_highest_of_its_window() -> None:
    rates = np.concatenate([np.full(90, 1.0), np.full(300, 15.0), np.full(600, 1.0)])
    hpa = {"loop": fluid.RATIO, "period_s": 15, "tolerance": 0.1}
    short, long = simulated(rates, down_s=30, **hpa), simulated(rates, down_s=300, **hpa)
    assert short["peak"] == long["peak"] >= 3
    assert long["replica_s"] > short["replica_s"] + 100
    by_cpu = simulated(rates, down_s=30, metric=fluid.CPU, **(hpa | {"target": 0.5}))
    assert by_cpu["peak"] >= 6, "15 requests/s are 3 replicas' work, at half of the quota 6"


def test_an_alarm_needs_its_values_and_their_way() -> None:
    rates = np.concatenate([np.full(300, 1.0), np.full(1200, 15.0)])
    tracking = {
        "loop": fluid.TRACKING, "metric": fluid.CPU, "target": 50.0, "out_points": 3, "in_points": 15, "down_s": 300
    }  # fmt: skip
    quick = simulated(rates, period_s=20, late_s=26, **tracking)
    slow = simulated(rates, period_s=60, late_s=183, **tracking)
    assert quick["slow"] < 0.7 * slow["slow"]
    assert quick["peak"] >= 6


def test_machines_come_for_what_does_not_fit_and_room_is_there_at_once() -> None:
    rates = np.concatenate([np.full(60, 1.0), np.full(400, 15.0)])
    machines = {"loop": fluid.DELAYED, "up_s": 1, "down_s": 300, "per_machine": 3, "removal_s": 60}
    slow = simulated(rates, boot_s=120, **machines)
    quick = simulated(rates, boot_s=0, **machines)
    roomy = simulated(rates, boot_s=120, kept_free=4, **machines)
    assert quick["slow"] < slow["slow"]
    assert roomy["slow"] < slow["slow"]
    assert roomy["machine_s"] > slow["machine_s"]


def test_a_scheduled_minimum_is_there_when_it_is_due() -> None:
    rates = np.concatenate([np.full(900, 1.0), np.full(900, 15.0)])
    floors = np.array([[1, 5]])
    total = fluid.simulate(rates, settings(loop=fluid.DELAYED, up_s=1, down_s=30), floors, part_s=900, limit_s=1.0)
    assert total[0]["replica_s"] >= 900 + 900 * 5
    none = simulated(rates, loop=fluid.DELAYED, up_s=1, down_s=30)
    assert total[0]["slow"] <= none["slow"]


def test_an_oracle_needs_as_many_replicas_as_a_constant_load_keeps_within_the_limit() -> None:
    """Half a second for a service of 0.2 s: one replica for a quiet hour, more for a busy one."""
    replica = ReplicaModel(0.2, 0.2, 0.1, 1.0, 0.0, 20.0, 0.0, pooled=True)
    quiet = oracle_replicas(Demand(np.full(3600, 0.5)), replica, 0.5, 0.05)
    busy = oracle_replicas(Demand(np.full(3600, 20.0)), replica, 0.5, 0.05)
    both = oracle_replicas(Demand(np.repeat([0.5, 20.0], 3600)), replica, 0.5, 0.05)
    assert quiet == 1.0
    assert 5 <= busy <= 7, "20 requests/s keep 4 replicas busy"
    assert (quiet + 4) / 2 <= both <= (quiet + busy) / 2
