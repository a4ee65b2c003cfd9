"""A sweep over a real Ray gives the numbers that a process gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlscale.runs.schedule import ClosedLoop, ClosedStage
from mlscale_twin.studies.sweep import execute, grid, sweep

STEP = ClosedLoop(
    duration_s=60.0, stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=20, clients=12)), think_mean_s=0.7
)


@pytest.mark.live
def test_over_ray_as_in_a_process(tmp_path: Path) -> None:
    tasks = grid(["torchserve"], STEP, {"max_replicas": [2, 4]}, 1)
    table = sweep(tasks, tmp_path / "sweep.jsonl", address="local")
    for task, row in zip(tasks, table.to_dict(orient="records"), strict=True):
        expected = execute(task)
        assert {name: row[name] for name in expected} == pytest.approx(expected)
