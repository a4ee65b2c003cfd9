"""Paired inference against SciPy and statsmodels, and everything that it has to refuse."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from mlscale.analysis.design import chosen, invalid_share
from mlscale.analysis.inference import compare
from mlscale.analysis.paired import (
    blocks_to_detect,
    detectable_difference,
    holm,
    noise_floor,
    noise_sd,
    paired_t,
    sign_flip_p,
)
from mlscale.analysis.verdicts import across_cells, by_window, same_side
from mlscale.runs import MlscaleError


def rows_of(
    blocks: int = 8, seed: int = 0, *, effect: float = 0.0, environments: tuple[str, ...] = ("a", "b"), **changes: Any
) -> pd.DataFrame:
    """A table of runs as `summarise` gives it, reduced to what inference reads. ``effect``: log ratio of first to
    second."""
    rng = np.random.default_rng(seed)
    rows = []
    for block in range(1, blocks + 1):
        shared = rng.normal(0, 0.2)
        doubled = environments[block % len(environments)]
        for name in environments:
            for label in ("A", "B") if name == doubled else (None,):
                shift = shared + (effect if name == environments[0] else 0.0)
                noise = rng.normal(0, 0.05, 3)
                confirmed = float(min(np.exp(3.0 + shift + noise[2]), 120.0))
                rows.append(
                    {
                        "run_id": f"{block}-{name}-{label}",
                        "application": "app 1",
                        "environment": name,
                        "block": block,
                        "position": 1,
                        "aa_label": label,
                        "attempt": 0,
                        "valid": True,
                        "reasons": "",
                        "mode": "live",
                        "host": "one",
                        "cell": "core",
                        "arm": "matched",
                        "loop": "closed",
                        "connections": "fresh",
                        "quota": "in force",
                        "cpu_period_s": 0.1,
                        "level_s": 0.5,
                        "horizon_s": 120.0,
                        "window_s": 5.0,
                        "mean_response_s": 0.2 * float(np.exp(shift + noise[0])),
                        "sd_response_s": 0.1 * float(np.exp(shift + noise[1])),
                        "mean_response_ok_s": 0.2 * float(np.exp(shift + noise[0])),
                        "sd_response_ok_s": 0.1 * float(np.exp(shift + noise[1])),
                        "t_slo_s": confirmed - 5.0,
                        "t_slo_confirmed_s": confirmed,
                        "t_slo_censored": confirmed >= 120.0,
                        "failure_share": 0.0,
                        **{f"t_slo_confirmed_w{w}_s": confirmed for w in (2, 5, 10, 30)},
                        **{
                            f"mean_{x}_{w}_s": 1.0 + shift
                            for x in ("m", "sigma")
                            for w in ("w2", "w5", "w10", "w30", "last50")
                        },
                    }
                )
    return pd.DataFrame(rows).assign(**changes)


def test_interval_and_p_are_those_of_scipys_paired_t_test() -> None:
    rows = rows_of(effect=-0.1)
    found = compare(rows)
    for endpoint, column in (("P1", "mean_response_s"), ("P2", "sd_response_s"), ("P3", "t_slo_confirmed_s")):
        own = rows[rows.aa_label.fillna("A") == "A"].pivot(index="block", columns="environment", values=column)
        theirs = stats.ttest_rel(np.log(own.a), np.log(own.b))
        row = found[found.endpoint == endpoint].iloc[0]
        assert row.p == pytest.approx(theirs.pvalue, rel=1e-10)
        low, high = np.exp(theirs.confidence_interval(0.95))
        assert (row.low, row.high) == pytest.approx((low, high))
        low, high = np.exp(theirs.confidence_interval(1 - 0.05 / 3))
        assert (row.sim_low, row.sim_high) == pytest.approx((low, high))
        assert row.ratio == pytest.approx(np.exp((np.log(own.a) - np.log(own.b)).mean()))


def test_holm_is_statsmodels_and_keeps_the_familys_size() -> None:
    p = np.random.default_rng(0).uniform(0, 0.1, (50, 9))
    for one in p[:3]:  # theirs takes 30 ms a call
        np.testing.assert_allclose(holm(one), multipletests(one, method="holm")[1])
    np.testing.assert_allclose(holm(p), [holm(one) for one in p])
    with_gap = holm([0.01, np.nan, 0.02])
    assert with_gap[0] == pytest.approx(0.03)
    assert np.isnan(with_gap[1])


def test_sign_flips_count_all_signs_or_draw_them() -> None:
    d = np.random.default_rng(3).normal(0.4, 1, 8)
    sums = np.array(list(itertools.product((-1, 1), repeat=8))) @ d
    assert sign_flip_p(d) == np.mean(np.abs(sums) >= abs(d.sum()) - 1e-12)
    assert sign_flip_p(np.zeros(8)) == 1.0
    assert sign_flip_p(np.full(6, 2.0)) == pytest.approx(2 / 64)
    assert sign_flip_p(np.r_[d, d, d]) == pytest.approx(float(stats.ttest_1samp(np.r_[d, d, d], 0).pvalue), abs=0.02)


def test_detectable_difference_is_statsmodels_power() -> None:
    for blocks, alpha in ((6, 0.05), (8, 0.05 / 3), (10, 0.05 / 30)):
        found = detectable_difference(0.08, blocks, alpha)
        power = TTestPower().power(found / 0.08, blocks, alpha)
        assert power == pytest.approx(0.80, abs=1e-6)
    two = detectable_difference(0.1, 2, 0.05 / 9)  # here scipy's noncentral t, and so statsmodels, gives NaN
    draws = np.random.default_rng(0).normal(two, 0.1, (200_000, 2))
    t = draws.mean(axis=1) / (draws.std(axis=1, ddof=1) / np.sqrt(2))
    assert np.mean(np.abs(t) > stats.t.ppf(1 - 0.05 / 18, 1)) == pytest.approx(0.80, abs=0.005)
    assert detectable_difference(0.0, 8, 0.05) == 0.0
    assert np.isnan(detectable_difference(0.1, 1, 0.05))


def test_detectable_ratio_rests_on_the_noise_and_not_on_the_effect() -> None:
    small, large = compare(rows_of(effect=0.0)), compare(rows_of(effect=-0.8))
    np.testing.assert_allclose(small.detectable_ratio[:2], large.detectable_ratio[:2])


def test_as_many_blocks_as_a_ratio_takes() -> None:
    blocks = blocks_to_detect(np.log(1.1), 0.15, 0.05)
    assert detectable_difference(0.15, blocks, 0.05) <= np.log(1.1) < detectable_difference(0.15, blocks - 1, 0.05)
    row = compare(rows_of(effect=0.3)).iloc[0]
    family = 3 * len(compare(rows_of(effect=0.3))["pair"].unique())
    expected = np.exp(detectable_difference(row.sd_log, int(row.n_blocks), 0.05 / family))
    assert row.detectable_by_pair == pytest.approx(expected)


def test_noise_floor_by_hand() -> None:
    assert noise_sd([0.1, -0.1, np.nan]) == pytest.approx(0.1)
    assert noise_floor(0.1, 2, 4) == pytest.approx(stats.t.ppf(0.975, 2) * 0.1 / 2)
    assert np.isnan(noise_sd([]))
    assert np.isnan(noise_floor(float("nan"), 0, 8))


def test_the_floor_holds_a_mean_over_blocks_when_nothing_differs() -> None:
    rng = np.random.default_rng(1)
    inside = []
    for _ in range(2000):
        floor = noise_floor(noise_sd(rng.normal(0, 0.1, 6)), 6, 8)
        inside.append(abs(rng.normal(0, 0.1, 8).mean()) <= floor)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.02)


def test_an_effect_is_found_and_named_for_the_better_one() -> None:
    found = compare(rows_of(effect=-0.5)).set_index("endpoint")
    assert found.loc["P1", "verdict"] == "a faster"
    assert found.loc["P2", "verdict"] == "a steadier"
    assert found.loc["P3", "verdict"] == "a sooner back"
    assert (found.favours == "a").all()
    turned = compare(rows_of(effect=0.5)).set_index("endpoint")
    assert turned.loc["P1", "verdict"] == "b faster"


def test_nothing_is_claimed_where_nothing_differs() -> None:
    found = compare(rows_of(effect=0.0, seed=1))
    assert (found.verdict == "no difference shown").all()
    assert (found.favours == "").all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"mode": "simulated"}, "are simulated"),
        ({"mode": "rehearsal"}, "are rehearsal"),
        ({"host": ["one", "two"] * 12}, "of 2 hosts"),
        ({"application": ["app 1", "app 2"] * 12}, "differ in application"),
        ({"cell": ["core", "open"] * 12}, "differ in cell"),
        ({"cpu_period_s": [0.1, 0.01] * 12}, "differ in cpu_period_s"),
        ({"level_s": [0.5, 0.6] * 12}, "several levels L"),
        ({"horizon_s": [120.0, 60.0] * 12}, "several horizons H"),
        ({"run_id": "same"}, "named twice"),
    ],
)
def test_tables_that_no_test_may_be_made_on_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(MlscaleError, match=words):
        compare(rows_of(**change))


def test_one_simulated_run_among_live_ones_is_enough_to_refuse() -> None:
    rows = rows_of()
    rows.loc[5, "mode"] = "simulated"
    with pytest.raises(MlscaleError, match="1 of 24 runs are simulated"):
        compare(rows)


def test_no_runs_and_unknown_environments_are_refused() -> None:
    with pytest.raises(MlscaleError, match="no run to compare"):
        compare(rows_of().iloc[:0])
    with pytest.raises(MlscaleError, match="no run of c"):
        compare(rows_of(), pairs=[("a", "c")])


def test_one_block_gives_neither_p_nor_interval() -> None:
    found = compare(rows_of(blocks=1, effect=-0.5), p_values=True)
    assert found.ratio.notna().all()
    assert found[["p", "p_holm", "p_signflip", "low", "high", "sim_low", "sim_high"]].isna().all(axis=None)
    assert (found.verdict == "too few blocks").all()


def test_few_blocks_give_intervals_and_no_p() -> None:
    found = compare(rows_of(blocks=5, effect=-0.5))
    assert found[["low", "sim_low"]].notna().all(axis=None)
    assert found[["p", "p_holm", "p_signflip"]].isna().all(axis=None)
    assert "no p-value under 6 blocks" in found.notes[0]
    assert compare(rows_of(blocks=5), p_values=True).p.notna().all()
    three = compare(rows_of(blocks=7, environments=("a", "b", "c")))
    assert three.p.isna().all()
    assert len(three) == 9


@pytest.mark.parametrize("cell", ["open", "sensitivity", None])
def test_only_the_core_cell_has_p_values(cell: str | None) -> None:
    found = compare(rows_of(effect=-0.5, cell=cell), p_values=True)
    assert found.p.isna().all()
    assert found.sim_low.notna().all()
    assert found.verdict[0] == "a faster (by interval alone)"


def test_over_twenty_percent_invalid_is_not_comparable() -> None:
    rows = rows_of(effect=-0.5)
    of_b = rows.index[rows.environment == "b"][:3]  # 3 of 12
    rows.loc[of_b, "valid"] = False
    found = compare(rows)
    assert (found.verdict == "not comparable").all()
    assert found[["ratio", "p", "low", "ratio_without_failures"]].isna().all(axis=None)
    assert "3 of 12 runs of b are invalid" in found.notes[0]
    with_them = compare(rows, with_invalid=True)
    assert with_them.n_blocks.tolist() == [8, 8, 8]
    assert with_them.verdict[0] == "a faster"


def test_runs_that_were_disturbed_from_outside_do_not_count_against_their_environment() -> None:
    rows = rows_of(effect=-0.5).assign(disturbed=False)
    of_b = rows.index[rows.environment == "b"][:3]
    rows.loc[of_b, ["valid", "disturbed"]] = False, True
    assert invalid_share(rows).loc["b"].to_dict() == {"runs": 9, "invalid": 0, "share": 0.0}
    assert compare(rows).verdict[0] == "a faster"
    rows.loc[of_b[:2], "disturbed"] = False
    assert invalid_share(rows).loc["b", ["runs", "invalid"]].tolist() == [11, 2]


def test_up_to_twenty_percent_are_left_out_and_the_first_valid_attempt_stands() -> None:
    rows = rows_of(effect=-0.5)
    bad = rows.index[(rows.environment == "b") & rows.aa_label.isna()][0]
    rows.loc[bad, "valid"] = False
    assert compare(rows).n_blocks.tolist() == [7, 7, 7]
    again = rows.loc[[bad]].assign(run_id="again", valid=True, attempt=1, mean_response_s=0.123)
    both = pd.concat([rows, again], ignore_index=True)
    assert compare(both).n_blocks.tolist() == [8, 8, 8]
    assert "again" in set(chosen(both).run_id)
    assert "again" not in set(chosen(both, with_invalid=True).run_id)
    assert invalid_share(both).loc["b", "share"] == pytest.approx(1 / 13)


def test_faster_is_refused_where_more_requests_fail() -> None:
    rows = rows_of(effect=-0.5)
    rows.loc[rows.environment == "a", "failure_share"] = 0.011
    found = compare(rows)
    assert found.verdict[0] == "refused: a faster, but it fails more by 1.1 points"
    assert found.favours[0] == ""
    rows.loc[rows.environment == "a", "failure_share"] = 0.009
    assert compare(rows).verdict[0] == "a faster"
    rows.loc[rows.environment == "a", "failure_share"], rows.loc[rows.environment == "b", "failure_share"] = 0.0, 0.05
    assert compare(rows).verdict[0] == "a faster"


def test_a_ranking_that_depends_on_the_window_is_not_claimed() -> None:
    rows = rows_of(effect=-0.5)
    rows.loc[rows.environment == "a", "t_slo_confirmed_w30_s"] = 500.0
    found = compare(rows).set_index("endpoint")
    assert "not for every W" in found.loc["P3", "verdict"]
    assert found.loc["P1", "verdict"] == "a faster"
    windows = by_window(rows, [("a", "b")])
    assert not windows[windows.figure == "T_slo + W"].claimable.any()
    assert len(windows) == 14


def test_seconds_over_l_stand_beside_the_first_recovery() -> None:
    """``a`` is back sooner, and goes over L again for longer."""
    rows = rows_of(8, effect=-0.8)
    rng = np.random.default_rng(9)
    rows["over_level_s"] = np.where(rows["environment"] == "a", 50.0, 40.0) + rng.normal(0, 1, len(rows))
    found = compare(rows).set_index("endpoint")
    wide = chosen(rows).query("aa_label != 'B'").pivot(index="block", columns="environment", values="over_level_s")
    differences = wide["a"] - wide["b"]
    low, high = stats.t.interval(0.95, 7, differences.mean(), stats.sem(differences))
    assert found.loc["P3", "over_level_difference_s"] == pytest.approx(differences.mean())
    assert found.loc["P3", ["over_level_low_s", "over_level_high_s"]].tolist() == pytest.approx([low, high])
    assert found.loc["P3", "favours"] == "a"
    assert "but b is over L for fewer seconds in all" in found.loc["P3", "notes"]
    assert found.loc[["P1", "P2"], "over_level_difference_s"].isna().all()
    for over_level_s in (90.0 - rows["over_level_s"], 50.0):
        agreeing = compare(rows.assign(over_level_s=over_level_s)).set_index("endpoint")
        assert "over L" not in agreeing.loc["P3", "notes"]
    turned = compare(rows.assign(over_level_s=50.0), pairs=[("b", "a")]).set_index("endpoint")
    assert "over L" not in turned.loc["P3", "notes"], "as many seconds on both sides"


def test_ties_at_one_are_on_neither_side() -> None:
    assert same_side([0.9, 1.0, 0.8])
    assert not same_side([0.9, 1.1])
    assert not same_side([1.0, 1.0])
    assert not same_side([float("nan")])


def test_all_runs_censored_is_no_difference_and_no_interval() -> None:
    rows = rows_of(t_slo_confirmed_s=120.0, t_slo_s=115.0, t_slo_censored=True)
    row = compare(rows).set_index("endpoint").loc["P3"]
    assert row.ratio == 1.0
    assert row.p == 1.0
    assert np.isnan(row.low)
    assert (row.censored_a, row.censored_b) == (8, 8)
    assert row.mean_a_s == 115.0
    assert row.verdict == "no difference shown"


def test_always_zero_against_always_censored_has_the_sign_flips_p() -> None:
    rows = rows_of()
    is_a = rows.environment == "a"
    rows["t_slo_s"] = np.where(is_a, 0.0, 115.0)
    rows["t_slo_confirmed_s"] = rows.t_slo_s + 5.0
    rows["t_slo_censored"] = ~is_a
    row = compare(rows).set_index("endpoint").loc["P3"]
    assert row.ratio == pytest.approx(5 / 120)
    assert np.isnan(row.low)
    assert row.p == pytest.approx(2 / 2**8)
    assert row.difference_s == pytest.approx(-115.0)
    assert row.at_bound_share == 1.0


def test_a_value_without_a_logarithm_is_refused() -> None:
    rows = rows_of()
    rows.loc[0, "sd_response_s"] = 0.0
    with pytest.raises(MlscaleError, match="no logarithm"):
        compare(rows)


def test_runs_outside_blocks_are_described_and_not_compared() -> None:
    found = compare(rows_of(block=np.nan))
    assert found.n_blocks.tolist() == [0, 0, 0]
    assert (found.verdict == "too few blocks").all()


def test_differences_without_spread() -> None:
    flat = paired_t([[0.0, 0.0, 0.0], [0.3, 0.3, 0.3], [0.1, 0.2, 0.3]])
    assert flat.p[0] == 1.0
    assert np.isnan(flat.p[1])
    assert np.isnan(flat.low[:2]).all()
    assert np.isfinite(flat.low[2])


def test_verdicts_of_two_loops_side_by_side() -> None:
    ahead, behind, even = (compare(rows_of(effect=effect, seed=1)) for effect in (-0.5, 0.5, 0.0))
    assert (across_cells({"core": ahead, "open": ahead}).agreement == "same").all()
    assert (across_cells({"core": ahead, "open": behind}).agreement == "differs").all()
    assert across_cells({"core": ahead, "open": even}).agreement[0] == "seen in: core"
    assert (across_cells({"core": even, "open": even}).agreement == "not shown").all()
