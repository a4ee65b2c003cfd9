"""T_slo, T_settle and parts on runs whose truth is known."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mlscale.analysis.response import (
    confirmed_s,
    first_sustained,
    horizon_of,
    recovery,
    upscaling_response,
    weighted_median,
)
from mlscale.runs import (
    ClosedLoop,
    ClosedStage,
    Event,
    MlscaleError,
    Observation,
    OpenLoop,
    ReplicaSample,
    Run,
    Staircase,
    Step,
)
from synthetic_runs import info, requests_frame, write_run

RATE = 20.0


def _run(
    path: Path, response: object, *, observations: Sequence[Observation] = (), until: float = 165.0, **changes: object
) -> Run:
    """Requests evenly at 20 per second; ``response`` maps intended time to response."""
    intended = np.arange(0.0, until, 1 / RATE)
    values = np.asarray([response(t) for t in intended])  # type: ignore[operator]
    frame = requests_frame(intended, values, replica_id=["replica-1" if t < 60 else "replica-2" for t in intended])
    return write_run(path, frame, info(**changes), observations)


def _bump(until: float, high: float = 1.0) -> object:
    """0.1 s, but ``high`` from the step at 45 s to ``until``."""
    return lambda t: high if 45.0 <= t < until else 0.1


def test_recovery_is_found_where_the_window_has_emptied_of_slow_requests(tmp_path: Path) -> None:
    # 100 requests in 5 s, k of them slow: 0.1 + 0.9 k / 100 <= 0.5 from k = 44 on, 2.8 s after the last slow one.
    found = recovery(_run(tmp_path / "r", _bump(65.0)), 0.5)
    assert found.t_slo_s == pytest.approx(65.0 - 45.0 + (100 - 44) / RATE - 1 / RATE, abs=1e-6)
    assert not found.t_slo_censored
    assert found.first_over_s == pytest.approx(45 / RATE - 1 / RATE, abs=1e-6)
    assert found.confirmed_s == pytest.approx(found.t_slo_s + 5.0)
    assert found.over_level_s == pytest.approx(found.t_slo_s - found.first_over_s, abs=1e-6)


def test_never_exceeded_is_zero(tmp_path: Path) -> None:
    found = recovery(_run(tmp_path / "r", lambda t: 0.1), 0.5)
    assert (found.t_slo_s, found.t_slo_censored) == (0.0, False)
    assert np.isnan(found.first_over_s)


def test_never_met_is_censored_at_the_horizon_less_the_window(tmp_path: Path) -> None:
    found = recovery(_run(tmp_path / "r", _bump(1e9)), 0.5)
    assert (found.t_slo_s, found.t_slo_censored) == (115.0, True)
    assert found.confirmed_s == 120.0


def test_met_too_late_to_hold_for_a_window_is_censored(tmp_path: Path) -> None:
    # Under L from 157.75 + on: the horizon ends at 165, so 162.9 does not leave 5 s.
    assert recovery(_run(tmp_path / "a", _bump(160.0)), 0.5).t_slo_censored
    assert not recovery(_run(tmp_path / "b", _bump(157.0)), 0.5).t_slo_censored


def test_a_queue_that_builds_up_slowly_is_not_taken_for_none(tmp_path: Path) -> None:
    """m_u stays under L for a whole window after t0 and passes it later: not 0."""
    found = recovery(_run(tmp_path / "r", lambda t: 1.0 if 60.0 <= t < 80.0 else 0.1), 0.5)
    assert found.first_over_s > 5.0
    assert found.t_slo_s == pytest.approx(80.0 - 45.0 + 2.75, abs=1e-6)


def test_a_dip_shorter_than_the_window_is_no_recovery(tmp_path: Path) -> None:
    found = recovery(_run(tmp_path / "r", lambda t: 1.0 if 45.0 <= t < 60.0 or 64.0 <= t < 80 else 0.1), 0.5)
    assert found.t_slo_s == pytest.approx(80.0 - 45.0 + 2.75, abs=1e-6)


def test_unknown_windows_never_count_as_met(tmp_path: Path) -> None:
    """Nothing is sent between 70 and 90 s: m_u is unknown there, which is no recovery; before, L is exceeded."""
    intended = np.r_[np.arange(0, 70, 1 / RATE), np.arange(90, 165, 1 / RATE)]
    response = np.where((intended >= 45) & (intended < 70), 1.0, 0.1)
    run = write_run(tmp_path / "r", requests_frame(intended, response), info())
    found = recovery(run, 0.5)
    assert found.t_slo_s == pytest.approx(90.0 - 45.0 + 9 / RATE, abs=1e-6)
    assert found.over_level_s == pytest.approx(found.t_slo_s, abs=3.0), (
        "a stalled service is over L while nothing is sent"
    )


def test_a_window_that_is_often_empty_confirms_nothing(tmp_path: Path) -> None:
    """Four requests a second: windows of 2 s have fewer than 10."""
    run = write_run(tmp_path / "r", requests_frame(np.arange(0, 165, 0.25), 0.1), info())
    assert np.isnan(confirmed_s(run, 0.5, 2.0))
    assert confirmed_s(run, 0.5, 5.0) == 5.0


def test_hanging_requests_count_as_the_timeout(tmp_path: Path) -> None:
    run = _run(tmp_path / "r", lambda t: 0.1)
    frame = run.requests.copy()
    hung = (frame.intended_s >= 50) & (frame.intended_s < 60)
    frame.loc[hung, "status"] = "timeout"
    again = write_run(tmp_path / "again", frame, info())
    assert recovery(again, 0.5).t_slo_s > 15.0


def test_no_request_after_the_step_is_censored(tmp_path: Path) -> None:
    found = upscaling_response(_run(tmp_path / "r", lambda t: 0.1, until=40.0), 0.5)
    assert found["t_slo_censored"]
    assert np.isnan(found["settle_level_s"])
    assert np.isnan(found["t_settle_s"])


def test_settling_is_against_the_runs_own_level(tmp_path: Path) -> None:
    found = upscaling_response(_run(tmp_path / "r", lambda t: 2.0 if 45 <= t < 65 else 0.1 if t < 45 else 0.8), 0.5)
    assert found["settle_level_s"] == pytest.approx(0.8)
    assert found["t_slo_censored"]
    # 0.8 +- 10 %: at most 6 of 100 slow ones (0.8 + 1.2 k / 100 <= 0.88)
    assert found["t_settle_s"] == pytest.approx(20.0 + (100 - 6) / RATE - 1 / RATE, abs=1e-6)
    assert not found["t_settle_censored"]


def test_by_completion_differs_from_by_intended(tmp_path: Path) -> None:
    run = _run(tmp_path / "r", _bump(65.0))
    late, early = recovery(run, 0.5, by="done"), recovery(run, 0.5)
    assert late.t_slo_s != pytest.approx(early.t_slo_s, abs=0.05)


def test_the_horizon_ends_where_the_load_falls(tmp_path: Path) -> None:
    stages = (
        ClosedStage(start_s=0, clients=2),
        ClosedStage(start_s=45, clients=9),
        ClosedStage(start_s=105, clients=2),
    )
    schedule = ClosedLoop(duration_s=165.0, stages=stages)
    run = _run(tmp_path / "r", _bump(1e9), schedule=schedule)
    assert horizon_of(run) == pytest.approx(60.0)
    assert recovery(run, 0.5).t_slo_s == pytest.approx(55.0)


@pytest.mark.parametrize(("rates", "horizon_s"), [((1, 2, 3, 4), 120.0), ((1, 2, 3, 2), 40.0)])
def test_further_rises_do_not_end_the_horizon(tmp_path: Path, rates: Sequence[float], horizon_s: float) -> None:
    starts = (0.0, 45.0, 65.0, 85.0)
    steps = tuple(Step(start_s=at, rate_rps=rate) for at, rate in zip(starts, rates, strict=True))
    schedule = OpenLoop(duration_s=165.0, rate=Staircase(steps=steps))
    assert horizon_of(_run(tmp_path / "r", _bump(60.0), schedule=schedule)) == pytest.approx(horizon_s)


def test_a_step_at_zero(tmp_path: Path) -> None:
    schedule = ClosedLoop(duration_s=60.0, stages=(ClosedStage(start_s=0, clients=9),))
    run = _run(tmp_path / "r", lambda t: 1.0 if t < 20 else 0.1, schedule=schedule, step_s=0.0, until=60.0)
    found = upscaling_response(run, 0.5)
    assert found["horizon_s"] == pytest.approx(60.0)
    assert found["t_slo_s"] == pytest.approx(22.75, abs=1e-6)
    assert not found["pre_scaled"]


def test_a_horizon_beyond_the_data_is_not_met_there(tmp_path: Path) -> None:
    found = recovery(_run(tmp_path / "r", _bump(163.0)), 0.5, horizon_s=300.0)
    assert (found.t_slo_s, found.t_slo_censored) == (295.0, True)


def test_what_can_not_be_judged_is_refused(tmp_path: Path) -> None:
    run = _run(tmp_path / "r", _bump(65.0))
    with pytest.raises(MlscaleError, match="no step"):
        recovery(_run(tmp_path / "s", _bump(65.0), step_s=None), 0.5)
    with pytest.raises(MlscaleError, match="not longer than the window"):
        recovery(run, 0.5, horizon_s=5.0)
    with pytest.raises(MlscaleError, match="L = -1"):
        recovery(run, -1)
    assert np.isnan(recovery(run, None).t_slo_s)


def test_parts_are_read_from_events_and_answers(tmp_path: Path) -> None:
    up = {"from": 1, "to": 3, "reason": "queue"}
    observations: list[Observation] = [
        Event(47.0, "app", "scale_decision", known_within_s=0.2, detail=up),
        Event(47.5, "app", "replica_created", "replica-2"),
        Event(48.0, "app", "replica_created", "replica-3"),
        Event(55.5, "app", "replica_ready", "replica-2", known_within_s=0.3),
        Event(58.0, "app", "replica_ready", "replica-3"),
        ReplicaSample(44.0, "app", 1, 0, 1),
        ReplicaSample(50.0, "app", 3, 2, 1),
    ]
    found = upscaling_response(_run(tmp_path / "r", _bump(65.0), observations=observations), 0.5)
    assert found["needed"] == 2
    assert found["detection_s"] == pytest.approx(2.0)
    assert found["detection_within_s"] == pytest.approx(0.2)
    assert (found["created_first_s"], found["ready_first_s"]) == pytest.approx((2.5, 10.5))
    assert (found["container_first_s"], found["container_last_s"]) == pytest.approx((8.0, 10.0))
    assert found["ready_last_s"] == pytest.approx(13.0)
    assert found["first_answer_s"] == pytest.approx(60.0 - 45.0 + 1.0)  # sent at 60, answered 1 s later
    assert np.isnan(found["last_answer_s"])  # two are needed, one answered
    assert np.isnan(found["machine_first_s"])
    assert not found["pre_scaled"]


@pytest.mark.parametrize(
    "observation",
    [
        Event(40.0, "app", "scale_decision", detail={"from": 1, "to": 2, "reason": "noise"}),
        ReplicaSample(40.0, "app", 2, 1, 1),
    ],
)
def test_growth_before_the_step_marks_the_run(tmp_path: Path, observation: Observation) -> None:
    seen = [ReplicaSample(1.0, "app", 1, 0, 1), observation]
    assert upscaling_response(_run(tmp_path / "r", _bump(65.0), observations=seen), 0.5)["pre_scaled"]


def test_the_first_replicas_and_holds_are_no_growth(tmp_path: Path) -> None:
    seen: list[Observation] = [
        Event(1.0, "app", "scale_decision", detail={"from": 0, "to": 1, "reason": "start"}),
        Event(20.0, "app", "scale_decision", detail={"from": 1, "to": 1, "reason": "hold"}),
        ReplicaSample(0.5, "app", 0, 0, 0),
        ReplicaSample(1.0, "app", 1, 0, 1),
    ]
    assert not upscaling_response(_run(tmp_path / "r", _bump(65.0), observations=seen), 0.5)["pre_scaled"]


def test_cpu_before_the_quota_voids_provisioning_times(tmp_path: Path) -> None:
    seen = [Event(50.0, "app", "replica_started", "replica-2", detail={"cpu_before_s": 0.08})]
    assert not upscaling_response(_run(tmp_path / "r", _bump(65.0), observations=seen), 0.5)["provisioning_valid"]


def test_lasting_needs_the_closed_interval() -> None:
    starts = np.array([0.0, 1.0, 6.0, 7.0])
    met = np.array([False, True, False, True])
    found = first_sustained(starts, met, ~met, 5.0, 20.0)
    assert found[0] == 7.0  # [1, 6) holds for 5 s but not at 6 itself
    assert first_sustained(starts, met, ~met, 4.9, 20.0)[0] == 1.0


def test_weighted_median() -> None:
    assert weighted_median(np.array([3.0, 1.0, 2.0]), np.array([1.0, 1.0, 3.0])) == 2.0
    assert np.isnan(weighted_median(np.array([np.nan]), np.array([1.0])))
