"""2,000 experiments in which nothing differs (METHOD §7): wrong claims at most 6 %, intervals cover in 93 to 97 %."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from null_experiments import draw, null_experiments
from test_analysis_inference import rows_of

from mlscale.analysis.inference import compare


@pytest.mark.parametrize(("environments", "blocks"), [(2, 6), (2, 8), (3, 8), (5, 10)])
@pytest.mark.parametrize("censored", [0.0, 0.2])
def test_error_and_coverage(environments: int, blocks: int, censored: float) -> None:
    found = null_experiments(2000, environments=environments, blocks=blocks, censored=censored, seed=7)
    assert found.censored_share == pytest.approx(censored, abs=0.01)
    assert found.family == 3 * environments * (environments - 1) // 2
    assert found.family_wise_error <= 0.06
    assert 0.93 <= found.coverage_mean <= 0.97
    assert ((found.coverage >= 0.93) & (found.coverage <= 0.97)).all(), found.coverage
    assert found.simultaneous >= 0.94


def test_the_test_can_fail() -> None:
    """Without Holm, the same experiments are wrong far more often than in 6 %; with a true effect, they are all
    found."""
    values, _ = draw(np.random.default_rng(7), 2000, 3, 8)
    from scipy import stats

    pairs = [(0, 1), (0, 2), (1, 2)]
    p = np.concatenate([stats.ttest_rel(values[:, a], values[:, b], axis=1).pvalue for a, b in pairs], axis=-1)
    assert np.mean(np.nanmin(p, axis=1) < 0.05) > 0.15


def test_compare_gives_what_the_vectorised_pipeline_gives() -> None:
    """A few null experiments go through `compare` itself, row by row."""
    values, cut = draw(np.random.default_rng(3), 5, 2, 8, censored=0.2)
    for experiment in range(5):
        rows = _rows(values[experiment], cut[experiment])
        found = compare(rows)
        differences = values[experiment, 0] - values[experiment, 1]
        np.testing.assert_allclose(np.log(found.ratio), differences.mean(axis=0), atol=1e-12)
        assert (found.censored_a[2], found.censored_b[2]) == tuple(cut[experiment].sum(axis=1))


def _rows(values: np.ndarray, cut: np.ndarray) -> pd.DataFrame:
    rows = rows_of(blocks=8)
    rows = rows[rows.aa_label != "B"].copy()
    for place, name in enumerate(("a", "b")):
        mine = rows.environment == name
        order = rows.loc[mine, "block"].to_numpy(dtype=int) - 1
        rows.loc[mine, "mean_response_s"] = np.exp(values[place, order, 0])
        rows.loc[mine, "sd_response_s"] = np.exp(values[place, order, 1])
        rows.loc[mine, "t_slo_confirmed_s"] = np.exp(values[place, order, 2])
        rows.loc[mine, "t_slo_censored"] = cut[place, order]
    return rows
