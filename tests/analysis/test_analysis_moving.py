"""m_t and sigma_t against brute force, at the edges, and where sums of squares cancel."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlscale.analysis.durations import body_standardised, durations
from mlscale.analysis.moving import knots_mean, last_n, moving, moving_exact
from synthetic_runs import requests_frame


@pytest.fixture
def requests() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    intended = np.sort(rng.uniform(0, 40, 400))
    response = rng.lognormal(-2, 0.5, 400)
    status = np.where(rng.random(400) < 0.05, "http_5xx", "ok")
    return requests_frame(intended, response, status=status)


@pytest.mark.parametrize("by", ["done", "intended"])
@pytest.mark.parametrize("window_s", [2.0, 5.0, 30.0])
def test_equals_brute_force(requests: pd.DataFrame, by: str, window_s: float) -> None:
    found = moving(requests, window_s, by, timeout_s=7.0)  # type: ignore[arg-type]
    response = np.where(requests.status == "ok", requests.done_s - requests.intended_s, 7.0)
    time = (requests.done_s if by == "done" else requests.intended_s).to_numpy()
    for row in found.iloc[::13].itertuples():
        inside = (time > row.t_s - window_s) & (time <= row.t_s)
        assert row.n == inside.sum()
        if inside.sum() < 10:
            assert np.isnan(row.mean_s)
            assert np.isnan(row.sd_s)
        else:
            assert row.mean_s == pytest.approx(response[inside].mean(), rel=1e-12)
            assert row.sd_s == pytest.approx(response[inside].std(ddof=0), rel=1e-9)


def test_ten_requests_are_enough_nine_are_not() -> None:
    times = np.linspace(0.1, 1.0, 10)
    frame = requests_frame(times, 0.2)
    assert np.isnan(moving(frame, 5.0, "intended", at_s=[0.95]).mean_s[0])
    assert moving(frame, 5.0, "intended", at_s=[1.0]).mean_s[0] == pytest.approx(0.2)


def test_window_is_open_on_the_left_and_closed_on_the_right() -> None:
    frame = requests_frame(np.full(10, 3.0), 0.1)
    found = moving(frame, 2.0, "intended", at_s=[2.999999, 3.0, 4.999999, 5.0])
    assert found.n.tolist() == [0, 10, 10, 0]


def test_spread_survives_a_large_common_offset() -> None:
    values = 1e6 + np.tile([0.0, 0.002], 50)
    frame = requests_frame(np.linspace(0, 5, 100, endpoint=False), values)
    found = moving(frame, 5.0, "intended", at_s=[4.99])
    assert found.sd_s[0] == pytest.approx(0.001, rel=1e-4)


def test_spread_survives_failures_of_thirty_seconds_elsewhere() -> None:
    response = np.r_[np.tile([0.100, 0.102], 100), np.zeros(200), np.tile([0.100, 0.102], 100)]
    status = ["ok"] * 200 + ["timeout"] * 200 + ["ok"] * 200
    frame = requests_frame(np.linspace(0, 60, 600, endpoint=False), response, status=status)
    found = moving(frame, 5.0, "intended", at_s=[10.0, 30.0, 59.9])
    assert found.sd_s.to_numpy() == pytest.approx([0.001, 0.0, 0.001], rel=1e-6, abs=1e-7)
    assert found.mean_s[1] == pytest.approx(30.0)


def test_exact_steps_agree_with_any_grid(requests: pd.DataFrame) -> None:
    exact = moving_exact(requests, 5.0, "done")
    at = np.random.default_rng(0).uniform(exact.t_s[0], 45, 200)
    grid = moving(requests, 5.0, "done", at_s=at)
    held = exact.iloc[np.maximum(np.searchsorted(exact.t_s, at, side="right") - 1, 0)]
    np.testing.assert_allclose(held.mean_s, grid.mean_s, rtol=1e-12)
    assert (held.n.to_numpy() == grid.n.to_numpy()).all()


def test_unfinished_requests_count_as_the_timeout_and_keep_a_place_in_both_views() -> None:
    frame = requests_frame(np.arange(12) * 0.1, 0.2)
    frame.loc[11, ["done_s", "first_byte_s"]] = np.nan
    frame.loc[11, "status"] = "unfinished"
    expected = (11 * 0.2 + 30.0) / 12
    assert moving(frame, 5.0, "intended", at_s=[2.0]).mean_s[0] == pytest.approx(expected)
    assert moving(frame, 5.0, "done", at_s=[2.0]).mean_s[0] == pytest.approx(0.2)  # it has not completed then
    assert moving(frame, 40.0, "done", at_s=[32.0]).mean_s[0] == pytest.approx(expected)


def test_last_n_equals_a_rolling_window(requests: pd.DataFrame) -> None:
    found = last_n(requests, 50, timeout_s=7.0)
    done = requests.sort_values("done_s")
    response = pd.Series(np.where(done.status == "ok", done.done_s - done.intended_s, 7.0))
    np.testing.assert_allclose(found.mean_s, response.rolling(50).mean(), rtol=1e-9)
    np.testing.assert_allclose(found.sd_s, response.rolling(50).std(ddof=0), rtol=1e-7)


@pytest.mark.parametrize("rows", [0, 3])
def test_hardly_any_requests(rows: int) -> None:
    frame = requests_frame(np.arange(rows) * 1.0, 0.1)
    assert moving(frame).mean_s.isna().all()
    assert moving_exact(frame).mean_s.isna().all()
    assert last_n(frame).mean_s.isna().all()
    assert np.isnan(knots_mean(moving_exact(frame), 0.0, 10.0)).all()


def test_durations_are_what_the_method_says() -> None:
    frame = requests_frame([1.0, 2.0], [0.3, 0.4], sent_s=[1.1, 2.0], status=["ok", "wrong_answer"])
    found = durations(frame, timeout_s=30.0)
    assert found.response_s.tolist() == pytest.approx([0.3, 30.0])
    assert found.send_to_done_s.tolist() == pytest.approx([0.2, 30.0])
    assert found.lateness_s.tolist() == pytest.approx([0.1, 0.0])
    assert found.inference_s.isna().tolist() == [False, True]
    assert found.ok.tolist() == [True, False]


def test_body_standardised_weighs_every_photo_the_same() -> None:
    frame = durations(requests_frame(np.arange(4.0), [0.1, 0.1, 0.1, 0.5], body_id=["a", "a", "a", "b"]))
    mean, sd = body_standardised(frame)
    assert mean == pytest.approx(0.3)
    assert sd == pytest.approx(0.2)
    assert np.isnan(body_standardised(frame.iloc[:0])[0])


def test_time_average_of_a_step_function() -> None:
    steps = pd.DataFrame({"t_s": [0.0, 1.0, 1.2], "mean_s": [1.0, np.nan, 4.0], "sd_s": [0.1, np.nan, 0.4]})
    mean, sd = knots_mean(steps, 0.5, 4.0)
    assert mean == pytest.approx((0.5 * 1.0 + 2.8 * 4.0) / 3.3)
    assert sd == pytest.approx((0.5 * 0.1 + 2.8 * 0.4) / 3.3)


def test_a_time_average_with_a_large_gap_is_none() -> None:
    """A short window holds too few answers while they are slow: what is left would be the quick part alone."""
    steps = pd.DataFrame({"t_s": [0.0, 1.0, 1.5], "mean_s": [1.0, np.nan, 4.0], "sd_s": [0.1, np.nan, 0.4]})
    assert np.isfinite(knots_mean(steps, 0.0, 5.0)).all()
    assert np.isnan(knots_mean(steps, 0.0, 4.9)).all()
