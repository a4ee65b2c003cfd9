"""Restricted means against statsmodels and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from mlscale.analysis.survival import restricted_mean


def test_equals_the_area_under_statsmodels_curve() -> None:
    rng = np.random.default_rng(2)
    times = np.round(rng.exponential(20, 30), 1)
    censored = rng.random(30) < 0.3
    theirs = SurvfuncRight(times, (~censored).astype(int))
    inside = theirs.surv_times < 35
    edges = np.concatenate([[0.0], theirs.surv_times[inside], [35.0]])
    area = np.sum(np.diff(edges) * np.concatenate([[1.0], theirs.surv_prob[inside]]))
    assert restricted_mean(times, censored, 35.0) == pytest.approx(area, rel=1e-12)


def test_restricted_mean_is_the_plain_mean_where_all_censoring_is_at_the_horizon() -> None:
    times = np.array([3.0, 115.0, 20.0, 115.0, 0.0])
    censored = np.array([False, True, False, True, False])
    assert restricted_mean(times, censored, 115.0) == pytest.approx(times.mean())


def test_restricted_mean_by_hand_with_early_censoring() -> None:
    # S = 1 until 2, then 2/3; the one censored at 3 leaves one at risk: 0 from 5 on.
    assert restricted_mean([2.0, 3.0, 5.0], [False, True, False], 4.0) == pytest.approx(2.0 + 2 * 2 / 3)


def test_everything_censored_and_nothing_at_all() -> None:
    assert restricted_mean([115.0, 115.0], [True, True], 115.0) == pytest.approx(115.0)
    assert np.isnan(restricted_mean([], [], 10.0))
