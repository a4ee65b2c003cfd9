"""The figures of the twin, and of what is simulated: nothing is clipped, and what is censored says so."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from mlscale.figures import variants
from mlscale.plots.style import plotted
from mlscale.runs import Run
from mlscale_twin.likeness import MARGINS
from mlscale_twin.plots.verdicts import verdicts
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
    grid = verdicts(_verdicts())
    assert [axes.get_title(loc="left") for axes in grid[0]] == ["TorchServe\n+ controller", "Kubernetes\n(HPA)"]
    worst = plotted(grid[0, 1]).iloc[0]
    assert worst["low"] == pytest.approx(np.log(0.05) / np.log(1.1))
    for axes in grid[0]:
        left, right = axes.get_xlim()
        drawn = np.concatenate([np.asarray(line.get_xdata(), dtype=float) for line in axes.lines])
        assert left <= drawn.min()
        assert drawn.max() <= right
    title = " ".join(grid[0, 0].figure.get_suptitle().split())
    assert "live runs: 19 equivalent, 0 inconclusive, 1 different of 20" in title


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    folder = tmp_path_factory.mktemp("twin")
    shapes = {"fast": Shape(start_s=2.0), "slow": Shape(start_s=20.0), "never": Shape(replicas=1)}
    return {
        name: make_run(folder / name, shape=shape, mode="simulated", facts=PROFILE) for name, shape in shapes.items()
    }


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
