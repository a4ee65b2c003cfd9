"""The figures of the twin, and of what is simulated: nothing is clipped, and what is censored says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlscale.figures import variants
from mlscale.plots.style import plotted
from mlscale.runs import Run
from mlscale_twin.likeness import MARGINS
from mlscale_twin.plots.swings import swing_bars
from mlscale_twin.plots.twin import control_rejections, twin_trajectories, verdicts
from synthetic_runs import Shape, make_run

LEVEL_S = 0.3
PROFILE = {"profile": {"what": "of a test", "validated": "not validated"}}


def _verdicts() -> pd.DataFrame:
    """The first figure far off on one environment, all others as they should be."""
    rows = [
        {"environment": name, "figure": figure, "n": 6, "margin": 0.1, "noise": 0.05, "verdict": "equivalent"}
        | dict.fromkeys(("estimate", "low", "high"), 1.0 if margin.relative else 0.0)
        for name in ("k3s", "torchserve")
        for figure, margin in MARGINS.items()
    ]
    rows[0] |= {"estimate": 0.1, "low": 0.05, "high": 0.2, "verdict": "different"}
    return pd.DataFrame(rows)


def test_a_verdict_however_bad_lies_inside_the_axes() -> None:
    grid = verdicts(_verdicts(), "the live runs of its fit (no test)")
    assert [axes.get_title(loc="left") for axes in grid[0]] == ["TorchServe\n+ controller", "Kubernetes\n(HPA)"]
    worst = plotted(grid[0, 1]).iloc[0]
    assert worst["low"] == pytest.approx(np.log(0.05) / np.log(1.1))
    for axes in grid[0]:
        left, right = axes.get_xlim()
        drawn = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in axes.lines])
        assert left <= drawn.min()
        assert drawn.max() <= right
    title = " ".join(grid[0, 0].figure.get_suptitle().split())
    assert "live runs of its fit (no test): 19 equivalent, 0 inconclusive, 1 different of 20" in title


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("twin")
    shapes = {"fast": Shape(start_s=2.0), "slow": Shape(start_s=20.0), "never": Shape(replicas=1)}
    return {
        name: make_run(folder / name, shape=shape, mode="simulated", facts=PROFILE) for name, shape in shapes.items()
    }


def test_trajectories_of_all_setups_lie_inside_the_axes(runs: dict[str, Run], tmp_path: Path) -> None:
    live = {f"torchserve/{name}": [make_run(tmp_path / name)] for name in ("closed", "open")}
    twins = {"torchserve/closed": [runs["fast"]], "torchserve/open": [runs["never"]]}
    grid = twin_trajectories(live, twins, LEVEL_S)
    assert grid[0, 0].get_title(loc="left") == "TorchServe + controller\nclosed"
    for axes in grid.ravel():
        assert axes.get_ylim()[1] > plotted(axes)["mean_s"].max()


def test_wrong_twins_that_go_unnoticed_are_framed() -> None:
    rows = [("as it is", 0.1), ("slow", 0.79), ("lag", 0.8)]
    table = pd.DataFrame([{"environment": "k3s", "twin": twin, "rejected": share} for twin, share in rows])
    axes = control_rejections(table)
    assert [patch.get_xy() for patch in axes.patches] == [(0, 1)]
    assert [text.get_text() for text in axes.texts] == ["10", "79", "80"]
    assert axes.figure.get_suptitle().startswith("1 of 2 wrong twins")


def test_variants_say_when_they_were_back_or_that_they_never_were(runs: dict[str, Run]) -> None:
    groups = {"fast": [runs["fast"], runs["slow"]], "never": [runs["never"]]}
    (axes,) = variants(groups, ["#000000", "#882255"], LEVEL_S).axes
    words = [text.get_text() for text in axes.get_legend().get_texts()]
    assert words[0].startswith("fast (n = 2)")
    assert "at least" not in words[0]
    assert "at least 115 s" in words[1]
    numbers = plotted(axes)
    single = numbers[(numbers["variant"] == "fast") & (numbers["run_id"] != "median")]
    median = numbers[(numbers["variant"] == "fast") & (numbers["run_id"] == "median")]
    np.testing.assert_allclose(median["mean_s"], single.groupby("t_s")["mean_s"].median())


def test_censored_swings_end_in_an_arrow_and_idle_numbers_get_no_row() -> None:
    rows = [("work", 90.0, 895.0, 0, 3), ("delay", 80.0, 130.0, 0, 0), ("boot", 100.0, 100.5, 0, 0)]
    columns = ["what", "half", "double", "half_censored", "double_censored"]
    axes = swing_bars(pd.DataFrame(rows, columns=columns).assign(as_it_is=100.0), draws=4)
    texts = [text.get_text() for text in axes.texts]
    assert "at least 895: never under L in 3 of 4 draws" in texts
    assert {"80", "90", "130"} <= set(texts)
    assert [label.get_text() for label in axes.get_yticklabels()] == ["work", "delay"]
    assert "boot" in axes.get_xlabel()
    right = axes.get_xlim()[1]
    assert all(bar.get_x() + bar.get_width() <= right for bar in axes.patches)
