"""A sweep and an advice over a real Ray give the numbers that processes give."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mlscale.runs.schedule import ClosedLoop, ClosedStage, OpenLoop, Ramp
from mlscale_twin.strategy.advice import AdviseOptions, advise
from mlscale_twin.strategy.objective import Objective
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


@pytest.mark.live
def test_an_advice_over_ray_as_from_processes() -> None:
    load = OpenLoop(duration_s=600.0, rate=Ramp(from_rps=1.0, to_rps=6.0))
    options = AdviseOptions(environments=("k3s",), settings=20)
    here, over_ray = (
        advise(load, Objective(p95_s=1.0), replace(options, address=address)) for address in (None, "local")
    )
    for place, entry in here.advised.items():
        other = over_ray.advised[place]
        assert other.candidate.strategy == entry.candidate.strategy
        assert other.candidate.figures == entry.candidate.figures
