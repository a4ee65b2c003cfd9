"""A factor's effect on an environment, from rows whose truth is known."""

from __future__ import annotations

import pandas as pd
import pytest

from mlscale.analysis.factors import factor_effects


def row(variant: str, block: int, mean_s: float, **changes: object) -> dict[str, object]:
    known: dict[str, object] = {
        "cell": f"sensitivity/{variant}",
        "environment": "k3s",
        "block": block,
        "aa_label": None,
        "attempt": 0,
        "valid": True,
        "mean_response_s": mean_s,
        "sd_response_s": 0.1,
        "t_slo_confirmed_s": 20.0,
        "cpu_per_answer_s": 0.05,
    }
    return known | changes


def test_a_factor_is_set_against_the_reference_of_its_own_block() -> None:
    blocks = {1: 0.2, 2: 0.4, 3: 0.3}
    rows = [row("reference", block, mean_s) for block, mean_s in blocks.items()]
    rows += [row("sync-15s", block, factor * blocks[block]) for block, factor in {1: 0.5, 2: 0.6, 3: 0.7}.items()]
    rows += [row("sync-15s", 1, 9.0, attempt=1), row("sync-15s", 2, 9.0, attempt=0, valid=False)]
    rows += [row("reference", 1, 9.0, cell="core")]
    found = factor_effects(pd.DataFrame(rows)).set_index("figure")
    mean = found.loc["mean response"]
    assert (mean["environment"], mean["factor"], mean["blocks"]) == ("k3s", "sync-15s", 3)
    assert mean["ratio"] == pytest.approx((0.5 * 0.6 * 0.7) ** (1 / 3))
    assert mean["low"] < 0.5 < mean["ratio"] < 0.7 < mean["high"]
    assert found.loc["CPU per right answer", "ratio"] == pytest.approx(1.0)


def test_one_block_has_no_interval_and_none_no_row() -> None:
    one = factor_effects(pd.DataFrame([row("reference", 1, 0.2), row("period-10ms", 1, 0.1)]))
    assert one.loc[0, "ratio"] == pytest.approx(0.5)
    assert one["low"].isna().all()
    assert factor_effects(pd.DataFrame([row("reference", 1, 0.2, cell="core")])).empty
