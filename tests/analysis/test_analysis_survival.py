"""Kaplan-Meier and restricted means against statsmodels and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.duration.survfunc import SurvfuncRight

from mlscale.analysis.survival import kaplan_meier, restricted_mean


def test_equals_statsmodels() -> None:
    rng = np.random.default_rng(2)
    times = np.round(rng.exponential(20, 30), 1)
    censored = rng.random(30) < 0.3
    found = kaplan_meier(times, censored).set_index("t_s")
    theirs = SurvfuncRight(times, (~censored).astype(int))
    np.testing.assert_allclose(found.survival.loc[theirs.surv_times], theirs.surv_prob, rtol=1e-12)


def test_restricted_mean_is_the_plain_mean_where_all_censoring_is_at_the_horizon() -> None:
    times = np.array([3.0, 115.0, 20.0, 115.0, 0.0])
    censored = np.array([False, True, False, True, False])
    assert restricted_mean(times, censored, 115.0) == pytest.approx(times.mean())


def test_restricted_mean_by_hand_with_early_censoring() -> None:
    # S = 1 until 2, then 2/3; the one censored at 3 leaves one at risk: 0 from 5 on.
    assert restricted_mean([2.0, 3.0, 5.0], [False, True, False], 4.0) == pytest.approx(2.0 + 2 * 2 / 3)


def test_everything_censored_and_nothing_at_all() -> None:
    curve = kaplan_meier([115.0, 115.0], [True, True])
    assert curve.survival.tolist() == [1.0, 1.0]
    assert restricted_mean([115.0, 115.0], [True, True], 115.0) == pytest.approx(115.0)
    assert len(kaplan_meier([], [])) == 1
    assert np.isnan(restricted_mean([], [], 10.0))


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="flags"):
        kaplan_meier([1.0], [True, False])
