"""Catch-up and steady state: they sum to P1, each finds what it is about, and published runs add up."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlscale.analysis.steady import catch_up_and_steady, steady_sentences, steady_table
from mlscale.analysis.summary import run_summary, summarise
from mlscale.runs import Event, ReplicaSample, ResourceSample, Run, load_runs
from synthetic_runs import Shape, info, make_experiment, requests_frame, write_run

PUBLISHED = Path(__file__).parents[2] / "data" / "reference" / "core"
SHORT = {"baseline_s": 20.0, "horizon_s": 60.0}


def stepped(
    path: Path, ready_s: float | None = 75.0, *, desired: tuple[int, ...] = (1, 2, 2), seen: bool = True
) -> Run:
    """A request a tenth of a second; 1 s until the second replica is ready, 0.2 s after it; the step is at 45 s."""
    at = np.arange(40.0, 165.0, 0.1)
    until_s = np.inf if ready_s is None else ready_s
    frame = requests_frame(at, np.where((at >= 45) & (at < until_s), 1.0, 0.2), queue_s=0.05)
    observed = [
        ReplicaSample(t, "app", desired[0] if t < 50 else desired[1] if t < 120 else desired[2], 0, 1 + (t >= until_s))
        for t in np.arange(40.0, 165.0)
    ]
    cores = [
        ResourceSample(t, "app", "r", "replica", 0.5 if t <= until_s else 0.1, 1e8) for t in np.arange(40.0, 166.0)
    ]
    events = [] if ready_s is None else [Event(ready_s, "app", "replica_ready", "b")]
    events += [Event(50.0 if seen else 44.0, "app", "replica_created", "b")]
    return write_run(path, frame, info(), [*observed, *cores, *events])


def test_the_two_parts_by_hand(tmp_path: Path) -> None:
    found = run_summary(stepped(tmp_path / "r"), 0.5)
    assert found["caught_up_s"] == pytest.approx(30.0)
    assert found["steady_response_s"] == pytest.approx(0.2)
    assert found["catch_up_response_s"] == pytest.approx(0.8 * 30 / 120, rel=1e-2)
    assert found["steady_response_s"] + found["catch_up_response_s"] == pytest.approx(found["mean_response_s"])
    assert found["late_response_s"] == pytest.approx(0.2)
    assert found["steady_queue_s"] == pytest.approx(0.05)
    assert found["steady_ready"] == pytest.approx(2.0)
    assert not found["scaled_in"]


def test_cpu_per_answer_without_the_start(tmp_path: Path) -> None:
    found = run_summary(stepped(tmp_path / "r"), 0.5)
    assert found["cpu_per_answer_steady_s"] == pytest.approx(0.01, rel=0.02), "0.1 core, 10 answers a second"
    assert found["cpu_per_answer_replica_steady_s"] == found["cpu_per_answer_steady_s"]
    assert found["cpu_per_answer_s"] == pytest.approx((0.5 * 30 + 0.1 * 90) / 1200, rel=0.02)
    assert np.isnan(found["cpu_per_answer_data_plane_steady_s"])


def test_a_replica_that_was_created_before_the_step_is_caught_up_with_all_the_same(tmp_path: Path) -> None:
    assert run_summary(stepped(tmp_path / "r", seen=False), 0.5)["caught_up_s"] == pytest.approx(30.0)


def test_a_scale_in_is_told_from_what_was_asked_for(tmp_path: Path) -> None:
    assert run_summary(stepped(tmp_path / "r", desired=(1, 2, 1)), 0.5)["scaled_in"]


def test_where_nothing_was_needed_all_is_steady_state(tmp_path: Path) -> None:
    found = run_summary(stepped(tmp_path / "r", None, desired=(1, 1, 1)), 0.5)
    assert found["caught_up_s"] == 0.0
    assert found["catch_up_response_s"] == 0.0


def test_a_run_that_did_not_catch_up_has_no_steady_state(tmp_path: Path) -> None:
    for name, ready_s in (("never", None), ("too late", 162.0)):
        found = run_summary(stepped(tmp_path / name, ready_s), 0.5)
        unknown = ("steady_response_s", "catch_up_response_s", "steady_ready", "cpu_per_answer_steady_s")
        assert np.isnan([found[column] for column in unknown]).all(), name
        assert np.isfinite(found["late_response_s"])


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """``late`` differs from ``quick`` in its start alone, ``slow`` in its service alone."""
    shapes = {
        "quick": Shape(**SHORT, start_s=4.0),
        "late": Shape(**SHORT, start_s=16.0),
        "slow": Shape(**SHORT, start_s=4.0, service_s=0.13),
    }
    return summarise(make_experiment(tmp_path_factory.mktemp("three"), shapes, 6, aa=False, seed=5), 0.3)


def test_each_part_finds_its_cause(rows: pd.DataFrame) -> None:
    table = catch_up_and_steady(rows).set_index(["pair", "part"])
    late_catch_up, late_steady = (table.loc[("quick / late", part)] for part in ("catch-up", "steady state"))
    assert late_catch_up["high_s"] < 0
    assert late_steady["low"] < 1 < late_steady["high"]
    assert abs(late_steady["difference_s"]) < 0.1 * abs(late_catch_up["difference_s"])
    assert table.loc[("quick / slow", "steady state"), "high"] < 1
    assert table.loc[("late / slow", "steady state"), "high"] < 1
    assert np.isnan(late_catch_up["ratio"])


def test_the_differences_sum_to_that_of_p1(rows: pd.DataFrame) -> None:
    wide = catch_up_and_steady(rows).pivot(index="pair", columns="part", values="difference_s")
    np.testing.assert_allclose(wide["catch-up"] + wide["steady state"], wide["P1"])


def test_nothing_is_told_of_a_pair_with_many_invalid_runs(rows: pd.DataFrame) -> None:
    bad = rows.assign(valid=(rows["environment"] != "late") | (rows["block"] > 2))
    table = catch_up_and_steady(bad).set_index("pair")
    assert table.loc["quick / late", ["difference_s", "ratio", "high"]].isna().all(axis=None)
    assert table.loc["quick / slow", "difference_s"].notna().all()


def test_what_the_steady_state_is_made_of(rows: pd.DataFrame) -> None:
    marked = rows.assign(scaled_in=(rows["environment"] == "slow") & (rows["block"] < 3))
    table = steady_table(marked)
    assert table["runs with scale-in"].to_dict() == {"quick": 0, "late": 0, "slow": 2}
    kept = rows[(rows["environment"] == "slow") & (rows["block"] >= 3)]
    expected = 1000 * kept["steady_response_s"].mean()
    assert table.loc["slow", "response without them (ms)"] == pytest.approx(expected)
    assert (table["of it beside an idle replica (ms)"] < 3).all(), "one queue for all"
    ratio = table.loc["slow", "response (ms)"] / table["response (ms)"].min()
    assert any(f"slow takes {ratio:.2f} times as long" in sentence for sentence in steady_sentences(marked))
    assert len(steady_sentences(marked)) == 2
    bad = marked.assign(valid=(marked["environment"] != "late") | (marked["block"] > 2))
    assert not any("late" in sentence for sentence in steady_sentences(bad)), "a third of its runs is invalid"


def test_published_runs_add_up() -> None:
    if not PUBLISHED.is_dir():
        pytest.skip("no runs are published in data/reference yet")
    rows = summarise(load_runs(sorted(PUBLISHED.iterdir())[:3]), 0.3)
    caught_up = rows[rows["steady_response_s"].notna()]
    assert len(caught_up) >= 0.8 * len(rows)
    parts = caught_up["catch_up_response_s"] + caught_up["steady_response_s"]
    np.testing.assert_allclose(parts, caught_up["mean_response_s"])
    wide = catch_up_and_steady(rows.assign(valid=True)).pivot(index="pair", columns="part", values="difference_s")
    np.testing.assert_allclose(wide["catch-up"] + wide["steady state"], wide["P1"])
