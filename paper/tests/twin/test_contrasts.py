"""The twin's error in a comparison: constructed cases, and whether it covers what is on record."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlscale_paper import places
from mlscale_paper.contrasts import (
    FIGURES,
    REHEARSAL,
    Error,
    Figure,
    borrowed,
    contrasts,
    measured,
    rehearsed_contrasts,
    side_errors,
    used,
)
from mlscale_paper.twin_records import CONTRASTS

LEVEL = 0.90


def rows_of(settings: int, blocks: int, *, side_sd: float, block_sd: float, seed: int) -> pd.DataFrame:
    """Errors of three sides, the blocks' own shared by the sides of a block."""
    rng = np.random.default_rng(seed)
    rows = []
    for setting in range(settings):
        sides = rng.normal(0, side_sd, 3)
        for block in range(blocks):
            shared = rng.normal(0, 5.0)
            for side, error in zip("abc", sides, strict=True):
                value = shared + error + rng.normal(0, block_sd)
                rows.append({"setting": str(setting), "block": block, "side": side, **dict.fromkeys(FIGURES, value)})
    return pd.DataFrame(rows)


def test_what_a_block_does_to_both_sides_cancels() -> None:
    rows = rows_of(2, 3, side_sd=0.3, block_sd=0.0, seed=0)
    table = contrasts(rows, "a", "b")
    assert len(table) == 6
    assert (table.groupby("setting")["mean"].std() < 1e-12).all()
    own = side_errors(rows, "mean").set_index(["setting", "side"])["error"]
    assert table.groupby("setting")["mean"].mean()["0"] == pytest.approx(own["0", "b"] - own["0", "a"])


def test_a_new_contrast_is_covered_at_the_stated_rate() -> None:
    covered = {"borrowed": 0, "measured": 0}
    repeats = 200
    for seed in range(repeats):
        rows = rows_of(5, 4, side_sd=0.3, block_sd=0.2, seed=seed)
        new = rows["setting"] == "4"
        truth = contrasts(rows[new], "a", "b")["mean"].mean()
        for name, error in (
            ("borrowed", borrowed(rows[~new], "mean", "")),
            ("measured", measured(contrasts(rows[~new], "a", "b"), "mean", "")),
        ):
            covered[name] += abs(truth - error.bias) <= error.scale * stats.t.ppf((1 + LEVEL) / 2, error.df)
    for name, times in covered.items():
        assert stats.binomtest(times, repeats, LEVEL).pvalue > 0.001 or times / repeats > LEVEL, name


def test_an_error_moves_and_widens_what_draws_say() -> None:
    ratios = np.full(100, 1.0)
    error = Error(bias=1.0, scale=0.5, df=5.0, borrowed=True, what="")
    assert error.share_right(ratios) == pytest.approx(0.5)
    low, middle, high = error.quantiles(ratios, [0.05, 0.5, 0.95])
    assert (low, middle, high) == pytest.approx(0.5 * stats.t.ppf([0.05, 0.5, 0.95], 5.0), abs=0.06)
    assert error.scaled(0.5).scale == 0.25
    own = Error(bias=1.0, scale=0.5, df=5.0, borrowed=False, what="")
    assert own.scaled(2.0) == own, "what was measured is not varied"


def test_runs_that_do_not_recover_show_no_error() -> None:
    rows = pd.DataFrame({"recovered": [True, True, False], "twins_recovered": [1.0, 0.4, 1.0], "loop": ["closed"] * 3})
    assert list(used(rows).index) == [0]


@pytest.fixture(scope="module")
def recorded() -> pd.DataFrame:
    record = json.loads((places.reference() / CONTRASTS).read_text())
    return pd.DataFrame(record["live"])


def covered(error: Error, values: pd.Series) -> int:
    half = error.scale * stats.t.ppf((1 + LEVEL) / 2, error.df)
    return int((np.abs(values - error.bias) <= half).sum())


def enough(times: int, of: int) -> bool:
    """Whether as many are covered as chance allows at `LEVEL`, in 99 of 100 cases."""
    return bool(times >= stats.binom.ppf(0.01, of, LEVEL))


@pytest.mark.parametrize("figure", FIGURES)
def test_settings_left_out_are_covered(recorded: pd.DataFrame, figure: Figure) -> None:
    """By what the other settings say, borrowed; a binomial tolerance at sides - 1 contrasts a setting."""
    rows = frameworks(recorded)
    times = of = 0
    for setting in rows["setting"].unique():
        error = borrowed(rows[rows["setting"] != setting], figure, "")
        values = pair_means(rows[rows["setting"] == setting], figure)
        times, of = times + covered(error, values), of + len(values)
    assert of >= 6
    assert enough(times, of), f"{times} of {of}"


@pytest.mark.parametrize("figure", FIGURES)
def test_blocks_left_out_are_covered(recorded: pd.DataFrame, figure: Figure) -> None:
    """By the mean of the other blocks of the same contrast and setting."""
    times = of = 0
    for (_, _), own in used(recorded).groupby(["setting", "loop"]):
        for better, worse in itertools.combinations(sorted(own["side"].unique()), 2):
            values = contrasts(own, better, worse)[figure].dropna().to_numpy()
            for left_out in range(len(values)) if len(values) >= 3 else ():
                others = np.delete(values, left_out)
                scale = float(others.std(ddof=1) * np.sqrt(1 + 1 / len(others)))
                error = Error(float(others.mean()), scale, len(others) - 1.0, False, "")
                times, of = times + covered(error, values[[left_out]]), of + 1
    assert of >= 60
    assert enough(times, of), f"{times} of {of}"


@pytest.mark.parametrize("figure", FIGURES)
def test_boot_times_left_out_are_covered(recorded: pd.DataFrame, figure: Figure) -> None:
    by_block = rehearsed_contrasts(used(recorded)[used(recorded)["setting"] == REHEARSAL])
    settings = by_block["setting"].unique()
    means = by_block.groupby("setting")[figure].mean()
    times = sum(
        covered(measured(by_block[by_block["setting"] != setting], figure, ""), means[[setting]])
        for setting in settings
    )
    assert enough(times, len(settings)), f"{times} of {len(settings)}"


def test_an_open_loop_is_outside(recorded: pd.DataFrame) -> None:
    """Which is why its runs are not among those of the error."""
    apart = recorded[(recorded["setting"] != REHEARSAL) & recorded["recovered"].astype(bool)]
    spread = {loop: float(np.sqrt((pair_blocks(own, "mean") ** 2).mean())) for loop, own in apart.groupby("loop")}
    assert spread["open"] > 2 * spread["closed"]


def frameworks(rows: pd.DataFrame) -> pd.DataFrame:
    rows = used(rows)
    return rows[(rows["setting"] != REHEARSAL) & ~rows["fitted"].astype(bool)]


def pair_blocks(rows: pd.DataFrame, figure: Figure) -> pd.Series:
    pairs = itertools.combinations(sorted(rows["side"].unique()), 2)
    return pd.concat([contrasts(rows, *pair).assign(pair="/".join(pair)) for pair in pairs])[figure].dropna()


def pair_means(rows: pd.DataFrame, figure: Figure) -> pd.Series:
    pairs = itertools.combinations(sorted(rows["side"].unique()), 2)
    return pd.Series([contrasts(rows, *pair)[figure].mean() for pair in pairs])
