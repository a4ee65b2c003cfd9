"""The load that is fitted to a user's own model, from 0.5 ms to 5 s of CPU an answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlscale.environments.base import own_model
from mlscale.loadgen.schedule_files import read_schedule
from mlscale.measurement import measure as measuring
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.measurement.model_load import LOAD_S, OTHER_CORES, TYPICAL, ModelLoad, load_for, misfit
from mlscale.measurement.sizing import MOST_OF_HOST, Host, forecast, light_response
from mlscale.measurement.trial import Cost
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, OpenLoop
from mlscale.runs.schedule import Constant, Ramp
from synthetic_runs import make_run

COSTS_S = [0.0005, 0.002, 0.00655, 0.02, 0.04, 0.1, 0.173, 0.256, 0.5, 1.0, 2.0, 5.0]
TWO_CORES = {"cores": 2, "memory_bytes": 24 * 2**30}
SIXTEEN_CORES = {"cores": 16, "memory_bytes": 128 * 2**30}


def cost(cpu_s: float, **changes: float) -> Cost:
    return Cost(cpu_s=cpu_s, wall_s=cpu_s, load_cpu_s=2.0, memory_bytes=0.3e9)._replace(**changes)


def fitted(cpu_s: float, host: dict[str, Any] = TWO_CORES, **given: Any) -> ModelLoad:
    return load_for(cost(cpu_s), given, host)


def busy_replicas(load: ModelLoad, cpu_s: float, clients: int) -> dict[str, float]:
    """By framework: the replicas that clients keep busy while nothing waits, from Little's law."""
    quota_cores, think_s = load.sizes["cpu_cores"], load.schedule.think_mean_s
    return {
        name: clients * (cpu_s + each.own_s) / quota_cores / (think_s + light_response(each, cpu_s, quota_cores))
        for name, each in TYPICAL.items()
    }


@pytest.mark.parametrize("host", [TWO_CORES, SIXTEEN_CORES])
@pytest.mark.parametrize("cpu_s", COSTS_S)
def test_nothing_scales_before_the_step_and_something_after_it(cpu_s: float, host: dict[str, Any]) -> None:
    load = fitted(cpu_s, host)
    before, after = (stage.clients for stage in load.schedule.stages)
    assert max(busy_replicas(load, cpu_s, before).values()) <= 0.41
    assert min(busy_replicas(load, cpu_s, after).values()) > 1.1, "one replica is not enough on any framework"
    assert load.sizes["max_replicas"] >= 3
    machine = Host(host["cores"], host["memory_bytes"], LOAD_S, OTHER_CORES)
    sizes = load.sizes["max_replicas"], cpu_s, load.sizes["cpu_cores"]
    assert max(forecast(each, machine, *sizes) for each in TYPICAL.values()) <= MOST_OF_HOST * host["cores"]


@pytest.mark.parametrize("cpu_s", COSTS_S)
def test_each_stage_lasts_for_a_number_of_answers_and_no_answer_in_the_queue_times_out(cpu_s: float) -> None:
    load = fitted(cpu_s)
    (_, first), (step_s, clients) = ((stage.start_s, stage.clients) for stage in load.schedule.stages)
    service_s = cpu_s / load.sizes["cpu_cores"]
    assert first * step_s / (load.schedule.think_mean_s + service_s) >= 8
    assert load.schedule.duration_s - step_s >= max(45.0, 20 * service_s)
    assert load.timeout_s >= max(30.0, clients * service_s)


def test_the_published_cost_gets_the_published_load() -> None:
    """data/reference/protocol.json: 39.43 ms on two cores; 2, then 14 clients that think 0.87 s; 3 replicas of 0.3."""
    load = fitted(0.03943)
    assert [stage.clients for stage in load.schedule.stages] == [2, 14]
    assert load.schedule.think_mean_s == pytest.approx(0.87, abs=0.01)
    assert load.sizes == {"max_replicas": 3, "cpu_cores": 0.3}
    assert load.options == "--scaling max_replicas=3 --scaling cpu_cores=0.3"


def test_requests_of_a_slow_model_never_overlap_before_the_step() -> None:
    """Two that overlap for 1.6 s make the arm matched grow: so a CNN of 173 to 256 ms was pre-scaled."""
    assert [fitted(cpu_s).schedule.stages[0].clients for cpu_s in (0.1, 0.173, 0.256)] == [2, 1, 1]


def test_a_schedule_of_one_s_own_that_does_not_fit_is_warned_of() -> None:
    def load(*clients: int, think_s: float = 0.6) -> ClosedLoop:
        stages = tuple(ClosedStage(start_s=10 * number, clients=each) for number, each in enumerate(clients))
        return ClosedLoop(duration_s=60, stages=stages, think_mean_s=think_s)

    assert "1.1 replicas busy from its start" in misfit(load(2, 14), cost(0.2), 0.3), "2 * 0.69 / (0.6 + 0.69)"
    assert "so nothing may scale" in misfit(load(1, 3), cost(0.00655), 0.3)
    assert "so nothing may scale" in misfit(OpenLoop(duration_s=60, rate=Constant(rate_rps=5)), cost(0.00655), 0.3)
    assert misfit(load(2, 14), cost(0.04), 0.3) == ""
    for cpu_s in COSTS_S:
        own = fitted(cpu_s)
        assert misfit(own.schedule, cost(cpu_s), own.sizes["cpu_cores"]) == ""
    ramp = OpenLoop(duration_s=60, rate=Ramp(from_rps=0, to_rps=0.1))
    assert misfit(ramp, cost(0.04), 0.3) == "", "without a constant level it is not judged"


def test_what_the_user_gives_is_kept() -> None:
    load = fitted(0.04, max_replicas="2", cpu_cores="0.5")
    assert load.sizes == {"max_replicas": 2, "cpu_cores": 0.5}
    assert min(busy_replicas(load, 0.04, load.schedule.stages[1].clients).values()) > 1.1
    assert fitted(0.04, cpu_cores=0.2).sizes["cpu_cores"] == 0.2


def test_a_model_that_waits_keeps_its_replica_busy_all_the_same() -> None:
    waits = load_for(cost(0.001, wall_s=0.5), {}, TWO_CORES).schedule
    assert waits.stages[0].clients == 1
    assert 0.25 < 0.5 / (waits.think_mean_s + 0.5) < 0.4


def test_without_quotas_clients_ask_for_more_than_a_core() -> None:
    load = fitted(0.04, {**TWO_CORES, "cgroup_version": None})
    assert load.sizes == {"max_replicas": 3, "cpu_cores": 0.5}
    busy = busy_replicas(load, 0.04, load.schedule.stages[1].clients)
    assert min(busy.values()) * load.sizes["cpu_cores"] > 1.0


def test_a_host_that_is_too_small_is_refused_in_one_sentence() -> None:
    with pytest.raises(MlscaleError, match=r"no load makes this model scale here: 3 replicas with 0\.1 core .*--sched"):
        fitted(0.04, {"cores": 0.5, "memory_bytes": 2**30})


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A model of 50 ms of CPU and what `measure` would execute."""
    monkeypatch.chdir(tmp_path)
    Path("spins.py").write_text(
        "import time\n"
        "def make():\n"
        "    def answer(body):\n"
        "        until = time.process_time() + 0.05\n"
        "        while time.process_time() < until: pass\n"
        "        return {}\n"
        "    return answer\n"
    )
    Path("bodies").mkdir()
    Path("bodies/one.txt").write_text("word")
    requests: list[Any] = []
    monkeypatch.setattr(measuring, "_execute", requests.append)
    return requests


def test_measure_without_a_schedule_fits_the_load_and_offers_it_for_other_frameworks(measured: list[Any]) -> None:
    said: list[str] = []
    options = MeasureOptions(progress=lambda step, share: said.append(step))
    measure("torchserve", own_model("spins:make"), bodies="bodies", out="runs/one", options=options)
    (request,) = measured
    expected = fitted(0.05)
    assert isinstance(request.schedule, ClosedLoop)
    assert request.schedule.think_mean_s == pytest.approx(expected.schedule.think_mean_s, rel=0.2)
    assert request.scalings["app"].max_replicas == expected.sizes["max_replicas"]
    assert any(step.startswith("the load is fitted to that: clients think") for step in said)
    assert any("--schedule runs/one --scaling max_replicas=" in step for step in said)
    measure("torchserve", own_model("spins:make"), request.schedule, bodies="bodies", out="runs/two")
    assert measured[1].schedule == request.schedule


def test_a_run_is_a_schedule(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    assert read_schedule(run.path) == run.info.schedule
    (tmp_path / "empty").mkdir()
    with pytest.raises(MlscaleError, match="empty"):
        read_schedule(tmp_path / "empty")
