"""What the pilot chooses for models of all kinds on hosts of all sizes: each rule is counted, none is believed."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from mlscale.measurement.model_load import TYPICAL
from mlscale.measurement.sizing import (
    LEAST_BUSY,
    LEAST_REPLICAS,
    MOST_LOAD_CORES,
    MOST_OF_HOST,
    PERIOD_S,
    Host,
    forecast,
)
from mlscale.measurement.trial import Cost
from mlscale.runs import MlscaleError
from mlscale_experiment.choice import LONGEST_S, MOST_REPLICAS, STARTS, Choice, check_hours, choose, edge, refuse

GIB = 2**30
DEMANDS = {name: TYPICAL[name] for name in ("torchserve", "rayserve")}


def host(cores: float, memory_bytes: float | None = None) -> Host:
    return Host(cores, memory_bytes or 12 * GIB * cores, 0.0025, 0.06)


def cost(cpu_s: float, wait_s: float = 0.0, spread: float = 1.0, memory_bytes: float = 0.3 * GIB) -> Cost:
    return Cost(cpu_s, cpu_s + wait_s, 2.0, memory_bytes, cpu_s / spread, cpu_s * spread, cpu_s + wait_s)


def chosen(model: Cost, cores: float = 2, slowest_s: float = 20.0, level_s: float | None = None) -> Choice:
    demands = {
        name: replace(each, memory_bytes=max(each.memory_bytes, model.memory_bytes)) for name, each in DEMANDS.items()
    }
    return choose(model, demands, host(cores), {"torchserve": slowest_s / 2, "rayserve": slowest_s}, level_s)


@pytest.mark.parametrize("cores", [2, 4, 16, 64])
@pytest.mark.parametrize("cpu_s", [0.0005, 0.002, 0.0065, 0.03, 0.1, 0.2, 0.6, 1.5, 5.0])
def test_every_model_gets_replicas_that_fit_and_a_load_that_makes_them_scale(cpu_s: float, cores: float) -> None:
    found = chosen(cost(cpu_s), cores)
    size = found.size
    assert LEAST_REPLICAS <= size.replicas <= MOST_REPLICAS
    for demand in DEMANDS.values():
        assert forecast(demand, host(cores), size.replicas, size.model_s, size.quota_cores) <= MOST_OF_HOST * cores
        rate_rps = size.replicas * size.quota_cores / (size.model_s + demand.own_s)
        assert rate_rps * 0.0025 <= MOST_LOAD_CORES
    assert max(size.baseline_use.values()) <= 0.41, "before the step, one replica suffices"
    assert max(size.step_replicas.values()) > 0.65 * size.replicas, "after it, most are needed"
    assert min(size.step_replicas.values()) >= LEAST_BUSY, "more than one in each environment"
    suffice = max(size.step_replicas.values()) <= size.replicas
    assert suffice or size.clients == math.ceil(size.clients * LEAST_BUSY / min(size.step_replicas.values()))
    assert suffice != ("stays overloaded" in found.why["step_clients"])
    assert found.timeout_s >= size.clients * max(size.model_s, cpu_s) / size.quota_cores / size.replicas


@pytest.mark.parametrize("cpu_s", [0.0005, 0.002, 0.0065, 0.03, 0.1, 0.2, 0.6, 1.5, 5.0])
def test_an_answer_is_kept_away_from_the_edge_of_a_quota_period(cpu_s: float) -> None:
    found = chosen(cost(cpu_s), cores=4)
    assert not found.at_edge
    for demand in DEMANDS.values():
        periods = (cpu_s + demand.own_s) / (found.size.quota_cores * PERIOD_S)
        assert periods < 0.86 or periods > 4.8 or 0.14 <= periods % 1 <= 0.86


def test_bodies_that_differ_too_much_are_said_to_lie_at_the_edge() -> None:
    found = chosen(cost(0.05, spread=2.0))
    assert found.at_edge
    assert "another period" in found.why["cpu_cores"]


def test_edges_by_hand() -> None:
    demands = {"torchserve": replace(DEMANDS["torchserve"], own_s=0.0)}
    for answers_s, expected in (((0.030, 0.030), True), ((0.045, 0.045), False), ((0.005, 0.02), False),
                                ((0.035, 0.065), True), ((0.2, 0.25), False)):  # fmt: skip
        model = cost(answers_s[0])._replace(low_s=answers_s[0], high_s=answers_s[1])
        assert edge(model, demands, 0.3) is expected, answers_s


def test_a_model_that_waits_is_sized_by_service_time_not_by_cpu() -> None:
    waits, computes = chosen(cost(0.005, wait_s=0.3)), chosen(cost(0.005))
    assert waits.size.think_s > 2 * computes.size.think_s
    assert waits.size.model_s / waits.size.quota_cores == pytest.approx(0.305)
    assert "it waits 300 ms" in waits.why["application"]
    cpu_s = [0.005 + DEMANDS[name].own_s for name in DEMANDS]
    shown = [f"{each / (waits.size.quota_cores * PERIOD_S):.2f}" for each in sorted(cpu_s)]
    assert f"an answer takes {shown[0]} to {shown[1]} times" in waits.why["cpu_cores"], "a quota counts CPU alone"


@pytest.mark.parametrize("start_s", [0.3, 5.0, 40.0, 120.0])
def test_the_step_is_watched_for_two_and_a_half_of_the_slowest_start(start_s: float) -> None:
    found = chosen(cost(0.03), slowest_s=start_s)
    assert found.horizon_s >= min(STARTS * start_s, LONGEST_S)
    assert found.quick_duration_s - found.quick_baseline_s > 1.2 * start_s, "a first look sees a replica start, too"
    assert found.horizon_s <= LONGEST_S


@pytest.mark.parametrize("memory_gib", [0.05, 1.5, 4.0])
def test_replicas_fit_into_memory(memory_gib: float) -> None:
    found = chosen(cost(0.05, memory_bytes=memory_gib * GIB), cores=2)
    assert found.size.replicas * memory_gib * GIB <= 0.6 * 24 * GIB


def test_a_level_that_is_given_is_kept() -> None:
    found = chosen(cost(0.03), level_s=0.77)
    assert found.size.level_s == 0.77
    assert "as given" in found.why["level_s"]


@pytest.mark.parametrize(
    ("changes", "equality", "named"),
    [
        ({"alike": False}, True, "differently from call to call"),
        ({"memory_bytes": 10 * GIB}, True, "two would not fit"),
        ({"cpu_s": 2.0, "wall_s": 0.5}, True, "keeps 4.0 of 2 cores busy"),
    ],
)
def test_what_can_t_be_measured_is_refused_in_a_sentence_with_the_way_out(
    changes: dict[str, float], equality: bool, named: str
) -> None:
    with pytest.raises(MlscaleError, match=named) as refused:
        refuse(
            cost(0.03)._replace(**changes),
            equality=equality,
            cores=2,
            memory_bytes=12 * GIB,
            application="mine",
            quotas=False,
        )
    assert refused.value.remedy
    refuse(cost(0.03)._replace(alike=False), equality=False, cores=2, memory_bytes=12 * GIB, application="mine")


def test_a_model_too_big_for_three_replicas_is_refused() -> None:
    with pytest.raises(MlscaleError, match="3 replicas"):
        chosen(cost(0.05, memory_bytes=10 * GIB), cores=2)


def test_a_model_too_cheap_to_be_loaded_is_refused_with_its_rate() -> None:
    free = {"mine": replace(DEMANDS["torchserve"], own_s=0.0)}
    with pytest.raises(MlscaleError, match=r"take \d+ requests/s, more than the load generator"):
        choose(cost(0.0002), free, host(2), {"mine": 5.0})


def test_an_experiment_that_takes_longer_than_allowed_names_the_blocks_that_fit() -> None:
    check_hours(3600.0, 1.0, 8, 450.0)
    with pytest.raises(MlscaleError, match="8 blocks take 2 h 0 min, 1 h are allowed") as refused:
        check_hours(7200.0, 1.0, 8, 900.0)
    assert "--blocks 4" in refused.value.remedy
