"""Whole platforms in virtual time: what happens after a step, in which order, and what is recorded."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from setups import BOOT, LARGE, SMALL, UP, setup

from mlscale.runs import MlscaleError, OpenLoop
from mlscale.runs.schedule import Constant
from mlscale_twin.cloud import DEFAULTS
from mlscale_twin.durations import Fixed, Number
from mlscale_twin.layout import OK, REFUSED
from mlscale_twin.policies.target_tracking import TargetTrackingSettings, TrackedMetric, TrackingState, decide
from mlscale_twin.profile import profile_names, with_changes
from mlscale_twin.profile_files import read_profile
from mlscale_twin.twin import Setup, Twin, TwinResult

ALL = ("torchserve", "rayserve", "k3s", "eks", "ecs")


def run(settings: Setup) -> TwinResult:
    return Twin(settings).run()


def times(outcome: TwinResult, kind: str) -> dict[str, float]:
    first_s: dict[str, float] = {}
    for event in outcome.events:
        if event.kind == kind:
            first_s.setdefault(event.subject, event.t_s)
    return first_s


def response_s(outcome: TwinResult, from_s: float, to_s: float) -> float:
    rows = outcome.rows
    inside = (rows["intended_s"] >= from_s) & (rows["intended_s"] < to_s)
    return float(np.mean((rows["done_s"] - rows["intended_s"])[inside]))


def test_a_run_can_begin_with_given_replicas_and_send_times() -> None:
    schedule = OpenLoop(duration_s=60.0, rate=Constant(rate_rps=0.0))
    sends_s = np.array([1.0, 1.5, 30.0])
    outcome = run(setup("eks", schedule=schedule, initial=3, sends_s=sends_s, min_replicas=1, max_replicas=4))
    assert np.sort(outcome.rows["intended_s"]).tolist() == sends_s.tolist()
    assert outcome.samples[0].ready == 3
    assert not [event for event in outcome.events if event.t_s <= 0], "neither replicas nor machines are requested"


@pytest.mark.parametrize("environment", ALL)
def test_a_step_brings_replicas_and_the_response_back(environment: str) -> None:
    outcome = run(setup(environment))
    came = [t_s for t_s in times(outcome, "replica_ready").values() if t_s < 600]
    ready = [t_s for t_s in came if t_s > 60]
    assert len(came) >= 3, "four replicas in all"
    assert len(ready) >= 2, "of which one may have come for the two clients before the step"
    assert response_s(outcome, 560, 600) < 0.5 * response_s(outcome, 62, 62 + 0.9 * (min(ready) - 62))
    assert (outcome.rows["status"] == OK).all()
    samples = [each for each in outcome.samples if each.t_s <= 600]
    assert max(each.ready for each in samples) == 4
    assert all(each.ready <= 4 and each.desired <= 4 for each in samples)
    up = next(event for event in outcome.events if event.kind == "scale_decision" and event.t_s > 60)
    assert up.detail["to"] > up.detail["from"]
    assert up.detail["reason"]


@pytest.mark.parametrize(
    ("environment", "setting"),
    [
        ("torchserve", "job_queue_size"),
        ("rayserve", "max_queued_requests"),
        ("k3s", "max_waiting"),
        ("eks", "max_waiting"),
        ("ecs", "max_waiting"),
    ],
)
def test_the_queue_limit_setting_is_respected(environment: str, setting: str) -> None:
    base = setup(environment, max_replicas=1, **{setting: 7})
    rows = run(base).rows
    refused = rows["status"] == REFUSED
    assert 0.05 < refused.mean() < 0.95, "18 clients, one replica"
    assert set(rows["status"]) == {OK, REFUSED}
    waits = rows[~refused & (rows["queue_s"] > 0)]
    begun_s = waits["intended_s"] + waits["queue_s"]
    moments = sorted([*((t_s, 1) for t_s in waits["intended_s"]), *((t_s, -1) for t_s in begun_s)])
    most = np.cumsum([change for _, change in moments]).max()
    assert 7 <= most <= (14 if environment == "rayserve" else 7), "what Ray sent to a busy replica waits once more"
    many = replace(base, scalings={"app": {**base.scalings["app"], setting: -1 if environment == "rayserve" else 100}})
    assert (run(many).rows["status"] == OK).all()


@pytest.mark.parametrize("environment", ALL)
def test_the_parts_of_a_start_come_in_order(environment: str) -> None:
    outcome = run(setup(environment))
    order = ("replica_created", "replica_scheduled", "replica_started", "replica_ready")
    by_kind = {kind: times(outcome, kind) for kind in order}
    for name, created_s in by_kind["replica_created"].items():
        times_s = [by_kind[kind][name] for kind in order if name in by_kind[kind]]
        assert times_s == sorted(times_s)
        assert times_s[0] == created_s
    assert set(outcome.names.values()) >= set(by_kind["replica_ready"])


def test_no_replica_serves_before_it_is_ready_or_after_removal() -> None:
    outcome = run(setup("k3s", downscale_stabilisation_s=15))
    ready, gone = times(outcome, "replica_ready"), times(outcome, "replica_removed")
    assert gone, "the step down takes some away"
    served: dict[str, list[float]] = defaultdict(list)
    for row in outcome.rows:
        served[outcome.names[row["replica"]]] += [row["done_s"] - row["inference_s"], row["done_s"]]
    outside_s = read_profile("k3s").requests.outside_s.value
    for name, at in served.items():
        assert min(at) >= ready.get(name, -1.0) - outside_s
        assert max(at) <= gone.get(name, np.inf) + 0.3


def test_workers_are_removed_one_by_one_and_pods_together() -> None:
    leaves = Fixed(value_s=1.0, source="a test", date="2026-11").model_dump()

    def overlaps(environment: str) -> int:
        profile = with_changes(read_profile(environment), [("starts.leaves", leaves)])
        outcome = run(setup(environment, profile=profile))
        gone = times(outcome, "replica_removed")
        begun = {name: t_s for name, t_s in times(outcome, "replica_draining").items() if t_s > 600}
        assert len(begun) == 3, "four replicas, then one"
        order = sorted(begun, key=lambda name: begun[name])
        return sum(begun[late] < gone[early] for early, late in pairwise(order))

    assert overlaps("torchserve") == 0
    assert overlaps("k3s") > 0


@pytest.mark.parametrize("environment", ALL)
def test_a_fixed_number_of_replicas_makes_no_decisions(environment: str) -> None:
    outcome = run(setup(environment, "static-max"))
    assert not [event for event in outcome.events if event.kind == "scale_decision"]
    assert {each.ready for each in outcome.samples} == {4}
    assert response_s(outcome, 60, 600) < 0.4


def test_shipped_arms_are_slower_to_grow() -> None:
    for environment in ("torchserve", "rayserve", "ecs"):
        first = {}
        for arm in ("matched", "shipped"):
            decided = [e.t_s for e in run(setup(environment, arm)).events if e.kind == "scale_decision" and e.t_s > 60]
            first[arm] = min(decided, default=np.inf)
        assert first["matched"] < first["shipped"], environment


def test_pods_wait_for_machines_and_machines_for_their_boot() -> None:
    outcome = run(setup("eks", downscale_stabilisation_s=300))
    requested, booted = times(outcome, "machine_requested"), times(outcome, "machine_booted")
    registered, ready = times(outcome, "machine_registered"), times(outcome, "machine_ready")
    assert len(requested) == 3, "each small machine holds one replica"
    for name, requested_s in requested.items():
        assert requested_s < requested_s + BOOT.value_s <= booted[name] <= registered[name] <= ready[name]
    created, scheduled = times(outcome, "replica_created"), times(outcome, "replica_scheduled")
    first = sorted(created, key=lambda name: created[name])[:3]
    assert all(scheduled[name] > created[name] + BOOT.value_s for name in first)
    after = min(t_s for t_s in created.values())
    assert 1.0 <= min(requested.values()) - after <= 10.0, "the batch is closed after a second of silence"
    counted = [each.machines_ready for each in outcome.samples]
    assert counted[0] == 1
    assert max(each or 0 for each in counted) == 4


@pytest.mark.parametrize("apart_s", [2.5, 7.0])
def test_machines_requested_together_boot_one_after_another(apart_s: float) -> None:
    apart = Number(value=apart_s, source="a test", date="2026-11").model_dump()
    base = setup("eks", downscale_stabilisation_s=300)
    outcome = run(replace(base, profile=with_changes(base.profile, [("machines.apart", apart)])))
    requested, booted = times(outcome, "machine_requested"), sorted(times(outcome, "machine_booted").values())
    assert len(booted) == 3
    assert booted[0] < min(requested.values()) + BOOT.value_s + 3.0, "the first waits for none"
    assert all(late - early >= apart_s - 1e-9 for early, late in pairwise(booted))


def test_unneeded_machines_are_removed() -> None:
    outcome = run(setup("eks", downscale_stabilisation_s=120))
    removed = times(outcome, "machine_removed")
    assert removed
    assert min(removed.values()) > 600
    last = outcome.samples[-1]
    assert (last.machines_ready or 0) < 4
    assert (outcome.rows["status"] == OK).all()


def test_reserved_room_avoids_the_boot_time() -> None:
    late, early = (
        sorted(t_s for t_s in times(run(setup("eks", buffer_replicas=kept)), "replica_ready").values() if t_s > 60)
        for kept in (0, 3)
    )
    assert early[2] < late[0] - 0.8 * BOOT.value_s


def test_one_large_machine_is_requested_once() -> None:
    """Where the cheapest type holds no more than one pod, a type that holds all of them is launched once."""
    outcome = run(setup("eks", types=(LARGE, SMALL), downscale_stabilisation_s=300))
    requested = [event for event in outcome.events if event.kind == "machine_requested" and event.t_s < 300]
    assert [event.detail["type"] for event in requested] == ["large"]


def test_a_capacity_provider_requests_instances_for_tasks() -> None:
    base = setup("ecs", launch="ec2", min_instances=1, cpu_cores=0.9)
    outcome = run(replace(base, schedule=UP.model_copy(update={"think_mean_s": 0.1})))
    requested = times(outcome, "machine_requested")
    assert requested, "an instance holds two tasks of 0.9 cores"
    assert max(each.ready for each in outcome.samples) >= 3


def test_failed_machines_are_replaced() -> None:
    outcome = run(replace(setup("eks", "static-max"), machine_failures_per_h=120.0))
    failed = times(outcome, "machine_failed")
    assert failed
    assert times(outcome, "replica_failed")
    created = times(outcome, "replica_created")
    assert any(t_s >= min(failed.values()) for t_s in created.values())


def test_the_same_seed_gives_the_same_run() -> None:
    for environment in ("eks", "rayserve"):
        first, repeated, third = (run(setup(environment, seed=seed)) for seed in (3, 3, 4))
        assert first.rows.tobytes() == repeated.rows.tobytes()
        assert list(first.events) == list(repeated.events)
        assert first.rows.tobytes() != third.rows.tobytes()


def test_the_phase_of_the_loop_is_drawn_from_the_seed() -> None:
    decided = {
        round(next(e.t_s for e in run(setup("k3s", seed=seed)).events if e.kind == "scale_decision" and e.t_s > 60), 3)
        for seed in range(12)
    }
    assert len(decided) == 12
    assert max(decided) - min(decided) > 5.0


def test_profiles_are_complete_and_have_sources() -> None:
    assert {*profile_names(), *DEFAULTS} == set(ALL)
    for name in ALL:
        profile = read_profile(name)
        assert profile.environment == name
        assert "guess" not in profile.model_dump_json()
        assert profile.validated


def test_a_number_can_be_replaced_and_an_unknown_path_is_an_error() -> None:
    profile = read_profile("k3s")
    slow = with_changes(profile, [("work.app.mean_s.value", 0.1), ("starts.steps.0.takes", BOOT.model_dump())])
    assert slow.work["app"].mean_s.value == 0.1
    assert slow.sha256 != profile.sha256
    with pytest.raises(MlscaleError, match="no number at"):
        with_changes(profile, [("work.app.mean", 0.1)])
    with pytest.raises(MlscaleError, match="mean_s"):
        with_changes(profile, [("work.app.mean_s.value", "much")])


@pytest.mark.parametrize(
    ("environment", "path", "value"),
    [
        ("k3s", "requests.outside_s", -0.1),
        ("k3s", "work.app.mean_s", math.inf),
        ("k3s", "starts.alike", 1.5),
        ("k3s", "loop.sync_period_s", 0),
        ("k3s", "loop.metric_resolution_s", 0),
        ("rayserve", "loop.control_period_s", 0),
        ("rayserve", "loop.router_askers_each", 0.4),
        ("rayserve", "starts.at_once", 0),
        ("rayserve", "work.app.ahead", 0.95),
    ],
)
def test_impossible_numbers_are_errors_that_name_them(environment: str, path: str, value: float) -> None:
    profile = read_profile(environment)
    with pytest.raises(MlscaleError, match=path.rpartition(".")[2]):
        with_changes(profile, [(f"{path}.value", value)])


def test_a_profile_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "requests.parquet").write_bytes(b"PAR1\xff\xfe")
    with pytest.raises(MlscaleError, match=r"requests\.parquet: the file: Invalid JSON"):
        read_profile(tmp_path / "requests.parquet")


def test_missing_components_and_too_large_replicas_are_errors() -> None:
    base = setup("k3s")
    with pytest.raises(MlscaleError, match="component 'readers' is missing"):
        Twin(replace(base, scalings={"readers": base.scalings["app"]}))
    with pytest.raises(MlscaleError, match="no room"):
        Twin(setup("eks", cpu_cores=0.35))


@pytest.mark.parametrize(("period_s", "trigger_s"), [(60, 363.0), (20, 86.0)])
def test_ecs_triggers_as_late_as_in_awss_benchmark(period_s: int, trigger_s: float) -> None:
    """aws/containers-roadmap #2113: a step of CPU from 40 to 120 %; target in the middle, mean over the phases."""
    delay_s = read_profile("ecs").loop_value(f"metric_delay_{period_s}s")
    settings = TargetTrackingSettings(target=80.0, period_s=period_s, max_capacity=10)
    triggers_s = []
    for after in np.linspace(0.01, 0.99, 50):
        state, t_s, value = TrackingState(), after * period_s, 40 + 80 * after
        while True:
            decision = decide(TrackedMetric(t_s, value, 2), settings, state)
            state = decision.state
            if decision.desired > 2:
                break
            t_s, value = t_s + period_s, 120.0
        triggers_s.append(t_s + delay_s)
    assert np.mean(triggers_s) == pytest.approx(trigger_s, rel=0.01)
