"""Sweeps: every combination once, resumed where it was stopped; over a real Ray: tests/live/test_over_ray.py."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from mlscale.runs import MlscaleError
from mlscale.runs.schedule import ClosedLoop, ClosedStage, Constant, OpenLoop
from mlscale_twin import cli
from mlscale_twin.profile import FOLDER, with_changes
from mlscale_twin.profile_files import read_profile
from mlscale_twin.studies.sweep import execute, grid, simulator, sweep

STEP = ClosedLoop(
    duration_s=120.0, stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=40, clients=12)), think_mean_s=0.7
)


OPEN = OpenLoop(duration_s=60.0, rate=Constant(rate_rps=4.0))
USUAL = read_profile("k3s")
SLOWER = with_changes(USUAL, [("work.app.mean_s.value", 2 * USUAL.work["app"].mean_s.value)])
TASKS = grid(["k3s", "torchserve"], STEP, {"max_replicas": [2, 4]}, 2)
OPEN_TASKS = [*grid(["k3s"], OPEN, {}, 1), *grid(["k3s"], OPEN, {}, 1, profile=SLOWER)]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Results of both grids, from one start of the processes."""
    file = tmp_path_factory.mktemp("swept") / "sweep.jsonl"
    sweep([*TASKS, *OPEN_TASKS], file)
    return file


def test_all_combinations_once(swept: Path) -> None:
    assert len(TASKS) == 8 == len({task.key("") for task in TASKS})
    lines = swept.read_text().splitlines()
    assert len(lines) == len(TASKS) + len(OPEN_TASKS)
    table = sweep(TASKS, swept)
    assert len(table) == 8
    assert set(table["max_replicas"]) == {2, 4}
    wide = table.groupby("max_replicas")["mean_response_s"].mean()
    assert wide[4] < wide[2], "more replicas, shorter responses"
    alone = execute(TASKS[3])
    key = TASKS[3].key(simulator())
    assert json.loads(next(line for line in lines if key in line))["figures"] == pytest.approx(alone)
    assert swept.read_text().splitlines() == lines, "nothing was simulated again"


def test_any_schedule_and_any_profile(swept: Path) -> None:
    """Without a step there are no figures of the response to one; a profile of one's own is used."""
    table = sweep(OPEN_TASKS, swept)
    assert "t_slo_s" not in table
    usual, slow = table.to_dict(orient="records")
    assert slow["p95_response_s"] > usual["p95_response_s"]
    assert usual["usd_per_month"] > 0


def test_invalid_tasks_are_errors_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="unknown setting"):
        sweep(grid(["k3s"], STEP, {"max_replica": [2]}, 1), tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("no sweep\n{}\n")
    with pytest.raises(MlscaleError, match="not a sweep"):
        sweep(grid(["k3s"], STEP, {}, 1), tmp_path / "b.jsonl")
    assert not (tmp_path / "a.jsonl").exists()
    with pytest.raises(MlscaleError, match="Is a directory"):
        sweep(grid(["k3s"], STEP, {}, 1), tmp_path)


def test_ray_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match=r"^Ray at 127\.0\.0\.1:1: can't connect"):
        sweep(TASKS[:1], tmp_path / "a.jsonl", address="127.0.0.1:1")


def test_a_sweep_is_resumed_and_ray_that_does_not_start_is_replaced(
    swept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import ray

    def slow(**options: object) -> None:
        raise RuntimeError("The node has not registered\nwithin 30 s")

    monkeypatch.setattr(ray, "init", slow)
    file, lines = tmp_path / "sweep.jsonl", swept.read_text().splitlines()
    file.write_text("\n".join(lines[:-1]) + '\n{"key": "cut off')
    again = sweep([*TASKS, *OPEN_TASKS], file, address="local")
    assert "Ray did not start (The node has not registered); processes" in capsys.readouterr().err
    pd.testing.assert_frame_equal(again, sweep([*TASKS, *OPEN_TASKS], swept), check_dtype=False)
    assert len(file.read_text().splitlines()) == len(lines)


@pytest.mark.parametrize("value", ["-5", "NaN", "Infinity"])
def test_no_number_of_a_profile_is_negative(value: str) -> None:
    for parse in (cli._parse_changes, lambda texts: cli._parse_values(texts, "--set")):
        with pytest.raises(MlscaleError, match=r"--set requests\.outside_s\.value: .* is not possible"):
            parse([f"requests.outside_s.value={value}"])
    assert cli._parse_changes(["requests.outside_s.value=0.5"]) == [("requests.outside_s.value", 0.5)]


def test_values_of_a_setting_may_be_negative_null_or_lists() -> None:
    texts = ["a=-1,100", "b=null,0", 'c=["x","y"],["x"]', "d=mean,max"]
    values = {"a": [-1, 100], "b": [None, 0], "c": [["x", "y"], ["x"]], "d": ["mean", "max"]}
    assert cli._parse_values(texts, "--scaling") == values
    for wrong, words in ((["a=1", "a=2"], "given twice"), (["a="], "no values"), (["a"], "not KEY=VALUE")):
        with pytest.raises(MlscaleError, match=words):
            cli._parse_values(wrong, "--scaling")


def test_the_table_has_every_combination(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a setting that may be null, and of one that is a list."""
    texts = ["upscale_stabilisation_s=null,0", 'machine_types=["rehearsal.small"]']
    cli.sweep(["eks"], tmp_path / "sweep.jsonl", texts, draws=2)
    assert "SIMULATED, 2 combinations; means of 2 draws" in capsys.readouterr().out
    table = pd.read_csv(tmp_path / "sweep.csv", dtype=str, keep_default_na=False)
    assert set(table["upscale_stabilisation_s"]) == {"null", "0"}
    assert set(table["machine_types"]) == {'["rehearsal.small"]'}
    runs = [json.loads(line)["figures"]["mean_response_s"] for line in (tmp_path / "sweep.jsonl").open()]
    assert table["mean_response_s"].astype(float).mean() == pytest.approx(sum(runs) / len(runs))


def test_the_table_replaces_neither_the_schedule_nor_the_results(tmp_path: Path) -> None:
    (tmp_path / "load.csv").write_text("time_s,rate_rps\n0,2\n60,4\n")
    (tmp_path / "load.json").write_text(STEP.model_dump_json())
    for out, schedule, words in (
        ("load.jsonl", "load.csv", "replace the schedule"),
        ("sweep.csv", "load.json", "replace the results"),
        ("load.json", "load.json", "not a sweep result"),
    ):
        before = (tmp_path / schedule).read_text()
        with pytest.raises(MlscaleError, match=words):
            cli.sweep(["k3s"], tmp_path / out, schedule=tmp_path / schedule, draws=1)
        assert (tmp_path / schedule).read_text() == before
    assert len(list(tmp_path.iterdir())) == 2


def test_a_profile_that_would_not_be_used_and_an_unknown_column_are_refused_at_once(tmp_path: Path) -> None:
    own = FOLDER / "torchserve.json"
    for options, words in (
        ({"profile": [own]}, "it is for torchserve, which is not among k3s, ecs"),
        ({"profile": [FOLDER / "k3s.json"] * 2}, "two profiles are for k3s"),
        ({"sort": "mean"}, "no column 'mean'"),
    ):
        with pytest.raises(MlscaleError, match=words):
            cli.sweep(["k3s", "ecs"], tmp_path / "sweep.jsonl", **options)
    assert not any(tmp_path.iterdir())
