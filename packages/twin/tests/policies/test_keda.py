"""KEDA's activation, case by case, and the whole twin at zero replicas against times that are known beforehand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mlscale.analysis.wakeup import asleep, wake_ups
from mlscale.runs import OpenLoop, Run, Staircase
from mlscale.runs.schedule import Step
from mlscale_twin.policies.keda import PING_S, KedaState, look
from mlscale_twin.simulate import SimulateOptions, simulate


def test_a_request_starts_the_first_replica_and_leaves_others_alone() -> None:
    assert look(5.0, True, 0, 30.0, KedaState()) == (1, KedaState(5.0))
    assert look(5.0, True, 3, 30.0, KedaState(1.0)) == (3, KedaState(5.0))


def test_the_last_replica_ends_once_the_cooldown_has_passed_since_the_last_look_that_saw_a_request() -> None:
    seen = KedaState(100.0)
    assert look(130.0, False, 1, 30.0, seen) == (1, seen), "KEDA compares with Before: not yet"
    assert look(130.1, False, 1, 30.0, seen) == (0, seen)
    assert look(130.1, False, 4, 30.0, seen) == (0, seen), "from any number at once"
    assert look(500.0, False, 0, 30.0, seen) == (0, seen)
    assert look(0.0, False, 1, 300.0, KedaState(-math.inf)) == (0, KedaState(-math.inf)), "never active: no cooldown"


def _one_then_a_burst() -> OpenLoop:
    rates = ((0.0, 0.0), (100.0, 1.0), (101.0, 0.0), (250.0, 8.0), (255.0, 0.0))
    steps = tuple(Step(start_s=at_s, rate_rps=rate_rps) for at_s, rate_rps in rates)
    return OpenLoop(duration_s=330.0, rate=Staircase(steps=steps), arrivals="even")


@pytest.fixture(scope="module", params=["rayserve", "keda"])
def run(request: pytest.FixtureRequest) -> Run:
    patient = SimulateOptions(timeout_s=120.0)
    return simulate(request.param, schedule=_one_then_a_burst(), scaling={"min_replicas": 0}, options=patient)


def test_every_request_is_held_until_a_replica_runs_and_answered(run: Run) -> None:
    assert len(run.requests) == 41
    assert set(run.requests["status"]) == {"ok"}
    rows = wake_ups([run], level_s=0.5)
    assert len(rows) == 2
    starts_s = rows["wake_s"]
    assert (starts_s > 3).all(), "a start takes seconds under the quota"
    parts = rows[["decision_s", "machine_s", "container_s", "load_s", "answer_s"]].sum(axis=1)
    assert parts.to_numpy() == pytest.approx(starts_s.to_numpy())
    assert (rows["decision_s"] < 1.5).all(), "both look every second or more often"
    assert (rows["late"] == rows["requests"]).all()
    assert rows[["wrong", "lost"]].to_numpy().sum() == 0


def test_it_falls_asleep_after_the_delay_that_was_set(run: Run) -> None:
    answered_s = run.requests["done_s"].min()
    begun_s = next(begin_s for begin_s, _ in asleep(run) if begin_s > answered_s)
    assert 30 < begun_s - answered_s < 45, "30 s without a request, and the loop's period"


def test_it_decides_as_keda_did_in_a_recorded_run() -> None:
    """Within what isn't known of the run: when in its second KEDA looked, and in its half second the add-on asked."""
    recorded = json.loads(Path(__file__).with_name("keda_decisions.json").read_text())
    requests, polling_s = recorded["requests"], recorded["polling_interval_s"]
    simulated = []
    for phase in range(20):
        looks = [(phase / 20 * polling_s + polling_s * n, False) for n in range(int(200 / polling_s))]
        pings = [(phase / 20 * PING_S + PING_S * n, True) for n in range(int(200 / PING_S))]
        replicas, state, asked, decisions = 0, KedaState(), False, []
        for t_s, is_ping in sorted(looks + pings):
            asked = any(sent_s <= t_s < done_s for sent_s, done_s in requests) if is_ping else asked
            if is_ping and not asked:
                continue  # the add-on reports requests, not that there are none
            before = replicas
            replicas, state = look(t_s, asked, replicas, recorded["cooldown_s"], state)
            decisions += [(t_s, before, replicas)] if replicas != before else []
        simulated.append(decisions)
    for number, (t_s, before, after) in enumerate(recorded["decisions"]):
        same = [decisions[number] for decisions in simulated]
        assert {each[1:] for each in same} == {(before, after)}
        earliest_s, latest_s = min(each[0] for each in same), max(each[0] for each in same)
        assert earliest_s - 0.1 <= t_s <= latest_s + 0.5, "seen a little later by the watch"
