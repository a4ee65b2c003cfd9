"""A small experiment of synthetic runs, created once per test session, on first use."""

from __future__ import annotations

from pathlib import Path

from mlscale.runs import Run, load_runs
from synthetic_runs import Shape, make_experiment

SHAPES = {
    "torchserve": Shape(baseline_s=20.0, horizon_s=40.0, start_s=4.0),
    "rayserve": Shape(
        baseline_s=20.0,
        horizon_s=40.0,
        start_s=9.0,
        service_s=0.125,
        stagger_s=0.2,
        data_plane_cpu_s=0.009,
        control_cores=0.18,
    ),
}
LEVEL_S = 0.3


def six_blocks(session: Path) -> list[Run]:
    """Two environments, six blocks, an A/A pair in each: 18 runs, created once below the session's folder."""
    folder = session / "six-blocks"
    return load_runs(folder) if folder.exists() else make_experiment(folder, SHAPES, 6, seed=3)
