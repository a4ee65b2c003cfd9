"""The answer on traffic whose best one is known: by theory, by exhaustion over the same settings, or by what must hold
between two answers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from in_process import mlscale
from mlscale.cost import read_prices
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import PLACES, Advised, AdviseOptions, _impossible, advise
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.minimums import PART_S, minimums, start_s
from mlscale_twin.strategy.objective import Figures, Objective, mean_of
from mlscale_twin.strategy.search import (
    SEEDS,
    Candidate,
    _by_preference,
    over_all,
    preferred,
    repeated,
    search,
)
from mlscale_twin.strategy.strategies import Strategy, strategies
from mlscale_twin.strategy.trial import Question
from mlscale_twin.studies.executors import executor

PROFILES = {"k3s": read_profile("k3s"), "ecs": read_profile("ecs")}
DAY_S = 86_400


def by_minute(*rates_rps: float, minutes: int) -> Demand:
    return Demand(np.repeat(np.array(rates_rps), 60 * minutes))


def question(demand: Demand, objective: Objective) -> Question:
    return Question(demand, objective, PROFILES, read_prices())


def tried(demand: Demand, number: int, names: Sequence[str] = ("k3s", "ecs")) -> list[Strategy]:
    return strategies(names, PROFILES, demand, number, sizes={"cpu_cores": 0.3})


@pytest.fixture(scope="module")
def pool() -> Iterator[Executor]:
    with executor(None) as processes:
        yield processes


WAVES = Demand(6.0 + 5.0 * np.sin(np.arange(9000) / 1500 * 2 * np.pi))
PULSE = by_minute(1.0, 1.0, 1.0, 1.0, 15.0, 1.0, 1.0, 1.0, minutes=20)
NOISE = Demand(np.repeat(5.0 * np.random.default_rng(1).lognormal(0.0, 0.5, 150), 60))


@pytest.mark.parametrize(
    "objective", [Objective(p95_s=1.0), Objective(p95_s=0.5), Objective(mean_s=0.2), Objective(sigma_s=0.3)]
)
@pytest.mark.parametrize("demand", [WAVES, PULSE, NOISE], ids=["waves", "pulse", "noise"])
def test_exhaustion_finds_nothing_that_is_much_cheaper(demand: Demand, objective: Objective, pool: Executor) -> None:
    """Every setting over the whole trace, and the same choice among them."""
    asked, some = question(demand, objective), tried(demand, 80)
    found = search(asked, some, pool)
    assert {each.key for each in found} == {(id(each), place) for each in some for place in each.places}
    every = [Candidate.of(strategy, place) for strategy in some for place in strategy.places]
    whole = repeated(asked, over_all(asked, every, pool), pool)
    for place in PLACES:
        exhaustive, advised = (
            preferred(objective, [each for each in all_ if each.place == place])[0] for all_ in (whole, found)
        )
        assert objective.interval(advised.runs)[1] <= max(0.0, 1.05 * objective.interval(exhaustive.runs)[1])
        assert advised.figures.usd_per_month <= 1.05 * exhaustive.figures.usd_per_month, place


@pytest.mark.parametrize(
    "objective",
    [
        Objective(p95_s=1.0),
        Objective(p95_s=0.2),
        Objective(mean_s=0.2),
        Objective(mean_s=0.2, max_usd_per_month=10.0),
        Objective(sigma_s=0.01),
    ],
)
@pytest.mark.parametrize("demand", [WAVES, NOISE], ids=["waves", "noise"])
def test_a_long_trace_has_the_same_answer_without_every_constant_number(
    demand: Demand, objective: Objective, pool: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, some = question(demand, objective), tried(demand, 80)
    found = []
    for many in (math.inf, 0):
        monkeypatch.setattr("mlscale_twin.strategy.search._MANY", many)
        found.append(search(asked, some, pool))
    assert {each.key for each in found[0]} == {each.key for each in found[1]}
    all_, few = (sum(each.strategy.is_constant and each.stage == "whole trace" for each in one) for one in found)
    assert few < all_
    for place in PLACES:
        one, other = (preferred(objective, [each for each in some_ if each.place == place])[0] for some_ in found)
        assert one == other, place


def advised_of(asked: Question, some: Sequence[Strategy], pool: Executor) -> dict[str, Candidate]:
    found = search(asked, some, pool)
    return {place: preferred(asked.objective, [each for each in found if each.place == place])[0] for place in PLACES}


@pytest.mark.parametrize("name", ["p95_s", "mean_s", "sigma_s"])
def test_a_stricter_objective_is_never_cheaper(name: str, pool: Executor) -> None:
    """But for what a tie is worth."""
    some = tried(WAVES, 100)
    asked = [question(WAVES, Objective(**{name: limit_s})) for limit_s in (0.25, 0.4, 0.8, 1.6)]
    answers = [advised_of(each, some, pool) for each in asked]
    for (strict, strict_asked), (loose, _) in itertools.pairwise(zip(answers, asked, strict=True)):
        for place in PLACES:
            if strict_asked.objective.interval(strict[place].runs)[1] <= 0:
                assert loose[place].figures.usd_per_month <= 1.02 * strict[place].figures.usd_per_month, place


def test_more_money_is_never_slower_and_more_settings_never_worse(pool: Executor) -> None:
    few, many = tried(NOISE, 60), tried(NOISE, 180)
    assert {repr(each) for each in few} <= {repr(each) for each in many}
    objective = Objective(p95_s=0.5)
    poor, rich = (
        advised_of(question(NOISE, replace(objective, max_usd_per_month=usd)), few, pool) for usd in (2.5, 3.5)
    )
    one, other = (advised_of(question(NOISE, objective), some, pool) for some in (few, many))
    for place in PLACES:
        assert rich[place].figures.slow <= poor[place].figures.slow + 1e-3, place
        assert other[place].figures.usd_per_month <= 1.02 * one[place].figures.usd_per_month, place


def test_a_minimum_rises_before_it_is_needed_and_to_the_peak() -> None:
    """A spike of five minutes, at the end of a quarter of an hour."""
    rates = np.full(4 * PART_S, 1.0)
    rates[2 * PART_S + 600 : 3 * PART_S] = 20.0
    for name, profile in PROFILES.items():
        scaling = tried(Demand(rates), 40, [name])[0].scaling
        found = [over for policy, (over, _) in minimums(Demand(rates), profile, scaling, 0.2, 64)]
        needed = [-(-20.0 * 0.2 // utilisation) for utilisation in (0.5, 0.7, 1.0)]
        assert [max(least for _, least in each) for each in found[:3]] == needed
        for each in found:
            ((rises_s, _),) = [change for before, change in itertools.pairwise(each) if change[1] > before[1]]
            assert 2 * PART_S - 600 <= rises_s <= 2 * PART_S - start_s(profile, scaling)
            assert each[-1][0] == 3 * PART_S, "not before it ends"


def test_a_spike_at_the_same_time_each_day_is_prepared_for(pool: Executor) -> None:
    """A constant number that meets the objective is paid for all day; a schedule, for the spike: within a tenth of what
    the least number costs, and a quarter of an hour and a start of the spike's."""
    day = np.full(DAY_S, 0.5)
    day[DAY_S // 2 : DAY_S // 2 + PART_S] = 20.0
    asked = question(Demand(np.tile(day, 2)), Objective(p95_s=0.5))
    some = tried(asked.demand, 60, ["ecs"])
    best = preferred(asked.objective, search(asked, some, pool))[0]
    assert best.strategy.policy == "scheduled"
    assert asked.objective.interval(best.runs)[1] <= 0
    scaling = best.strategy.scaling
    most = max(least for _, least in best.strategy.minimums)
    share = (PART_S + start_s(PROFILES["ecs"], scaling)) / DAY_S
    replicas = best.figures.replicas
    assert replicas == pytest.approx(1 + share * (most - 1), rel=0.1)


class ByTable(Executor):
    """In place of simulations: figures by the most replicas of a strategy and the seed."""

    def __init__(self, slow: dict[int, Sequence[float]]) -> None:
        self._slow = slow

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        (trial,) = args
        slow = self._slow[trial.strategy.most_replicas][trial.seed]
        job: Future[Any] = Future()
        job.set_result(
            Figures(slow, 0.2, 0.1, 0.0, 0.0, float(trial.strategy.most_replicas), trial.strategy.most_replicas)
        )
        return job


@pytest.mark.parametrize(
    ("slow", "advised", "surely"),
    [
        ({2: [0.049, 0.07, 0.07, 0.07, 0.07], 3: [0.01] * 5}, 3, True),  # met by chance
        ({2: [0.054, 0.03, 0.03, 0.03, 0.03], 3: [0.01] * 5}, 2, True),  # missed by chance
        ({2: [0.04, 0.06, 0.045, 0.055, 0.05], 3: [0.01] * 5}, 3, True),  # too close to call
        ({2: [0.04, 0.06, 0.045, 0.055, 0.05], 3: [0.04, 0.07, 0.045, 0.06, 0.05]}, 2, False),
        ({2: [0.3] * 5, 3: [0.2] * 5}, 3, False),
    ],
)
def test_what_one_seed_says_does_not_decide(slow: dict[int, Sequence[float]], advised: int, surely: bool) -> None:
    asked, table = question(by_minute(1.0, minutes=10), Objective(p95_s=1.0)), ByTable(slow)
    constant = [tried(asked.demand, 20, ["k3s"])[0].constant(number) for number in (2, 3)]
    final = over_all(asked, [Candidate.of(each, "local-shared") for each in constant], table)
    best = preferred(asked.objective, repeated(asked, final, table))[0]
    assert best.strategy.most_replicas == advised
    assert len(best.runs) == SEEDS
    assert best.figures.slow == pytest.approx(np.mean(slow[advised]))
    assert (asked.objective.interval(best.runs)[1] <= 0) == surely


def figures(usd: float, slow: float = 0.01, **changes: float) -> Figures:
    usual = {"mean_s": 0.3, "sd_s": 0.2, "failed": 0.0, "replicas": 2.0, "peak": 3}
    return Figures(slow=slow, usd_per_month=usd, **(usual | changes))  # type: ignore[arg-type]


def candidate(policy: Any, usd: float, slow: float) -> Candidate:
    return Candidate(Strategy("k3s", policy, {}), "local-shared", figures(usd, slow), "whole trace")


def test_a_tie_goes_to_fewer_slow_requests_and_then_to_the_simpler_setting() -> None:
    scheduled, reactive, slower, fixed, dear = (
        candidate("scheduled", 10.0, 0.01),
        candidate("reactive", 10.1, 0.0101),
        candidate("fixed", 10.0, 0.04),
        candidate("fixed", 10.19, 0.01),
        candidate("fixed", 10.3, 0.0),
    )
    missing = candidate("fixed", 1.0, 0.2)
    found = _by_preference(Objective(p95_s=1.0), [missing, scheduled, slower, dear, reactive, fixed], 0.0)
    assert found == [fixed, reactive, scheduled, slower, dear, missing]


def test_the_interval_is_of_the_mean_over_seeds() -> None:
    objective, runs = Objective(mean_s=1.0), [figures(1.0, mean_s=value) for value in (0.8, 0.9, 1.0)]
    half = 4.302653 * 0.1 / 3**0.5  # t of two degrees of freedom
    assert objective.interval(runs) == pytest.approx((-0.1 - half, -0.1 + half))
    assert mean_of(runs).mean_s == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("margin", "changes", "words"),
    [
        ((-0.5, -0.1), {}, "met; the twin was never compared"),
        ((-0.5, 0.1), {}, "too close to call: between 50 % within it and 10 % beyond"),
        ((0.1, 0.3), {}, "cannot be met; the closest misses it by 20 %"),
        ((0.1, 0.3), {"impossible": "--p95 of"}, "by 20 %; --p95 of"),
        ((-0.5, -0.1), {"margin_at_error": -0.1}, "met, also at the twin's largest known error"),
        ((-0.5, -0.1), {"margin_at_error": 0.1}, "met, but not at the twin's largest known error"),
        ((-0.5, -0.1), {"margin_at_error": -0.1, "margin_in_bursts": 0.1}, "met, but not if requests come in bursts"),
        ((-0.5, -0.1), {"too_short": "1 request"}, "too short to tell: 1 request"),
        ((-0.5, -0.1), {"hindsight": True, "margin_at_error": -0.1}, "met, if the traffic repeats, also"),
    ],
)
def test_a_verdict_says_how_sure_it_is(margin: tuple[float, float], changes: dict[str, Any], words: str) -> None:
    entry = Advised(candidate("fixed", 1.0, 0.01), margin, None, {}, None)
    assert words in replace(entry, **changes).verdict


def test_less_than_a_request_takes_alone_is_impossible() -> None:
    """By the work of a request over the share of a core, without the periods of the quota, which only add to it."""
    asked = question(WAVES, Objective(mean_s=0.05, sigma_s=0.01))
    some = [Candidate.of(each, "local-shared") for each in tried(WAVES, 20, ["k3s"])]
    least_s = float(_impossible(asked, some).split("--mean of requests that never wait is ")[1].split(" ")[0])
    work = PROFILES["k3s"].work["app"]
    assert work.mean_s.value < least_s < work.mean_s.value / 0.3 + 0.1
    assert "--sigma" in _impossible(asked, some)
    assert _impossible(question(WAVES, Objective(mean_s=2 * least_s)), some) == ""


def test_an_environment_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    """EKS has no machine type for replicas of 4 cores; Kubernetes here has."""
    trace = tmp_path / "trace.csv"
    trace.write_text("time_s,rate_rps\n0,350\n200,0\n")
    words = ["advise", str(trace), "--p95", "1", "--set", "cpu_cores=4", "--set", "settings=20"]
    done = mlscale(*words, "--environments", "k3s eks", "--out", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "without eks: " in done.stdout
    assert "no machine type of eks has room for 4 cores" in done.stdout
    assert "local, on machines shared with other work: k3s" in done.stdout
    assert done.stdout.startswith("read: 0.0556 h, 70,000 requests (Poisson arrivals assumed), 350 a second on average")
    assert "failed (at most 0.1 %)" in done.stdout
    refused = mlscale(*words, "--environments", "eks", "--out", str(tmp_path / "none"))
    assert refused.returncode == 2
    assert "no machine type of eks has room for 4 cores" in refused.stderr


def test_one_request_is_too_little() -> None:
    found = advise(
        Demand(np.full(1, 1.0)).window(0, 1), Objective(p95_s=1.0), AdviseOptions(environments=("k3s",), settings=10)
    )
    assert {entry.verdict for entry in found.advised.values()} == {"too short to tell: 1 request"}


@pytest.mark.parametrize(
    ("name", "p95_s", "sleeps"), [("keda", 60.0, True), ("keda", 0.6, False), ("rayserve", 60.0, False)]
)
def test_nothing_runs_at_night_where_the_objective_lets_the_first_requests_wait(
    name: str, p95_s: float, sleeps: bool
) -> None:
    """Five minutes of traffic every two hours: where a wake-up may take a minute, zero costs a fraction of one
    replica. Ray Serve's takes longer (35 s in its profile) than clients wait (30 s), so some requests would fail."""
    day = by_minute(*[2.0, *[0.0] * 23] * 3, minutes=5)
    found = advise(
        day.window(0, day.duration_s), Objective(p95_s=p95_s), AdviseOptions(environments=(name,), settings=60)
    )
    entry = found.advised["local-shared"]
    assert (entry.candidate.strategy.scaling["min_replicas"] == 0) == sleeps, entry.candidate
    assert entry.verdict.startswith("met")
    constant = [each.figures.usd_per_month for each in found.candidates if each.strategy.is_constant]
    if sleeps:
        assert entry.candidate.figures.usd_per_month < 0.4 * min(constant)
        assert any("nothing runs after" in warning for warning in entry.warnings)
    else:
        assert not entry.warnings


def test_an_index_of_dispersion_is_assumed_where_only_rates_are_known(tmp_path: Path) -> None:
    """More replicas are needed than for Poisson arrivals, and the verdict is tried with bursts four times as large."""
    rates = by_minute(3.0, minutes=40)
    asked = AdviseOptions(environments=("k3s",), settings=20)
    poisson, bursty = (
        advise(rates.window(0, rates.duration_s), Objective(p95_s=1.0), asked.model_copy(update={"burst": burst}))
        for burst in (1, 5)
    )
    place = "local-shared"
    assert bursty.advised[place].candidate.figures.replicas > poisson.advised[place].candidate.figures.replicas
    assert [each.advised[place].burst for each in (poisson, bursty)] == [4, 20]
    assert "(bursts of 5 assumed)" in bursty.question.demand.summary
    trace = tmp_path / "arrivals.csv"
    trace.write_text("time_s\n" + "\n".join(map(str, range(300))))
    refused = mlscale("advise", str(trace), "--p95", "1", "--set", "burst=4", "--out", str(tmp_path / "out"))
    assert refused.returncode == 2
    assert "--set burst=" in refused.stderr
