"""The search end to end on an hour of traffic, its objective, and the files that it gives out."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from in_process import mlscale
from mlscale import environments
from mlscale.cost import mean_and_peak, read_prices
from mlscale.plots.style import plotted
from mlscale.runs import MlscaleError
from mlscale_twin.plots.advice import cost_and_slow, replicas_and_demand
from mlscale_twin.profile import FOLDER
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import Advice, AdviseOptions, advise, check_new, strategy_table, write_advice
from mlscale_twin.strategy.demand import Demand, Window
from mlscale_twin.strategy.objective import Figures, Objective, pareto_front
from mlscale_twin.strategy.oracle import oracle_replicas
from mlscale_twin.strategy.page import verdict, write_page
from mlscale_twin.strategy.paste import settings_files
from mlscale_twin.strategy.search import Candidate, _hopeful
from mlscale_twin.strategy.strategies import Policy, Strategy, strategies
from mlscale_twin.strategy.trial import Question, replicas_over_time, run_trial, trial_of
from mlscale_twin.studies.executors import executor

NAMES = ("torchserve", "k3s", "eks", "ecs")
PROFILES = {name: read_profile(name) for name in NAMES}
HOUR = Demand(6.0 + 5.0 * np.sin(np.arange(3600) / 3600 * 2 * np.pi - 1.5))


def figures(usd: float, slow: float, **changes: Any) -> Figures:
    usual = {"mean_s": 0.3, "sd_s": 0.2, "failed": 0.0, "replicas": 2.0, "peak": 3}
    return Figures(slow=slow, usd_per_month=usd, **(usual | changes))


def test_an_objective_is_missed_by_its_worst_part() -> None:
    objective = Objective(p95_s=1.0, mean_s=0.5, max_usd_per_month=100.0)
    assert objective.excess(figures(50.0, 0.04)) == 0.0
    assert objective.excess(figures(50.0, 0.10)) == pytest.approx(1.0)
    assert objective.excess(figures(150.0, 0.10)) == pytest.approx(1.0)
    assert objective.excess(figures(300.0, 0.10)) == pytest.approx(2.0)
    assert objective.excess(figures(50.0, 0.0, mean_s=0.75)) == pytest.approx(0.5)


def test_answers_alone_do_not_meet_a_mean_or_sigma_if_requests_fail() -> None:
    assert Objective(sigma_s=0.5).excess(figures(50.0, 1.0, failed=0.6)) == pytest.approx(599.0)
    assert Objective(mean_s=0.5).excess(figures(50.0, 0.04, failed=0.001)) == 0.0
    assert Objective(mean_s=0.5, error_budget=0.7).excess(figures(50.0, 0.6, failed=0.6)) == 0.0


def test_each_percentile_has_its_share_of_requests() -> None:
    objective = Objective(p95_s=1.0, p99_s=2.0, p50_s=0.3)
    assert objective.limits_s == (1.0, 2.0, 0.3)
    assert objective.excess(figures(50.0, 0.05, over=(0.01, 0.5))) == pytest.approx(0.0, abs=1e-12)
    assert objective.excess(figures(50.0, 0.04, over=(0.02, 0.5))) == pytest.approx(1.0)
    assert objective.excess(figures(50.0, 0.04, over=(0.01, 0.75))) == pytest.approx(0.5)
    assert Objective(p99_s=2.0).excess(figures(50.0, 0.02)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("asked", "words"),
    [({}, "no response time"), ({"p95_s": -1.0}, "--p95"), ({"mean_s": float("nan")}, "--mean"),
     ({"p95_s": 1.0, "error_budget": 1.0}, "every request fail")],
)  # fmt: skip
def test_what_can_not_be_asked_is_said(asked: dict[str, float], words: str) -> None:
    with pytest.raises(MlscaleError, match=words):
        Objective(**asked)


def test_the_front_holds_what_nothing_beats() -> None:
    found = [figures(10.0, 0.5), figures(20.0, 0.1), figures(15.0, 0.6), figures(30.0, 0.1), figures(40.0, 0.01)]
    assert pareto_front(found) == [0, 1, 4]


@pytest.fixture(scope="module", autouse=True)
def _one_start_of_the_processes() -> Iterator[None]:
    with executor(None) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlscale_twin.strategy.advice.executor", lambda address: nullcontext(pool))
        yield


@pytest.fixture(scope="module")
def advice() -> Advice:
    schedule = HOUR.window(0, HOUR.duration_s)
    return advise(schedule, Objective(p95_s=1.5), AdviseOptions(environments=NAMES, settings=60))


def test_the_best_of_the_last_stage_is_advised_for_each_place(advice: Advice) -> None:
    objective = advice.question.objective
    assert set(advice.advised) == {"local-shared", "local-dedicated", "cloud"}
    for place, entry in advice.advised.items():
        assert entry.candidate.stage == "whole trace"
        others = [
            candidate.figures
            for candidate in advice.candidates
            if candidate.stage == "whole trace" and candidate.place == place
        ]
        meeting = [figures for figures in others if objective.excess(figures) <= 0]
        if meeting:
            assert entry.margin[0] <= 0
            assert entry.candidate.figures.usd_per_month <= 1.02 * min(figures.usd_per_month for figures in meeting)
    assert all(candidate.pruned for candidate in advice.candidates if candidate.stage != "whole trace")


def test_no_strategy_needs_fewer_replicas_than_the_oracle(advice: Advice) -> None:
    for entry in advice.advised.values():
        if entry.margin[0] <= 0:
            assert entry.oracle_replicas is not None
            assert entry.candidate.figures.replicas > 0.8 * entry.oracle_replicas


def test_twice_the_load_is_worse(advice: Advice) -> None:
    for entry in advice.advised.values():
        assert entry.what_if["twice the load"].slow >= entry.what_if["as assumed"].slow
        assert entry.what_if["twice the load"].at_error is None
    dearer = advice.advised["local-shared"].what_if
    assert dearer["twice the load"].usd_per_month > dearer["as assumed"].usd_per_month, "busier, at least"


def test_several_percentiles_are_what_each_is_by_itself_also_in_windows() -> None:
    tried = strategies(["k3s"], PROFILES, HOUR, 40, sizes={"cpu_cores": 0.3})
    constant = max((each for each in tried if each.is_constant), key=lambda each: each.most_replicas).constant(5)

    def over(objective: Objective, windows: Sequence[Window] = ()) -> tuple[float, ...]:
        question = Question(HOUR, objective, PROFILES, read_prices())
        found = run_trial(trial_of(question, constant, windows or [question.whole]))
        assert found.at_error is not None or windows
        return found.slow, *found.over

    both = over(Objective(p50_s=0.2, p99_s=0.6))
    assert both == (*over(Objective(p95_s=0.6)), *over(Objective(mean_s=0.2)))
    assert both[0] < both[1]
    windows = [Window(at, at + 600, 1.0) for at in range(0, 3600, 600)]
    assert over(Objective(p50_s=0.2, p99_s=0.6), windows) == pytest.approx(both, abs=0.01)


def test_windows_have_the_arrivals_of_the_whole_trace() -> None:
    """Neighbouring windows of a strategy that nothing disturbs add up to the whole."""
    question = Question(HOUR, Objective(p95_s=1.0), PROFILES, read_prices())
    tried = strategies(["k3s"], PROFILES, HOUR, 40, sizes={"cpu_cores": 0.3})
    constant = max((each for each in tried if each.is_constant), key=lambda each: each.most_replicas)
    whole = run_trial(trial_of(question, constant, [question.whole]))
    windows = [Window(start, start + 600, 1.0) for start in range(0, 3600, 600)]
    parts = run_trial(trial_of(question, constant, windows))
    assert parts.replicas == whole.replicas == constant.most_replicas
    assert parts.mean_s == pytest.approx(whole.mean_s, rel=0.02)
    assert parts.sd_s == pytest.approx(whole.sd_s, rel=0.05)
    assert parts.slow == pytest.approx(whole.slow, abs=1e-3)


def test_what_is_simulated_before_a_window_costs_nothing() -> None:
    """Ten minutes of much traffic, then none: once the loop has scaled in, a replica is left."""
    demand = Demand(np.repeat([12.0, 0.01], [600, 3000]))
    question = Question(demand, Objective(p95_s=1.0), PROFILES, read_prices())
    tried = strategies(["k3s"], PROFILES, demand, 40, sizes={"cpu_cores": 0.3})
    policy = next(each for each in tried if each.policy == "reactive" and each.scaling["metric"] == "in_flight")
    scaling = {**policy.scaling, "min_replicas": 1, "downscale_stabilisation_s": 600}
    late = run_trial(trial_of(question, replace(policy, scaling=scaling), [Window(1500, 2100, 1.0)] * 2))
    assert late.replicas == pytest.approx(1.0)


def test_replicas_that_a_schedule_asks_for_are_known_and_not_estimated() -> None:
    demand = Demand(np.full(7200, 0.01))
    question = Question(demand, Objective(p95_s=1.0), PROFILES, read_prices())
    tried = strategies(["torchserve"], PROFILES, demand.scaled(500), 40, sizes={"cpu_cores": 0.3})
    policy = next(each for each in tried if each.policy == "reactive")
    scheduled = replace(
        policy,
        minimums=tuple((900.0 * part, least) for part, least in enumerate((1, 4, 1, 1, 3, 1, 1, 1))),
        scaling={**policy.scaling, "max_replicas": 4},
    )
    found = run_trial(trial_of(question, scheduled, [Window(900, 1200, 1.0), Window(6600, 6900, 7.0)]))
    assert found.replicas == pytest.approx(13 / 8)


def test_an_oracle_of_a_constant_rate_needs_as_many_as_meet_the_objective() -> None:
    demand = Demand(np.full(1200, 5.0))
    question = Question(demand, Objective(p95_s=0.6), PROFILES, read_prices())
    policy = first("torchserve")

    def slow(number: int) -> float:
        scaling = {**policy.scaling, "min_replicas": number, "max_replicas": number}
        return run_trial(trial_of(question, replace(policy, scaling=scaling), [question.whole])).slow

    enough = next(number for number in range(1, 9) if slow(number) <= 0.05)
    assert enough > 1
    with executor(None) as pool:
        assert oracle_replicas(question, policy, pool) == enough


def test_an_environment_that_is_much_dearer_is_left_and_why() -> None:
    objective = Objective(p95_s=1.0)
    cheap, dear = first("k3s"), first("torchserve")
    tried = [
        Candidate(cheap, "local-shared", figures(10.0, 0.01), "whole trace"),
        Candidate(dear, "local-shared", figures(20.0, 0.01), "whole trace"),
    ]
    hopeful, hopeless = _hopeful(objective, tried, tried)
    assert [each.strategy for each in hopeful] == [cheap]
    assert [each.strategy for each in hopeless] == [dear]
    assert "20.00 USD a month, another environment's 10.00" in hopeless[0].pruned


def test_an_oracle_is_one_of_the_95th_percentile_alone() -> None:
    asked = AdviseOptions(environments=("k3s", "k3s"), settings=20)
    found = advise(HOUR.window(0, 60), Objective(sigma_s=0.5), asked)
    assert {entry.oracle for entry in found.advised.values()} == {"-"}
    assert len(found.candidates) == 2 * len({id(each.strategy) for each in found.candidates}), "named twice, tried once"
    texts = cost_and_slow(strategy_table(found), found.question.objective)[0, 0].texts
    assert not any("green" in text.get_text() for text in texts)


def test_the_front_is_of_what_was_simulated_over_the_whole_trace(advice: Advice) -> None:
    table = strategy_table(advice)
    assert set(table[table["on_front"]]["stage"]) == {"whole trace"}


def test_what_never_gets_to_rest_is_not_tried_with_zero_replicas() -> None:
    profiles = {"keda": read_profile("keda")}
    at_two_times = Demand(np.zeros(600), recorded_s=np.array([10.0, 310.0, 580.0]))
    assert at_two_times.longest_rest_s() == 300.0
    for demand, sleeping in ((HOUR, set()), (at_two_times, {60}), (Demand(np.full(7200, 1e-3)), {60, 300, 900})):
        tried = strategies(["keda"], profiles, demand, 400, sizes={"cpu_cores": 0.3})
        assert {each.scaling["cooldown_s"] for each in tried if each.scaling["min_replicas"] == 0} == sleeping


def test_keda_is_tried_where_it_differs_from_k3s() -> None:
    for names in (("k3s", "keda"), ("keda",)):
        found = advise(HOUR.window(1800, 1830), Objective(p95_s=1.5), AdviseOptions(environments=names, settings=20))
        tried = [each.strategy for each in found.candidates if each.strategy.environment == "keda"]
        assert tried
        assert all(each.is_constant for each in tried) == ("k3s" in names), "nothing gets to rest"


def test_no_minimum_is_above_the_most_replicas() -> None:
    tried = [each for name in NAMES for each in strategies([name], PROFILES, HOUR, 200, sizes={"cpu_cores": 0.3})]
    scheduled = [each for each in tried if each.minimums]
    assert scheduled
    for each in scheduled:
        assert max(least for _, least in (*each.minimums, *each.next_minimums)) <= each.scaling["max_replicas"]


def test_eks_has_machines_for_every_replica_and_of_a_size_that_fits() -> None:
    busy = HOUR.scaled(15.0)
    for cores, kind in ((0.3, "c7i.large"), (2.5, "c7i.xlarge")):
        for each in strategies(["eks"], PROFILES, busy, 40, sizes={"cpu_cores": cores}):
            needed = math.ceil((each.scaling["max_replicas"] + each.scaling["buffer_replicas"]) / 2)
            assert each.scaling["max_machines"] >= needed
            assert each.scaling["machine_types"] == (kind,)
    with pytest.raises(MlscaleError, match="has room for 8 cores"):
        strategies(["eks"], PROFILES, HOUR, 40, sizes={"cpu_cores": 8.0})


def test_kubernetes_files_hold_what_was_simulated() -> None:
    tried = strategies(["eks"], PROFILES, HOUR, 200, sizes={"cpu_cores": 0.3})
    strategy = next(each for each in tried if each.scaling["buffer_replicas"] == 2)
    written = {name: yaml.safe_load(text) for name, text in settings_files(strategy).items() if name.endswith("yaml")}
    buffer = written["buffer.yaml"]["items"][1]["spec"]
    assert buffer["replicas"] == 2
    (container,) = written["deployment-patch.yaml"]["spec"]["template"]["spec"]["containers"]
    assert container["resources"]["requests"] == container["resources"]["limits"]
    assert container["resources"]["requests"]["cpu"] == "300m"
    assert written["pdb.yaml"]["spec"]["maxUnavailable"] == 1
    assert written["nodepool.yaml"]["spec"]["disruption"]["budgets"] == [{"nodes": "10%"}]
    assert container["readinessProbe"]["periodSeconds"] == strategy.scaling["readiness_period_s"]
    assert buffer["template"]["spec"]["containers"][0]["resources"]["requests"] == container["resources"]["requests"]
    pool = written["nodepool.yaml"]["spec"]
    assert pool["limits"] == {"memory": f"{4096 * strategy.scaling['max_machines']}Mi"}
    assert "labels" not in written["nodepool.yaml"]["metadata"]


def test_a_folder_that_is_a_file_is_refused_before_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(MlscaleError, match="not a folder"):
        check_new(tmp_path / "out")
    with pytest.raises(MlscaleError, match="not a folder"):
        check_new(tmp_path / "out/below")
    monkeypatch.setattr("os.access", lambda path, how: path != tmp_path)
    with pytest.raises(MlscaleError, match="can't be written"):
        check_new(tmp_path / "new/below")


def test_the_table_says_why_and_everything_is_written(advice: Advice, tmp_path: Path) -> None:
    write_advice(advice, tmp_path / "out")
    record = json.loads((tmp_path / "out/advice.json").read_text())
    assert set(record["advised"]) == {"local-shared", "local-dedicated", "cloud"}
    assert all(entry["profile"]["what"] for entry in record["advised"].values())
    table = pd.read_csv(tmp_path / "out/strategies.csv")
    assert len(table) == len(advice.candidates)
    assert table["on_front"].any()
    assert table["advised"].sum() == 3
    assert all(next((tmp_path / "out" / place).iterdir()) for place in record["advised"])
    with pytest.raises(MlscaleError, match="there is an advice already"):
        write_advice(advice, tmp_path / "out")
    (tmp_path / "out/advice.json").unlink()
    with pytest.raises(MlscaleError, match="there is an advice already"):
        write_advice(advice, tmp_path / "out")
    axes = cost_and_slow(strategy_table(advice), advice.question.objective)
    simulated = table[table["stage"] != "bound"]
    assert len(plotted(axes)) == (simulated["place"] != "local-dedicated").sum() + 1
    for power in (1, 3):  # however wide the axis is, no label crosses it
        usd = strategy_table(advice)["usd_per_month"] ** power
        wide = cost_and_slow(strategy_table(advice).assign(usd_per_month=usd), advice.question.objective)[0, 0]
        wide.figure.draw_without_rendering()
        assert min(text.get_window_extent().x0 for text in wide.texts if "USD" in text.get_text()) >= wide.bbox.x0


def test_the_page_begins_with_the_verdict_and_holds_every_number_of_the_advice(advice: Advice, tmp_path: Path) -> None:
    write_page(advice, tmp_path, "the hour")
    page = unescape((tmp_path / "advice.html").read_text())
    first, second = verdict(advice)
    cloud = advice.advised["cloud"]
    usd = f"{cloud.candidate.figures.usd_per_month:.2f} USD a month"
    assert second == f"Cloud: {cloud.candidate.strategy.name}, for {usd}, objective {cloud.verdict}."
    assert page.index("How to serve the hour") < page.index(first) < page.index(second) < page.index("SIMULATED")
    for place, entry in advice.advised.items():
        assert f"{entry.candidate.figures.usd_per_month:.2f}" in page
        assert f"<code>{place}/" in page
    assert page.count("twice the load") == len(advice.advised)
    assert "95 % of responses within 1.5 s, at most 0.1 % of requests failed" in page


def test_one_replica_less_is_cheaper_or_as_cheap_and_no_faster(advice: Advice) -> None:
    for entry in advice.advised.values():
        assert (entry.one_less is None) == (entry.candidate.strategy.most_replicas == 1)
        if entry.one_less is not None:
            assert entry.one_less.strategy.most_replicas == entry.candidate.strategy.most_replicas - 1
            assert len(entry.one_less.runs) == len(entry.candidate.runs)
            assert entry.one_less.figures.usd_per_month <= 1.02 * entry.candidate.figures.usd_per_month
            assert entry.one_less.figures.slow >= entry.candidate.figures.slow - 0.002


def test_one_replica_less_keeps_what_else_is_set() -> None:
    (scheduled, *_) = [
        each
        for each in strategies(["k3s"], PROFILES, HOUR, 200, sizes={"cpu_cores": 0.3})
        if each.policy == "scheduled" and max(least for _, least in each.minimums) == each.most_replicas
    ]
    less = scheduled.one_less()
    assert less is not None
    assert max(least for _, least in (*less.minimums, *less.next_minimums)) == less.most_replicas
    assert dict(less.scaling) == {**scheduled.scaling, "max_replicas": scheduled.most_replicas - 1}
    assert scheduled.constant(1).one_less() is None


def test_replicas_are_drawn_beside_what_the_traffic_keeps_busy(advice: Advice) -> None:
    entry = advice.advised["local-shared"]
    drawn = plotted(replicas_and_demand(advice.question, entry.candidate.strategy))
    assert list(drawn["hours"]) == pytest.approx(list(np.arange(60) / 60)), "an hour by the minute"
    busy = HOUR.by_part(60) * advice.question.busy_s(entry.candidate.strategy)
    assert list(drawn["busy"]) == pytest.approx(list(busy), rel=0.01)
    changes = replicas_over_time(advice.question, entry.candidate.strategy)
    assert drawn["replicas"].max() == max(number for _, number in changes)
    average, peak = mean_and_peak(changes[1:], HOUR.duration_s, changes[0][1])
    assert (average, peak) == (entry.candidate.runs[0].replicas, entry.candidate.runs[0].peak), "the first seed"


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_what_the_framework_takes(name: str) -> None:
    tried = strategies([name], PROFILES, HOUR, 40, sizes={"cpu_cores": 0.3})
    distinct = {(each.policy, each.minimums, json.dumps(dict(each.scaling), sort_keys=True)) for each in tried}
    assert len(distinct) == len(tried)
    policies = {"fixed", "reactive"} if name == "torchserve" else {"fixed", "reactive", "scheduled"}
    assert {each.policy for each in tried} == policies
    for strategy in tried:
        written = settings_files(strategy)
        assert ("minimum.csv" in written) == (strategy.policy == "scheduled" and name == "rayserve")
        scalers = {"hpa.yaml", "scaledobject.yaml", "scaling.yaml"} & set(written)
        assert not scalers if strategy.is_constant else len(scalers) == (name in ("k3s", "eks", "ecs"))
        for file, text in written.items():
            if file.endswith(".yaml"):
                assert yaml.safe_load(text)


def test_a_serve_config_is_one_that_serve_takes() -> None:
    from ray.serve.schema import ServeDeploySchema

    profiles = {"rayserve": read_profile("rayserve")}
    strategy = next(
        each
        for each in strategies(["rayserve"], profiles, HOUR, 40, sizes={"cpu_cores": 0.3})
        if each.policy == "reactive"
    )
    schema = ServeDeploySchema.model_validate(yaml.safe_load(settings_files(strategy)["serve.yaml"]))
    (deployment,) = schema.applications[0].deployments
    assert deployment.autoscaling_config["max_replicas"] == strategy.scaling["max_replicas"]


def first(name: str) -> Strategy:
    tried = strategies([name], PROFILES, HOUR, 40, sizes={"cpu_cores": 0.3})
    return next(strategy for strategy in tried if strategy.policy == "reactive")


def test_a_scaling_policy_is_one_that_cloudformation_takes(tmp_path: Path) -> None:
    policies: tuple[Policy, ...] = ("reactive", "scheduled", "predictive")
    files = [tmp_path / f"{policy}.yaml" for policy in policies]
    for file, policy in zip(files, policies, strict=True):
        strategy = replace(first("ecs"), policy=policy, next_minimums=((0.0, 1), (3600.0, 2)))
        file.write_text(settings_files(strategy)["scaling.yaml"])
    argv = [str(Path(sys.executable).with_name("cfn-lint")), "--format", "json", *map(str, files)]
    lint = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert json.loads(lint.stdout) == [], lint.stdout + lint.stderr


@pytest.mark.parametrize("policy", ["reactive", "scheduled", "predictive"])
def test_application_auto_scaling_takes_the_same_policies(policy: Policy) -> None:
    """By botocore's own model of the service: names and types of every parameter, nothing is sent."""
    session = pytest.importorskip("botocore.session").get_session()
    model = session.get_service_model("application-autoscaling")
    validator = pytest.importorskip("botocore.validate").ParamValidator()
    strategy = replace(first("ecs"), policy=policy, next_minimums=((0.0, 1), (3600.0, 2)))
    template = yaml.safe_load(settings_files(strategy)["scaling.yaml"])
    target = template["Resources"]["ScalableTarget"]["Properties"]
    policies = [part["Properties"] for name, part in template["Resources"].items() if name != "ScalableTarget"]
    assert len(policies) == (2 if policy == "predictive" else 1)
    identity = {name: target[name] for name in ("ServiceNamespace", "ScalableDimension", "ResourceId")}
    actions = target.pop("ScheduledActions", [])
    assert len(actions) == (2 if policy == "scheduled" else 0)
    asked = [("RegisterScalableTarget", target), *(("PutScheduledAction", identity | each) for each in actions)]
    for each in policies:
        own = {name: value for name, value in each.items() if name != "ScalingTargetId"}
        asked.append(("PutScalingPolicy", identity | own))
    for operation, parameters in asked:
        report = validator.validate(parameters, model.operation_model(operation).input_shape)
        assert not report.has_errors(), report.generate_report()


def test_ecs_takes_the_task_and_the_number_of_tasks() -> None:
    """As its commands' --cli-input-json do: by botocore's model, nothing is sent."""
    session = pytest.importorskip("botocore.session").get_session()
    model = session.get_service_model("ecs")
    files = settings_files(first("ecs").constant(3))
    assert set(files) == {"service.json", "task-definition.json"}
    for name, operation in (("service.json", "UpdateService"), ("task-definition.json", "RegisterTaskDefinition")):
        shape = model.operation_model(operation).input_shape
        report = pytest.importorskip("botocore.validate").ParamValidator().validate(json.loads(files[name]), shape)
        assert not report.has_errors(), report.generate_report()


def test_a_worker_controller_takes_its_settings() -> None:
    strategy = first("torchserve")
    written = json.loads(settings_files(strategy)["worker-controller.json"])
    assert environments.get("torchserve").settings.model_validate(written).model_dump() == dict(strategy.scaling)


@pytest.mark.parametrize("name", ["k3s", "eks"])
def test_an_hpa_is_the_one_that_mlscale_applies(name: str) -> None:
    strategy = first(name)
    spec = yaml.safe_load(settings_files(strategy)["hpa.yaml"])["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == tuple(
        strategy.scaling[bound] for bound in ("min_replicas", "max_replicas")
    )


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("time_s,rate_rps\n0,1\n10,-1\n", ["--p95", "1"], "line 3"),
        ("time_s,rate_rps\n0,1\n10,nan\n", ["--p95", "1"], "line 3"),
        ("time_s\n5\n1\n", ["--p95", "1"], "line 3"),
        ("time_s\n", ["--p95", "1"], "trace.csv"),
        ("when\n1\n", ["--p95", "1"], "TIMESTAMP or time_s"),
        ("time_s,rate_rps\n0,0\n60,0\n", ["--p95", "1"], "no requests"),
        ("time_s,rate_rps\n0,9999\n60,0\n", ["--p95", "1"], "give --set cpu_cores more"),
        ("time_s,rate_rps\n0,1\n9,0\n", [], "no response time"),
        ("time_s,rate_rps\n0,1\n9,0\n", ["--p95", "0"], "above 0"),
        ("time_s,rate_rps\n0,1\n9,0\n", ["--p95", "1", "--environments", "k4s"], "k4s"),
        ("time_s,rate_rps\n0,1\n9,0\n", ["--p95", "1", "--set", "region=mars-1"], "mars-1"),
        ("time_s,rate_rps\n0,1\n9,0\n", ["--p95", "1", "--environments", ","], "no environment"),
        ("time_s,rate_rps\n0,1\n9,0\n", ["--p95", "1", "--environments", "ecs", "--set", "cpu_cores=inf"], "--set: "),
        (
            "time_s,rate_rps\n0,1\n9,0\n",
            ["--p95", "1", "--environments", "ecs", "--profile", str(FOLDER / "k3s.json")],
            "it is for k3s, which is not among ecs",
        ),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(
    tmp_path: Path, text: str, options: list[str], words: str
) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(text)
    command = ["advise", str(trace), "--out", str(tmp_path / "out"), "--set", "settings=20", *options]
    done = mlscale(*command)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 2
    assert words in last
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_profiles_of_different_applications_are_not_compared(tmp_path: Path) -> None:
    """EKS and ECS are composed with a given profile of k3s; what has none of that application has to be left out."""
    file, trace = tmp_path / "k3s.json", tmp_path / "trace.csv"
    file.write_text(read_profile("k3s").model_copy(update={"application": "mine"}).model_dump_json())
    trace.write_text("time_s,rate_rps\n0,2\n600,2\n")
    words = ["advise", str(trace), "--p95", "1", "--profile", str(file), "--set", "settings=30"]
    refused = mlscale(*words, "--out", str(tmp_path / "mixed"))
    assert refused.returncode == 2
    assert '--environments "k3s keda eks ecs"' in refused.stderr
    done = mlscale(*words, "--out", str(tmp_path / "own"), "--environments", "k3s eks ecs")
    assert done.returncode == 0, done.stderr
