"""Today's setting: read from files and options, and compared with what is advised."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import yaml

from in_process import mlscale
from mlscale.runs import MlscaleError
from mlscale_twin.profile_files import read_profile
from mlscale_twin.simulate import _unread
from mlscale_twin.strategy.advice import Advice, AdviseOptions, advise
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.in_use import read_in_use
from mlscale_twin.strategy.objective import Figures, Objective
from mlscale_twin.strategy.paste import daily_minimums, settings_files
from mlscale_twin.strategy.search import Candidate
from mlscale_twin.strategy.strategies import Strategy, strategies
from mlscale_twin.strategy.today import Today, beside
from mlscale_twin.studies.executors import executor

SIZES = {"cpu_cores": 0.3}
HOUR = Demand(np.full(3600, 3.0))
NIGHT = np.zeros(3600)
WAVES = Demand(
    np.append(6.0 + 5.0 * np.sin(np.arange(7200) / 3600 * 2 * np.pi), NIGHT), begins=datetime(2026, 3, 2, 7, 20, 13)
)
CPU = {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
HPA: dict[str, Any] = {
    "apiVersion": "autoscaling/v2",
    "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "shop"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
        "minReplicas": 2,
        "maxReplicas": 5,
        "metrics": [CPU],
        "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    },
}  # fmt: skip
CRON = {"timezone": "Europe/Berlin", "start": "0 8 * * 1-5", "end": "30 18 * * MON-FRI", "desiredReplicas": "5"}
SCALED: dict[str, Any] = {
    "apiVersion": "keda.sh/v1alpha1",
    "kind": "ScaledObject",
    "metadata": {"name": "shop"},
    "spec": {
        "scaleTargetRef": {"name": "shop"},
        "minReplicaCount": 1,
        "maxReplicaCount": 4,
        "pollingInterval": 15,
        "triggers": [
            {"type": "cpu", "metricType": "Utilization", "metadata": {"value": "70"}},
            {"type": "cron", "metadata": CRON},
        ],
    },
}
PUSH = {**SCALED, "spec": {"minReplicaCount": 0, "triggers": [{"type": "external-push", "metadata": {}}]}}
DEPLOYMENT: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "shop"},
    "spec": {
        "replicas": 3,
        "template": {"spec": {"containers": [
            {"name": "web", "image": "shop", "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}},
             "readinessProbe": {"periodSeconds": 5}}
        ]}},
    },
}  # fmt: skip
SERVE: dict[str, Any] = {
    "applications": [
        {"name": "shop", "import_path": "shop:app", "deployments": [
            {"name": "Model", "ray_actor_options": {"num_cpus": 2}, "max_ongoing_requests": 7,
             "autoscaling_config": {"max_replicas": 6, "target_ongoing_requests": 3, "upscaling_factor": None}}
        ]}
    ]
}  # fmt: skip


def read(folder: Path, *documents: Any, demand: Demand = HOUR, more: tuple[str, ...] = ()) -> Strategy:
    file = folder / "today.yaml"
    file.write_text(yaml.safe_dump_all(documents))
    return read_in_use([str(file), *more], demand, SIZES)[0]


def test_every_setting_that_advise_writes_is_read_back_as_the_same(tmp_path: Path) -> None:
    """As far as it changes what is simulated. A fixed number of replicas on Kubernetes leaves open what would scale it:
    its files are the same again."""
    names = ("torchserve", "rayserve", "k3s", "keda", "eks")
    seen = set()
    for name in names:
        for number, strategy in enumerate(strategies([name], {name: read_profile(name)}, WAVES, 150, sizes=SIZES)):
            folder, files = tmp_path / f"{name}-{number}", settings_files(strategy, WAVES.begins)
            folder.mkdir()
            for file, text in files.items():
                (folder / file).write_text(text)
            found, _ = read_in_use([str(folder)], WAVES, SIZES)
            day = daily_minimums(strategy, WAVES.begins)
            assert daily_minimums(found, WAVES.begins) == day
            assert found.policy == ("scheduled" if day else strategy.policy)
            assert settings_files(found, WAVES.begins) == files
            if strategy.is_constant and name in ("k3s", "keda", "eks"):
                assert found.scaling["max_replicas"] == found.scaling["min_replicas"] == strategy.most_replicas
            else:
                one, other = (
                    {key: value for key, value in each.items() if key not in _unread(each)}
                    for each in (found.scaling, strategy.scaling)
                )
                assert one == other
                assert found.environment == name
            seen |= {(name, strategy.policy, file) for file in files} | {(name, strategy.scaling["min_replicas"])}
    assert {("rayserve", "scheduled", "minimum.csv"), ("k3s", "scheduled", "scaledobject.yaml")} <= seen
    assert {("k3s", "reactive", "hpa.yaml"), ("eks", "reactive", "nodepool.yaml"), ("keda", 0), ("eks", 0)} <= seen


def test_an_hpa_with_its_deployment(tmp_path: Path) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "spec": {}}
    found = read(tmp_path, HPA, DEPLOYMENT, service)
    assert (found.environment, found.policy, found.name) == ("k3s", "reactive", "k3s, reactive, 2 to 5 replicas")
    expected = {
        "metric": "cpu", "target_cpu_percent": 60, "downscale_stabilisation_s": 60, "upscale_stabilisation_s": None,
        "cpu_cores": 0.5, "memory_mib": 1024, "readiness_period_s": 5, "min_replicas": 2, "max_replicas": 5,
    }  # fmt: skip
    assert {name: found.scaling[name] for name in expected} == expected
    assert read(tmp_path, DEPLOYMENT).name == "k3s, fixed, 3 replicas"
    assert read(tmp_path, HPA, more=("eks:boot=60s",)).scaling["boot"] == "60s"
    old = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v1", "spec": {"maxReplicas": 9}}
    assert read(tmp_path, old).scaling["target_cpu_percent"] == 80, "as Kubernetes fills in"
    listed = {"apiVersion": "v1", "kind": "List", "items": [HPA]}
    assert read(tmp_path, listed) == read(tmp_path, HPA)


def test_what_is_assumed_or_ignored_is_said(tmp_path: Path) -> None:
    (tmp_path / "hpa.yaml").write_text(yaml.safe_dump({**HPA, "spec": {**HPA["spec"], "maxReplicas": 100}}))
    (tmp_path / "pdb.yaml").write_text("{apiVersion: policy/v1, kind: PodDisruptionBudget, spec: {maxUnavailable: 1}}")
    found, notes = read_in_use([str(tmp_path)], HOUR, SIZES)
    assert found.most_replicas == 64
    assert [note.removeprefix(f"{tmp_path}/") for note in notes] == [
        "spec.maxReplicas is 100: at most 64 are simulated",
        "pdb.yaml: PodDisruptionBudget scales no replicas, ignored",
        "cpu_cores is not given: 0.3 assumed",
    ]


def test_a_schedule_follows_its_own_clock(tmp_path: Path) -> None:
    """From a Friday in winter time to the Monday after clocks were put forward; the weekend has no start."""
    begins = datetime(2026, 3, 27, 0, 0, tzinfo=ZoneInfo("UTC"))
    demand = Demand(np.full(4 * 86_400, 1.0), begins=begins)
    found = read(tmp_path, SCALED, demand=demand)
    assert (found.environment, found.policy, found.scaling["polling_interval_s"]) == ("keda", "scheduled", 15)
    monday = 3 * 86_400
    assert found.minimums == (
        (0.0, 1), (7 * 3600.0, 4), (17.5 * 3600.0, 1), (monday + 6 * 3600.0, 4), (monday + 16.5 * 3600.0, 1)
    )  # fmt: skip
    at_noon = replace(demand, begins=begins + timedelta(hours=12))
    assert read(tmp_path, SCALED, demand=at_noon).minimums[0] == (0.0, 4)


def test_a_serve_config(tmp_path: Path) -> None:
    found = read(tmp_path, SERVE)
    expected = {
        "min_replicas": 1, "max_replicas": 6, "target_ongoing_requests": 3.0, "max_ongoing_requests": 7,
        "cpu_cores": 2.0, "upscaling_factor": 1.0, "downscale_delay_s": 600.0,
    }  # fmt: skip
    assert {name: found.scaling[name] for name in expected} == expected
    three = {"applications": [{"deployments": [{"name": "Model", "num_replicas": 3}]}]}
    assert read(tmp_path, three).name == "rayserve, fixed, 3 replicas"


def test_named_settings_take_precedence_over_files(tmp_path: Path) -> None:
    assert read(tmp_path, HPA, more=("k3s:max_replicas=9",)).most_replicas == 9
    found, notes = read_in_use(["ecs:max_replicas=6,target=60,metric_period_s=20"], HOUR, SIZES)
    assert (found.name, found.scaling["target"], found.scaling["metric_period_s"]) == (
        "ecs, reactive, 1 to 6 replicas", 60.0, 20,
    )  # fmt: skip
    assert "cpu_cores is not given: 0.5 assumed" in notes, "Fargate's next larger"


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy with another value at "spec.metrics.0.type"."""
    document, (*before, last) = copy.deepcopy(document), path.split(".")
    at: Any = document
    for name in before:
        at = at[int(name) if isinstance(at, list) else name]
    at[int(last) if isinstance(at, list) else last] = value
    return document


GAUGE = {"type": "metrics-api", "metadata": {"targetValue": "2", "aggregateFromKubeServiceEndpoints": "true"}}
MODEL = "applications.0.deployments.0"
AT_ONCE = [{"type": "Percent", "value": 10, "periodSeconds": 60}]
PODS = {"type": "Pods", "pods": {"metric": {"name": "queue_length"}, "target": {"type": "AverageValue"}}}


@pytest.mark.parametrize(
    ("documents", "words"),
    [
        ([], "it is empty"),
        ([["a"]], "it is not a mapping"),
        ([{"a": 1}], "unknown content (a)"),
        ([{"apiVersion": "v1", "kind": "Service"}], "nothing in it scales replicas"),
        ([HPA, HPA], "a HorizontalPodAutoscaler, but a HorizontalPodAutoscaler scales the replicas already"),
        ([HPA, SERVE], "it is of rayserve, the rest of k3s"),
        ([changed(HPA, "spec.minReplicas", 9)], "min_replicas (9) is above max_replicas (5)"),
        ([changed(HPA, "spec.maxReplicas", "many")], "spec.maxReplicas is 'many', not a number"),
        ([changed(HPA, "spec.metrics.0", PODS)], "spec.metrics[0] (Pods queue_length) is not understood"),
        ([changed(HPA, "spec.metrics", [CPU, CPU])], "spec.metrics[1] (Resource cpu) is not understood"),
        ([changed(HPA, "spec.behaviour", {})], "spec.behaviour is not understood"),
        ([changed(HPA, "spec.behavior.scaleDown.policies", AT_ONCE)], "spec.behavior.scaleDown.policies is not"),
        ([changed(HPA, "spec.behavior.scaleUp", {"selectPolicy": "Disabled"})], "scaleUp.selectPolicy is not"),
        ([changed(SCALED, "spec.triggers.0.type", "prometheus")], "spec.triggers[0] (prometheus) is not understood"),
        ([changed(SCALED, "spec.triggers", [{"type": "cron", "metadata": CRON}])], "names no metric, only times"),
        ([changed(SCALED, "spec.triggers.1.metadata.timezone", "Mars")], "timezone is 'Mars'"),
        ([changed(SCALED, "spec.triggers.1.metadata.start", "*/5 8 * * *")], "start is '*/5 8 * * *'"),
        ([changed(SCALED, "spec.triggers.0.metadata.type", "AverageValue")], "triggers[0].metadata.type is not"),
        ([changed(SCALED, "spec.triggers.0", GAUGE)], "aggregationType is not understood: sum is"),
        ([changed(SCALED, "spec.minReplicaCount", 0)], "spec.minReplicaCount is 0"),
        ([changed(SCALED, "spec.idleReplicaCount", 0)], "spec.idleReplicaCount is not understood"),
        ([changed(DEPLOYMENT, "spec.template.spec.containers", [])], "containers has 0"),
        ([changed(DEPLOYMENT, "spec.template.spec.containers.0.resources.requests", {"cpu": 1})], "is not the limit"),
        ([changed(SERVE, "applications.0.deployments", [])], "has 0 deployments"),
        ([changed(PUSH, "spec.minReplicaCount", 1)], "spec.minReplicaCount is 1"),
        ([PUSH], "the target is missing"),
        ([changed(SERVE, f"{MODEL}.autoscaling_config.policy", "mine")], "policy is not understood"),
        ([changed(SERVE, f"{MODEL}.ray_actor_options.num_gpus", 1)], "num_gpus is not understood"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_line_that_names_the_field(tmp_path: Path, documents: list[Any], words: str) -> None:
    with pytest.raises(MlscaleError) as refused:
        read(tmp_path, *documents)
    assert words in str(refused.value)
    assert "today.yaml" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("document", [HPA, SCALED, DEPLOYMENT, SERVE], ids=["hpa", "scaled", "deployment", "serve"])
def test_whatever_is_wrong_in_a_file_is_an_error_of_ours(tmp_path: Path, document: dict[str, Any]) -> None:
    """Each value in turn replaced by one of another type."""

    def paths(value: Any, before: str = "") -> Iterator[str]:
        entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, each in entries:
            yield f"{before}{name}"
            yield from paths(each, f"{before}{name}.")

    refused = 0
    for path in paths(document):
        for value in (None, -1, math.inf, "x", [], {}, [None], {"x": 1}, datetime(2026, 1, 1)):
            try:
                read(tmp_path, changed(document, path, value))
            except MlscaleError as error:
                refused += "\n" not in str(error)
    assert refused > 10


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (f"k4s:{'max_replicas=3,' * 50}", "unknown environment 'k4s'"),
        ("none.yaml", "no such file"),
        ("k4s:max_replicas=3", "unknown environment 'k4s'"),
        ("k3s:", "nothing in it scales replicas"),
        ("k3s:max_replicas", "not KEY=VALUE"),
        ("k3s:max_replica=3", "unknown setting 'max_replica'"),
        ("ecs:launch=ec2", "launch=ec2 can't be compared"),
    ],
)
def test_a_wrong_option_is_one_line_before_the_search(tmp_path: Path, given: str, words: str) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,rate_rps\n0,2\n600,2\n")
    done = mlscale("advise", str(trace), "--p95", "1", "--out", str(tmp_path / "out"), "--today", given)
    assert done.returncode == 2
    assert words in done.stderr.strip().splitlines()[-1]
    assert not (tmp_path / "out").exists()


def figures(usd: float, slow: float = 0.01, **changes: Any) -> Figures:
    return Figures(slow=slow, mean_s=0.3, sd_s=0.2, failed=0.0, usd_per_month=usd, replicas=2.0, peak=3, **changes)


def candidate(*runs: Figures) -> Candidate:
    strategy = Strategy("k3s", "fixed", {"min_replicas": 2, "max_replicas": 2})
    return Candidate(strategy, "local-shared", runs[0], "whole trace", runs=runs)


def test_differences_are_of_pairs_with_the_same_seed() -> None:
    """By hand: differences of 1, 2 and 3 have a standard error of 1 / sqrt(3), times t = 4.303 of two degrees."""
    old = [figures(usd, p95_s=1.0) for usd in (10.0, 20.0, 30.0)]
    new = [figures(usd, p95_s=0.5) for usd in (11.0, 22.0, 33.0)]
    found = beside(Objective(p95_s=1.0), candidate(*old), candidate(*new))
    assert found.differences["usd_per_month"] == pytest.approx(
        (2.0, 2 - 4.3027 / 3**0.5, 2 + 4.3027 / 3**0.5), rel=1e-4
    )
    assert found.differences["p95_s"] == (-0.5, -0.5, -0.5), "the same in each pair"
    assert "p50_s" not in found.differences
    assert found.change == "cost +2 (-0.484 to +4.48) USD a month, p95 -0.5 (-0.5 to -0.5) s"


@pytest.mark.parametrize(
    ("today_usd", "today_slow", "advised_usd", "advised_slow", "keep", "words"),
    [
        (10.0, 0.01, 10.0, 0.01, True, "is no cheaper"),
        (10.0, 0.01, 9.85, 0.01, True, "saves 1.5 %"),
        (
            10.0,
            0.01,
            9.5,
            0.01,
            False,
            "change: both settings surely meet the objective, and the advised one saves 5 %",
        ),
        (10.0, 0.01, 12.0, 0.001, True, "is no cheaper"),
        (10.0, 0.20, 20.0, 0.01, False, "change: the advised setting surely meets the objective"),
        (10.0, 0.01, 5.0, 0.20, True, "which the advised setting does not"),
        (10.0, 0.20, 5.0, 0.10, False, "neither setting surely meets"),
    ],
)
def test_what_is_in_use_is_kept_unless_a_change_is_worth_it(
    today_usd: float, today_slow: float, advised_usd: float, advised_slow: float, keep: bool, words: str
) -> None:
    old, new = candidate(*[figures(today_usd, today_slow)] * 2), candidate(*[figures(advised_usd, advised_slow)] * 2)
    found = beside(Objective(p95_s=1.0), old, new)
    assert found.keep == keep
    assert words in found.conclusion
    assert found.conclusion.startswith("keep") == keep
    short = replace(found, too_short="1 request")
    assert (short.keep, short.conclusion) == (False, "too short to tell: 1 request")


@pytest.fixture(scope="module")
def advised() -> Iterator[dict[str, Advice]]:
    """On machines for this alone, where 5 requests/s need two replicas, by what is in use."""
    asked = AdviseOptions(environments=("k3s",), settings=30)
    with executor(None) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlscale_twin.strategy.advice.executor", lambda address: nullcontext(pool))
        yield {
            given: advise(
                Demand(np.full(1800, 5.0)).window(0, 1800),
                Objective(p95_s=1.0),
                asked.model_copy(update={"today": [given]}),
            )
            for given in ("k3s:min_replicas=12,max_replicas=12", "k3s:min_replicas=1,max_replicas=1")
        }


def entry(advice: Advice) -> Today:
    return advice.today["local-shared"]


def test_too_many_are_dear_and_too_few_miss_the_objective(advised: dict[str, Advice]) -> None:
    many, few = advised.values()
    assert set(many.today) == {"local-shared", "local-dedicated"}
    assert entry(many).candidate.figures.replicas == 12.0
    assert entry(many).verdict == "met"
    assert entry(many).conclusion.startswith(
        "change: both settings surely meet the objective, and the advised one saves"
    )
    assert entry(few).verdict.startswith("missed by")
    assert entry(few).conclusion.startswith("change: the advised setting surely meets the objective, which")
    now = many.advised["local-shared"].candidate
    for name in ("usd_per_month", "mean_s", "slow", "p99_s"):
        pairs = zip(now.runs, entry(many).candidate.runs, strict=True)
        expected = np.mean([getattr(new, name) - getattr(old, name) for new, old in pairs])
        assert entry(many).differences[name][0] == pytest.approx(expected)
    assert many.advised["local-shared"].candidate.figures == few.advised["local-shared"].candidate.figures


def test_what_was_advised_is_kept_and_its_line_can_be_checked(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,rate_rps\n0,5\n1200,5\n")
    words = ["advise", str(trace), "--p95", "1", "--environments", "k3s", "--set", "settings=30"]
    assert mlscale(*words, "--out", str(tmp_path / "first")).returncode == 0
    done = mlscale(*words, "--out", str(tmp_path / "again"), "--today", str(tmp_path / "first/local-shared"))
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "again/advice.json").read_text())
    now = record["today"]["local-shared"]
    assert now["keep"]
    assert now["conclusion"] in done.stdout
    assert now["conclusion"] in (tmp_path / "again/advice.html").read_text()
    assert now["figures"] == record["advised"]["local-shared"]["figures"]
    assert set(map(tuple, now["advised_minus_today"].values())) == {(0.0, 0.0, 0.0)}
    lines = [line.partition("check: mlscale ")[2] for line in done.stdout.splitlines() if "check: " in line]
    assert len(set(lines)) == 4
    for line in lines:
        assert "the same as in the advice, to the last digit" in mlscale(*line.split()).stdout
    refused = mlscale(*words, "--out", str(tmp_path / "cloud"), "--today", "ecs:max_replicas=3")
    assert "add ecs to --environments" in refused.stderr
