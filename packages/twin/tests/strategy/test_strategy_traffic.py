"""What is made of traffic: recorded arrivals are replayed, rates drawn, and a trace that says little is found out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from mlscale.cost import read_prices
from mlscale.loadgen.schedule_files import read_schedule
from mlscale.loadgen.schedules import intended_times
from mlscale.runs.schedule import Constant, OpenLoop
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import _growth, _too_short
from mlscale_twin.strategy.demand import Demand, demand_of
from mlscale_twin.strategy.minimums import start_s
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.strategy.strategies import Strategy, strategies
from mlscale_twin.strategy.trial import Question, run_trial, trial_of

PROFILES = {"torchserve": read_profile("torchserve")}


def question(demand: Demand, objective: Objective | None = None) -> Question:
    return Question(demand, objective or Objective(p95_s=1.0), PROFILES, read_prices())


def one_of(demand: Demand, replicas: int) -> Strategy:
    return strategies(["torchserve"], PROFILES, demand, 20, sizes={"cpu_cores": 0.3})[0].constant(replicas)


def recorded(file: Path, times_s: np.ndarray) -> Demand:
    file.write_text("\n".join(["time_s", *map(str, times_s.tolist())]) + "\n")
    return demand_of(read_schedule(file))


def slow(demand: Demand, replicas: int) -> float:
    asked = question(demand)
    return run_trial(trial_of(asked, one_of(demand, replicas), [asked.whole])).slow


BURSTS_S = (60.0 * np.arange(60)[:, None] + np.linspace(0, 0.5, 30)).ravel()


def test_bursts_are_replayed(tmp_path: Path) -> None:
    """30 requests within half a second, every minute. On one replica, the k-th waits for those before it: slow are all
    but those that are served within the limit of 1 s. As Poisson arrivals at the same rate, hardly any is."""
    demand = recorded(tmp_path / "trace.csv", BURSTS_S)
    service_s = question(demand).busy_s(one_of(demand, 1))
    in_time = 1.0 / (service_s - 0.5 / 29)  # k services, less the time at which the k-th came
    assert slow(demand, 1) == pytest.approx(1 - in_time / 30, abs=0.05)
    assert slow(Demand(np.full(3600, 0.5)), 1) < 0.05
    enough = math.ceil(30 * service_s / 1.0)
    assert slow(demand, enough + 1) < 0.05


def test_rates_are_drawn_as_the_load_generator_would(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv"
    file.write_text("time_s,rate_rps\n0,3\n7,1\n60,0\n")
    schedule = read_schedule(file)
    demand = demand_of(schedule)
    assert isinstance(schedule, OpenLoop)
    assert demand.is_assumed
    assert demand.sends_s(5).tolist() == np.concatenate(list(intended_times(schedule, 5))).tolist()
    even = demand_of(OpenLoop(duration_s=10, rate=Constant(rate_rps=2), arrivals="even"))
    assert not even.is_assumed
    assert even.sends_s(0).tolist() == [each / 2 for each in range(20)]


@pytest.mark.parametrize("burst", [1, 4])
def test_bursts_have_their_index_of_dispersion(burst: int) -> None:
    sends_s = Demand(np.full(40_000, 5.0), burst=burst).sends_s(1)
    counts = np.bincount((sends_s / 20).astype(int))[:-1]  # over times that are long beside a burst
    assert counts.mean() == pytest.approx(100, rel=0.02)
    assert counts.var() / counts.mean() == pytest.approx(burst, rel=0.1)


def test_twice_the_load_has_each_recorded_request_twice(tmp_path: Path) -> None:
    demand = recorded(tmp_path / "trace.csv", BURSTS_S)
    twice = demand.scaled(2.0).sends_s(0)
    assert set(BURSTS_S) <= set(twice)
    assert np.bincount(twice.astype(int)).tolist() == (2 * np.bincount(BURSTS_S.astype(int))).tolist()
    assert len(demand.scaled(1.5).sends_s(0)) == pytest.approx(1.5 * len(BURSTS_S), rel=0.05)


def test_the_summary_says_what_was_read(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,rate_rps\n2026-03-02T08:00:00+01:00,60\n2026-03-02T08:01:00+01:00,100\n")
    assert demand_of(read_schedule(file)).summary == (
        "0.0333 h from 2026-03-02 08:00 to 2026-03-02 08:02 (UTC+01:00), 9,600 requests (Poisson arrivals assumed), "
        "80 a second on average, 100 over a second, 100 over a minute"
    )
    file.write_text("TIMESTAMP\n2026-03-02 08:00:00\n2026-03-02 08:00:09\n")
    assert "(no time zone given), 2 requests (each with its time)" in demand_of(read_schedule(file)).summary


def test_a_trace_that_is_too_short_says_so(tmp_path: Path) -> None:
    single = recorded(tmp_path / "one.csv", np.zeros(1))
    assert _too_short(question(single), one_of(single, 1)) == "1 request"
    second = Demand(np.full(1, 200.0))
    one_s = start_s(PROFILES["torchserve"], one_of(second, 1).scaling)
    assert (
        _too_short(question(second), one_of(second, 1)) == f"1 s of traffic, and a replica takes {one_s:.0f} s to start"
    )
    for seconds, enough in ((2.9 * one_s, False), (3.1 * one_s, True)):
        demand = Demand(np.full(round(seconds), 20.0))
        assert (_too_short(question(demand), one_of(demand, 1)) == "") == enough


def test_growth_is_warned_of_with_when_the_replicas_are_busy() -> None:
    """At 1 % a minute, compounded, from the busiest minute, which is the last: by the logarithm."""
    growing = Demand(np.exp(np.arange(7200) / 60 * math.log(1.01)))
    strategy = one_of(growing, 8)
    most_rps = 8 / question(growing).busy_s(strategy)
    left_h = math.log(most_rps / growing.busiest_rps()) / math.log(1.01) / 60
    (warning,) = _growth(question(growing), strategy)
    assert f"grows by 1 % a minute; if it goes on, all of at most 8 replicas are busy {left_h:.2g} h after" in warning


def test_a_course_of_the_day_is_no_growth() -> None:
    day = 5 + 4 * np.sin(np.arange(86_400) / 86_400 * 2 * np.pi)
    assert Demand(day).growth_per_s() == 0
    assert Demand(np.tile(day, 3)).growth_per_s() == 0
    assert Demand(np.full(3600, 5.0)).growth_per_s() == 0
    weekly = np.concatenate([1.1**number * day for number in range(5)])
    assert Demand(weekly).growth_per_s() * 86_400 == pytest.approx(math.log(1.1), rel=0.01)
