"""Notebook 07 on runs of a user's own model: the twin, which is about the code reader, is left out."""

from __future__ import annotations

from pathlib import Path

import mlscale as ms
from mlscale_paper import comparison
from synthetic_runs import Shape, make_run


def test_nothing_is_simulated_beside_another_application(tmp_path: Path) -> None:
    names = ("torchserve", "rayserve")
    shape = Shape(horizon_s=30.0)
    mine = [make_run(tmp_path / name, environment=name, app="mine", shape=shape) for name in names]
    assert not comparison.of_the_code_reader(mine)
    assert comparison.of_the_code_reader([make_run(tmp_path / "own", shape=shape)])
    table = ms.analysis.shown_objectives(comparison.by_objective(ms.summarise(mine, 0.5), [], [], 0.5))
    assert set(names) <= set(table.columns)
