"""Published runs are smaller and say the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest

from mlscale.analysis.summary import summarise
from mlscale.experiment import publish as module
from mlscale.experiment.attempts import State
from mlscale.experiment.design import plan
from mlscale.experiment.protocol import Photos, default_protocol
from mlscale.experiment.publish import publish_runs
from mlscale.runs import MlscaleError, Run, load_runs

sys.path.insert(0, str(Path(__file__).parents[1]))
from synthetic_runs import Shape, make_experiment


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    root = tmp_path_factory.mktemp("runs")
    return make_experiment(root, {"torchserve": Shape(), "rayserve": Shape(service_s=0.13)}, blocks=2)


def test_what_is_published_gives_the_same_numbers(runs: list[Run], tmp_path: Path) -> None:
    root = runs[0].path.parents[1]
    reference = publish_runs(runs, root, tmp_path / "reference")
    published = load_runs(reference)
    assert [run.path.relative_to(reference) for run in published] == sorted(run.path.relative_to(root) for run in runs)
    assert {run.info.run_id: run.info for run in published} == {run.info.run_id: run.info for run in runs}
    before, after = (
        summarise(sorted(each, key=lambda run: run.info.run_id), 0.6).set_index("run_id").select_dtypes("number")
        for each in (runs, published)
    )
    pd.testing.assert_frame_equal(before, after, rtol=2e-3, atol=2e-4, check_dtype=False)


def test_publishing_again_replaces_the_whole(runs: list[Run], tmp_path: Path) -> None:
    root = runs[0].path.parents[1]
    publish_runs(runs, root, tmp_path / "reference")
    (tmp_path / "reference/claims.json").write_text("{}")
    publish_runs(runs[:1], root, tmp_path / "reference")
    assert len(load_runs(tmp_path / "reference")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]
    assert (tmp_path / "reference/claims.json").read_text() == "{}", "what took long to compute stays"


def test_too_much_is_refused_and_what_was_there_stays(
    runs: list[Run], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = runs[0].path.parents[1]
    publish_runs(runs[:1], root, tmp_path / "reference")
    monkeypatch.setattr(module, "MOST_BYTES", 10_000)
    with pytest.raises(MlscaleError, match="more than 20"):
        publish_runs(runs, root, tmp_path / "reference")
    assert len(load_runs(tmp_path / "reference")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["reference"]


def test_an_environment_that_the_hold_out_left_out_is_not_missed(runs: list[Run]) -> None:
    planned = plan(["torchserve", "rayserve"], ["core", "holdout"], 1, default_protocol(Photos(folder="p", count=1)))
    begun = next(run for run in planned if run.cell == "holdout" and run.environment == "torchserve")
    states = [State(each, (runs[0],) if each == begun else (), (), 3) for each in planned]
    wanted = [state.planned for state in module._wanted(states)]
    assert wanted == [run for run in planned if run.cell == "core" or run.environment == "torchserve"]
