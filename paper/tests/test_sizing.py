"""What the pilot concludes from what it measured, on hosts of 2 to 64 cores."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from mlscale.measurement.sizing import (
    DEMAND,
    LEAST_REPLICAS,
    MOST_LOAD_CORES,
    MOST_OF_HOST,
    UTILISATION,
    Demand,
    Host,
    forecast,
    light_response,
    loaded,
)
from mlscale.runs import MlscaleError
from mlscale_paper.sizing import PERIODS, fit, periods, photo_cpu_s

PERIODS_RANGE = 1.25, 1.75
GIB = 2**30
DEMANDS = {
    "torchserve": Demand(0.008, 0.004, 0.01, 0.003, 0.6 * GIB, 8.0),
    "rayserve": Demand(0.012, 0.012, 0.18, 0.008, 0.85 * GIB, 20.0),
    "k3s": Demand(0.007, 0.0, 0.13, 0.003, 0.5 * GIB, 8.0),
}


def host(cores: float, **changes: float) -> Host:
    return replace(Host(cores, 12 * GIB * cores, 0.0025, 0.06), **changes)


@pytest.mark.parametrize("cores", [2, 3, 4, 6, 8, 16, 32, 64])
@pytest.mark.parametrize("speed", [0.6, 1.0, 1.5])
def test_every_rule_holds_on_every_host(cores: int, speed: float) -> None:
    demands = {
        name: replace(each, own_s=each.own_s * speed, data_plane_s=each.data_plane_s * speed)
        for name, each in DEMANDS.items()
    }
    size = fit(demands, host(cores))
    assert size.replicas >= LEAST_REPLICAS
    assert max(size.forecast_cores.values()) <= MOST_OF_HOST * cores
    for name, each in demands.items():
        assert PERIODS_RANGE[0] <= periods(each, size.model_s, size.quota_cores) <= PERIODS_RANGE[1], name
        assert size.baseline_use[name] <= UTILISATION[1] + 0.005
        assert 0.8 * DEMAND[0] <= size.step_replicas[name] / size.replicas <= 1.1 * DEMAND[1]
    middle = math.exp(np.mean(np.log([*size.step_replicas.values()]))) / size.replicas
    assert DEMAND[0] <= middle <= DEMAND[1]
    assert size.open_step_rps < size.replicas * size.quota_cores / (
        size.model_s + max(c.own_s for c in demands.values())
    )
    assert size.level_s > 0


def test_two_cores_get_three_replicas_of_a_third_and_about_fourteen_clients() -> None:
    size = fit(DEMANDS, host(2))
    assert (size.replicas, size.quota_cores) == (3, 0.3)
    assert 12 <= size.clients <= 15
    assert 0.6 <= size.forecast_cores["rayserve"] / 2 <= 0.75


def test_more_cores_get_more_replicas_and_more_load() -> None:
    sizes = [fit(DEMANDS, host(cores)) for cores in (2, 4, 8, 16)]
    assert [size.replicas for size in sizes] == sorted({size.replicas for size in sizes})
    assert [size.clients for size in sizes] == sorted({size.clients for size in sizes})


def test_the_load_generator_and_memory_set_limits_too() -> None:
    size = fit(DEMANDS, host(64))
    assert size.replicas * size.quota_cores / (size.model_s + DEMANDS["k3s"].own_s) * 0.0025 <= MOST_LOAD_CORES
    assert fit(DEMANDS, host(16, memory_bytes=8 * GIB)).replicas == 5


def test_a_small_host_gets_a_smaller_quota_and_cheaper_photos() -> None:
    size = fit(DEMANDS, host(1.6))
    assert size.replicas >= LEAST_REPLICAS
    assert size.quota_cores < 0.3
    assert size.model_s < fit(DEMANDS, host(2)).model_s


def test_a_host_that_is_too_small_is_told_what_would_be_needed() -> None:
    with pytest.raises(MlscaleError, match=r"3 replicas with 0\.1 core each would need .* of 0\.5 cores"):
        fit(DEMANDS, host(0.5))


def test_the_forecast_is_the_sum_of_what_runs_at_full_quota() -> None:
    ray = DEMANDS["rayserve"]
    answers_rps = 3 * 0.3 / 0.048
    assert forecast(ray, host(2), 3, 0.036, 0.3) == pytest.approx(0.9 + answers_rps * (0.012 + 0.0025) + 0.18 + 0.06)


def test_photos_put_the_middle_of_the_environments_between_two_periods() -> None:
    photo_s = photo_cpu_s(DEMANDS, 0.3)
    each = [periods(demand, photo_s, 0.3) for demand in DEMANDS.values()]
    assert (min(each) + max(each)) / 2 == pytest.approx(PERIODS)


def test_photos_that_were_chosen_are_taken_as_they_came_out() -> None:
    assert fit(DEMANDS, host(2), 0.04).model_s == 0.04


@pytest.mark.parametrize(("work_s", "mean_s"), [(0.001, 0.001), (0.030, 0.030), (0.045, 0.080)])
def test_a_lone_request_under_a_quota(work_s: float, mean_s: float) -> None:
    """45 ms under 30 ms in each 100 ms: done at once where 15 to 30 ms of a period are left (0.15), 80 ms on average
    where more are (0.7), 115 ms where fewer are (0.15)."""
    alone = Demand(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    assert light_response(alone, work_s, 0.3) == pytest.approx(mean_s, rel=0.01)


def test_clients_on_replicas_by_mean_value_analysis() -> None:
    response_s, rate_rps = loaded(1, 1.0, 0.2, 3)
    assert (response_s, rate_rps) == (pytest.approx(0.2), pytest.approx(1 / 1.2))
    response_s, rate_rps = loaded(1000, 1.0, 0.2, 3)
    assert rate_rps == pytest.approx(15.0, rel=0.01), "three replicas that never rest"
    assert response_s == pytest.approx(1000 / 15 - 1.0, rel=0.01)
