"""A line of an advice, simulated again by one command: the same figures, to the last digit."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from in_process import mlscale
from mlscale.cost import read_prices
from mlscale.runs import load_run
from mlscale.runs.schedule import OpenLoop
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import Advice, check_command, strategy_table, write_advice
from mlscale_twin.strategy.demand import Demand, demand_of
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.strategy.search import Candidate, over_all, repeated
from mlscale_twin.strategy.strategies import Strategy, strategies
from mlscale_twin.strategy.trial import Question
from mlscale_twin.studies.executors import executor

PROFILES = {name: read_profile(name) for name in ("torchserve", "keda", "eks", "ecs")}
RATES = Demand(np.repeat([1.0, 9.0, 0.0, 4.0], 900)).window(0, 3600)


@pytest.fixture(scope="module", autouse=True)
def _one_start_of_the_processes() -> Iterator[None]:
    with executor(None) as pool, pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlscale_twin.strategy.advised.executor", lambda address: nullcontext(pool))
        yield


def chosen(demand: Demand) -> list[Strategy]:
    """One of each policy, on several environments."""
    tried = {name: strategies([name], PROFILES, demand, 300, sizes={"cpu_cores": 0.3}) for name in PROFILES}
    asleep = next(each for each in tried["keda"] if each.scaling["min_replicas"] == 0)
    scheduled = {name: next(each for each in tried[name] if each.policy == "scheduled") for name in ("eks", "ecs")}
    reactive = next(each for each in tried["torchserve"] if each.policy == "reactive")
    fine = next(each for each in tried["ecs"] if each.policy == "reactive" and each.scaling["metric_period_s"] == 20)
    predictive = replace(scheduled["ecs"], policy="predictive")
    return [asleep, scheduled["eks"], predictive, reactive, fine, scheduled["ecs"].constant(2)]


def advice_for(schedule: OpenLoop) -> Advice:
    demand = demand_of(schedule)
    dear = replace(read_prices(), local={**read_prices().local, "machine_usd": 9876.5})
    question = Question(demand, Objective(p95_s=1.0, p99_s=2.0), PROFILES, dear, seed=7)
    every = [Candidate.of(strategy, strategy.places[0]) for strategy in chosen(demand)]
    with executor(None) as pool:
        whole = [repeated(question, over_all(question, [each], pool), pool)[0] for each in every]
        once = over_all(question, every[:1], pool)
    return Advice(question, {}, [*whole, *once])


def test_simulate_gives_the_figures_of_every_policy_to_the_last_digit(tmp_path: Path) -> None:
    advice = advice_for(RATES)
    (tmp_path / "advice").mkdir()
    write_advice(advice, tmp_path / "advice")
    table = strategy_table(advice)
    assert set(table["policy"]) == {"fixed", "reactive", "scheduled", "predictive"}
    before = {json.dumps(asdict(each.figures)): each for each in advice.candidates}
    assert len(before) == len(table) == 7
    for line in range(2, len(table) + 2):
        done = mlscale("simulate", "--advised", f"{tmp_path}/advice/strategies.csv:{line}", "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        candidate = before.pop(json.dumps(said["figures"]))
        assert json.dumps(said["runs"]) == json.dumps([asdict(each) for each in candidate.runs or (candidate.figures,)])
        assert said["compared"] == "the same as in the advice, to the last digit"
        assert table["settings"][line - 2] == json.dumps(dict(candidate.strategy.scaling))
    assert not before


def test_a_run_of_recorded_arrivals_is_the_one_that_the_advice_is_about(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    times_s = np.sort(np.random.default_rng(3).uniform(0, 1800, 4000))
    trace.write_text("time_s\n" + "\n".join(f"{each:.6f}" for each in times_s))
    advised = mlscale("advise", str(trace), "--p95", "1", "--environments", "k3s ecs", "--set", "settings=60",
                      "--out", str(tmp_path / "advice"))  # fmt: skip
    assert advised.returncode == 0, advised.stderr
    record = json.loads((tmp_path / "advice/advice.json").read_text())["advised"]["cloud"]
    command = next(
        line.partition("check: mlscale ")[2] for line in advised.stdout.splitlines() if "advice/cloud" in line
    )
    assert command.split("/")[-1] == record["check_in_this_folder"].split()[-1]
    out = tmp_path / "run"
    done = mlscale(*command.split(), "--out", str(out))
    assert "the same as in the advice, to the last digit" in done.stdout, done.stdout + done.stderr
    assert f"{record['figures']['usd_per_month']:.2f} USD a month" in done.stdout
    requests = load_run(out).requests
    response_s = (requests["done_s"] - requests["intended_s"])[requests["status"] == "ok"]
    first = record["runs"][0]
    assert len(requests) == 4000
    assert response_s.mean() == pytest.approx(first["mean_s"], rel=1e-12)
    assert response_s.quantile(0.95) == pytest.approx(first["p95_s"], rel=0.01)
    trace.write_text("time_s\n0\n1\n")
    assert "has changed since" in mlscale(*command.split()).stderr
    other = mlscale(*command.split(), "--schedule", str(trace))
    assert "not what the advice has: " in other.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("advice/strategies.csv", "no line is named"),
        ("nowhere/strategies.csv:2", "No such file"),
        ("advice/strategies.csv:1", "it has lines 2 to 2"),
        ("advice/strategies.csv:3", "it has lines 2 to 2"),
        ("advice/strategies.csv:2", "not a line of an advice: KeyError('environment')"),
    ],
)
def test_a_line_that_is_none_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, words: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "advice").mkdir()
    (tmp_path / "advice/advice.json").write_text("{}")
    (tmp_path / "advice/strategies.csv").write_text("place\ncloud\n")
    done = mlscale("simulate", "--advised", line)
    assert done.returncode == 2
    assert words in done.stderr.strip().splitlines()[-1]


def test_what_would_be_ignored_is_refused_and_what_is_missing_said(tmp_path: Path) -> None:
    assert "--scaling: it has no effect with --advised" in mlscale(
        "simulate", "--advised", "advice/strategies.csv:2", "--scaling", "max_replicas=2"
    ).stderr  # fmt: skip
    assert "--out: it is required without --advised" in mlscale("simulate", "ecs").stderr
    done = mlscale("simulate", "ecs", "--scaling", "metric_period_s=20", "--out", str(tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    refused = mlscale("simulate", "ecs", "--scaling", "metric_period_s=30", "--out", str(tmp_path / "other"))
    assert "20 or 60" in refused.stderr


def test_the_command_names_the_line_of_what_is_advised() -> None:
    import pandas as pd

    table = pd.DataFrame({"advised": [False, True, True], "place": ["cloud", "local-shared", "cloud"]})
    assert check_command(table, "cloud", Path("my advice")) == (
        "mlscale simulate --advised 'my advice/strategies.csv:4'"
    )
