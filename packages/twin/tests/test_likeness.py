"""Equivalence: verdicts follow from intervals and margins, with the nominal error rates."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlscale_twin.likeness import MARGINS, _critical_t, _means_and_t, judge_figure, likeness, rejected_share

NAMES = tuple(MARGINS)


def live_of(rng: np.random.Generator, spread: float, runs: int = 8) -> pd.DataFrame:
    values = {name: np.exp(rng.normal(0, spread, runs)) * 2.0 for name in NAMES}
    setups = [f"x/{'closed' if number % 2 else 'open'}" for number in range(runs)]
    return pd.DataFrame({"environment": "x", "setup": setups, "run_id": [f"r{k}" for k in range(runs)], **values})


def twin_of(
    live: pd.DataFrame, rng: np.random.Generator, spread: float, ratio: float = 1.0, more_s: float = 0.0
) -> pd.DataFrame:
    rows = []
    for run_id in live["run_id"]:
        for _ in range(8):
            values = {
                name: 2.0 * ratio * np.exp(rng.normal(0, spread)) if margin.relative else 2.0 + more_s
                for name, margin in MARGINS.items()
            }
            rows.append({"environment": "x", "setup": "x/any", "run_id": run_id, **values})
    return pd.DataFrame(rows)


def test_a_right_twin_is_equivalent_if_noise_is_low() -> None:
    rng = np.random.default_rng(1)
    live = live_of(rng, 0.03)
    table = likeness(live, twin_of(live, rng, 0.03))
    assert set(table["verdict"]) == {"equivalent"}
    assert (table["low"] <= table["estimate"]).all()
    assert (table["estimate"] <= table["high"]).all()
    assert list(table["figure"]) == list(NAMES)


def test_a_wrong_twin_is_different() -> None:
    rng = np.random.default_rng(2)
    live = live_of(rng, 0.03)
    table = likeness(live, twin_of(live, rng, 0.03, ratio=1.4, more_s=2.0)).set_index("figure")
    assert set(table["verdict"]) == {"different"}
    assert table.loc["mean_response_s", "estimate"] == pytest.approx(1.4, rel=0.1)
    assert table.loc["t_slo_s", "estimate"] == pytest.approx(2.0, abs=0.2)
    assert table.loc["t_slo_s", "margin"] == pytest.approx(1.0), "a second, where a tenth is less"


def test_noise_is_inconclusive_and_never_equivalent() -> None:
    rng = np.random.default_rng(3)
    live = live_of(rng, 0.4)
    table = likeness(live, twin_of(live, rng, 0.1)).set_index("figure")
    assert table.loc["mean_response_s", "verdict"] == "inconclusive"
    assert table.loc["mean_response_s", "noise"] > MARGINS["mean_response_s"].share


def test_noise_counts_every_judged_run_whose_variance_is_that_of_repeated_setups() -> None:
    live = live_of(np.random.default_rng(9), 0.05, runs=6)
    live["setup"] = ["a", "a", "b", "b", "c", "d"]
    logs = np.log(live["mean_response_s"])
    variance = (logs[:2].var() + logs[2:4].var()) / 2
    expected = np.expm1(stats.t.ppf(0.95, 2) * np.sqrt(2 * variance / 6))
    figure = judge_figure(live, twin_of(live, np.random.default_rng(9), 0.05), "mean_response_s")
    assert figure.noise == pytest.approx(expected)


def test_a_twin_on_the_margin_is_rarely_equivalent() -> None:
    """Two one-sided tests at 5 %: exactly on the margin, at most one in twenty is let through."""
    rng = np.random.default_rng(4)
    let_through = 0
    for _ in range(400):
        live = live_of(rng, 0.05)
        twin = twin_of(live, rng, 0.01, ratio=1.10)
        let_through += judge_figure(live, twin, "mean_response_s").verdict == "equivalent"
    assert let_through / 400 < 0.08


def test_rejections_grow_with_the_error() -> None:
    rng = np.random.default_rng(5)
    live = live_of(rng, 0.08)
    shares = [rejected_share(live, twin_of(live, rng, 0.05, ratio=ratio)) for ratio in (1.0, 1.15, 1.5)]
    assert shares[0] < 0.2
    assert shares[0] <= shares[1] <= shares[2]
    assert shares[2] > 0.95


def test_missing_values_are_omitted() -> None:
    rng = np.random.default_rng(6)
    live = live_of(rng, 0.03)
    live.loc[:6, "detection_s"] = np.nan
    likeness_of_figure = judge_figure(live, twin_of(live, rng, 0.03), "detection_s")
    assert likeness_of_figure.n == 1
    assert likeness_of_figure.verdict == "inconclusive"


@pytest.mark.parametrize("together", [0.0, 0.95])
def test_the_family_wise_error_rate_is_ten_percent(together: float) -> None:
    """With independent and with highly correlated figures."""
    rng = np.random.default_rng(7)
    erred = 0
    for _ in range(400):
        common = rng.normal(size=(8, 1))
        values = np.sqrt(together) * common + np.sqrt(1 - together) * rng.normal(size=(8, 10))
        _, t = _means_and_t(values, np.ones((1, 8)))
        erred += np.abs(t).max() > _critical_t(values, rng)
    assert 0.06 < erred / 400 < 0.15


def test_t_is_students_and_ignores_missing_values() -> None:
    rng = np.random.default_rng(8)
    values = rng.normal(0.4, 1.0, (8, 3))
    values[2:5, 1], values[1:, 2] = np.nan, np.nan
    mean, t = _means_and_t(values, np.ones((1, 8)))
    assert mean[0] == pytest.approx(np.nanmean(values, axis=0))
    for column in (0, 1):
        present = values[np.isfinite(values[:, column]), column]
        assert t[0, column] == pytest.approx(stats.ttest_1samp(present, 0.0).statistic)
    assert t[0, 2] == 0, "one value has no spread"
    flipped, _ = _means_and_t(values, -np.ones((1, 8)))
    assert flipped == pytest.approx(-mean)
