"""Effects of position and predecessor: found where they are, not where blocks differ."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlscale.analysis.endpoints import P1, PRIMARY
from mlscale.analysis.order import position_effects, predecessor_effects

ORDERS = ("abc", "bca", "cab", "cba", "acb", "bac")
OTHERS = {endpoint.column: np.nan for endpoint in PRIMARY} | {"aa_label": None, "attempt": 0, "valid": True}


def table(seed: int, slopes: dict[str, float], *, noise: float = 0.05, after_a: float = 0.0) -> pd.DataFrame:
    """A Williams square of three, with block effects that grow with the position of c."""
    rng = np.random.default_rng(seed)
    found = []
    for block, order in enumerate(ORDERS, start=1):
        of_block = 0.1 * order.index("c") + 0.2 * rng.standard_normal()
        for position, name in enumerate(order, start=1):
            before = order[position - 2] if position > 1 else None
            log = of_block + slopes.get(name, 0.0) * position + after_a * (before == "a") + rng.normal(0, noise)
            row = {"environment": name, "block": block, "position": position, "predecessor": before}
            found.append({**OTHERS, **row, P1.column: 0.2 * np.exp(log)})
    return pd.DataFrame(found)


def test_a_slope_is_found_in_its_environment_and_blocks_are_none() -> None:
    found = [position_effects(table(seed, {"a": np.log(1.1)})).set_index("environment") for seed in range(200)]
    changes = pd.DataFrame([each["change"] for each in found])
    assert changes["a"].mean() == pytest.approx(0.10, abs=0.01)
    assert changes["c"].mean() == pytest.approx(0.0, abs=0.01), "its blocks are slower, not its place"
    covered = [each.loc["c", "low"] < 0 < each.loc["c", "high"] for each in found]
    assert 0.90 < np.mean(covered) < 0.99


def test_invalid_runs_have_no_say() -> None:
    rows = table(1, {}, noise=0.0)
    spoilt = pd.concat([rows.assign(valid=False, **{P1.column: 9.0}), rows.assign(attempt=1)], ignore_index=True)
    found = position_effects(spoilt)
    assert found["change"].abs().max() < 1e-9
    assert found["runs"].tolist() == [6, 6, 6]


def test_one_block_tells_nothing() -> None:
    found = position_effects(table(1, {}).query("block == 1"))
    assert found[["change", "low", "high"]].isna().all(axis=None)
    assert position_effects(table(1, {}).assign(block=None)).empty


def test_a_predecessor_that_leaves_something_behind_shows() -> None:
    found = predecessor_effects(table(2, {}, noise=0.0, after_a=0.3)).set_index(["environment", "predecessor"])
    assert found.loc[("b", "a"), "runs"] == 2
    assert found.loc[("b", "a"), "P1 mean response"] > 0.1
    assert found.loc[("c", "a"), "P1 mean response"] > 0.1
    assert found.loc[("b", "c"), "P1 mean response"] < 0
