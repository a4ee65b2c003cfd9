"""One row per run: hand-computed numbers, and edge cases that must not break a table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mlscale.analysis.resources import cpu_by_role, throttling, used_over_time
from mlscale.analysis.summary import run_summary, summarise
from mlscale.runs import ResourceSample, Run
from mlscale.runs.info import host_name
from synthetic_runs import Shape, info, make_run, requests_frame, write_run

SHORT = Shape(baseline_s=20.0, horizon_s=40.0, start_s=4.0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("runs") / "r", shape=SHORT, seed=4)


def test_primary_endpoints_are_over_requests_intended_after_the_step(run: Run) -> None:
    found = run_summary(run, 0.3)
    inside = run.requests[(run.requests.intended_s >= 20.0) & (run.requests.intended_s < 60.0)]
    response = inside.done_s - inside.intended_s
    assert found["mean_response_s"] == pytest.approx(response.mean())
    assert found["sd_response_s"] == pytest.approx(response.std(ddof=0))
    assert found["requests"] == len(inside)
    assert found["horizon_s"] == pytest.approx(40.0)
    assert found["t_slo_confirmed_s"] == pytest.approx(found["t_slo_s"] + 5.0)
    assert found["p95_response_s"] == pytest.approx(response.quantile(0.95))


def test_the_queue_and_inference_split_is_the_servers(run: Run) -> None:
    found = run_summary(run, 0.3)
    inside = run.requests[run.requests.intended_s.between(20.0, 60.0, inclusive="left")]
    assert found["mean_inference_s"] == pytest.approx(inside.inference_s.mean())
    assert found["mean_queue_s"] == pytest.approx(inside.queue_s.mean())


def test_parts_of_sigma_sum_up(run: Run) -> None:
    found = run_summary(run, 0.3)
    parts = ("within_replicas", "between_replicas", "bodies", "trend")
    assert sum(found[f"sigma_{part}_s2"] for part in parts) == pytest.approx(found["sigma_split_s2"])
    assert found["windows_split_share"] > 0.9


def test_requests_sent_at_the_very_step_are_in_its_first_window(tmp_path: Path) -> None:
    intended = np.r_[np.full(12, 45.0), np.arange(45.5, 165, 0.25)]
    response = np.r_[np.tile([0.1, 2.1], 6), np.full(len(intended) - 12, 0.1)]
    found = run_summary(write_run(tmp_path / "r", requests_frame(intended, response), info()), 0.5)
    assert found["sigma_total_s2"] > 0.01, "the only spread is theirs"


def test_failures_by_status(tmp_path: Path) -> None:
    status = ["ok"] * 6 + ["timeout", "wrong_answer", "http_5xx", "unfinished"]
    frame = requests_frame(50 + 0.1 * np.arange(10), 0.2, status=status)
    found = run_summary(write_run(tmp_path / "r", frame, info()), 0.5)
    assert found["failure_share"] == pytest.approx(0.4)
    assert (found["n_ok"], found["n_timeout"], found["n_wrong_answer"], found["n_refused"]) == (6, 1, 1, 0)
    assert found["mean_response_s"] == pytest.approx(0.6 * 0.2 + 0.4 * 30.0)
    assert found["mean_response_ok_s"] == pytest.approx(0.2)
    assert found["throughput_rps"] == pytest.approx(6 / 120)


def test_only_failures_and_no_requests_at_all(tmp_path: Path) -> None:
    dead = requests_frame(np.arange(0, 165, 0.5), 0.0, status="refused")
    found = run_summary(write_run(tmp_path / "dead", dead, info()), 0.5)
    assert found["mean_response_s"] == 30.0
    assert found["sd_response_s"] == 0.0
    assert np.isnan(found["mean_response_ok_s"])
    assert found["t_slo_censored"]
    assert np.isnan(found["cpu_per_answer_s"])
    empty = run_summary(write_run(tmp_path / "empty", requests_frame([], 0.1), info()), 0.5)
    assert empty["requests"] == 0
    assert np.isnan(empty["mean_response_s"])
    assert np.isnan(empty["failure_share"])
    assert empty["t_slo_censored"]


def test_without_a_step_the_whole_schedule_counts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", requests_frame(np.arange(0, 165, 0.1), 0.1), info(step_s=None))
    found = run_summary(run, 0.5)
    assert (found["from_s"], found["horizon_s"]) == (0.0, 165.0)
    assert found["requests"] == 1650
    assert np.isnan(found["t_slo_s"])


def test_labels_travel_along(tmp_path: Path) -> None:
    frame = requests_frame(np.arange(0, 165, 0.1), 0.1)
    changes = {
        "environment": "rayserve",
        "aa_label": "B",
        "attempt": 1,
        "predecessor": "torchserve",
        "mode": "simulated",
    }
    row = summarise([write_run(tmp_path / "r", frame, info(**changes))], 0.5).iloc[0]
    for name, value in changes.items():
        assert row[name] == value
    assert row.cpu_period_s == 0.1
    assert row.valid


def test_two_hosts_have_two_names() -> None:
    assert host_name({"cpu_model": "X", "cores": 2}) != host_name({"cpu_model": "X", "cores": 4})
    assert host_name({}) == "unknown CPU, ? of ? cores, ? GiB, ?"


def test_cpu_seconds_by_hand(tmp_path: Path) -> None:
    samples = [
        ResourceSample(t, "app", "replica-1", "replica", cores, 100.0, 10 * t, 4 * t, 0.1 * t)
        for t, cores in ((40.0, 0.1), (50.0, 0.2), (60.0, 0.3), (170.0, 0.3))
    ]
    samples += [
        ResourceSample(t, "app", "replica-2", "replica", 0.3, 50.0, 10 * (t - 55), 10 * (t - 55), t - 55)
        for t in (60.0, 160.0)
    ]
    table = write_run(tmp_path / "r", requests_frame([1.0], 0.1), info(), samples).resources
    # replica-1: 45..50 at 0.2, 50..60 at 0.3, 60..165 at 0.3; replica-2: 60..160 at 0.3
    assert cpu_by_role(table, 45.0, 165.0).cpu_s["replica"] == pytest.approx(1.0 + 3.0 + 31.5 + 30.0)
    assert cpu_by_role(table, 45.0, 165.0).peak_rss_bytes["replica"] == 150.0
    share, seconds = throttling(table, 45.0, 165.0)
    periods = (600 - 400) + 1050  # replica-1 up to its last sample in the span; replica-2 from its birth
    assert share == pytest.approx((240 - 160 + 1050) / periods)
    assert seconds == pytest.approx((6 - 4) + 105)
    assert used_over_time(table).query("t_s == 60").cpu_cores.iloc[0] == pytest.approx(0.6)


def test_no_quota_is_unknown_throttling(tmp_path: Path) -> None:
    table = write_run(tmp_path / "r", requests_frame([1.0], 0.1), info()).resources
    assert np.isnan(throttling(table, 0.0, 10.0)).all()
    assert cpu_by_role(table, 0.0, 10.0).empty


def test_rankings_by_window_are_in_the_row(run: Run) -> None:
    found = run_summary(run, 0.3)
    for window in ("w2", "w5", "w10", "w30", "last50"):
        assert found[f"mean_sigma_{window}_s"] > 0
    assert found["t_slo_confirmed_w5_s"] == pytest.approx(found["t_slo_confirmed_s"])
