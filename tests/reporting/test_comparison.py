"""`mlscale compare`: tables, refusals in one line, JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from experiment_runs import LEVEL_S
from in_process import mlscale
from mlscale.analysis.report import describe, report, to_json
from mlscale.analysis.summary import summarise
from mlscale.reporting.comparison import comparison
from mlscale.reporting.render import to_text
from mlscale.runs import Run
from synthetic_runs import Shape, make_run


@pytest.fixture(scope="module")
def rows(experiment: list[Run]) -> pd.DataFrame:
    return summarise(experiment, LEVEL_S)


def test_the_tables_of_an_experiment(rows: pd.DataFrame) -> None:
    found = report(rows, LEVEL_S)
    assert len(found.cells) == 1
    tables = found.cells[0].tables
    assert tables["means"].loc["torchserve", ["runs", "n", "invalid"]].tolist() == [9, 6, 0]
    assert tables["effects"].verdict[0] == "torchserve faster"
    text = to_text(comparison([], found))
    assert "torchserve faster" in text
    assert "A/A floor" in text
    for title in ("P1 in parts", "Steady state", "Change from one position", "Change after each predecessor"):
        assert title in text
    assert tables["means"].loc["rayserve", "over L (s)"] > tables["means"].loc["torchserve", "over L (s)"]
    assert "over L, difference, s" in text
    assert "note: no run is invalid" in text
    lines = text.splitlines()
    assert lines[1].split() == ["pair", "endpoint", "ratio", "95", "%", "interval", "verdict"]
    assert "torchserve faster" in lines[2]
    assert lines[-1] == "note: no run is invalid: the table with invalid runs in is the same"
    assert text.index("simultaneous") < text.index("p, Holm")


def test_json_holds_the_same_numbers_and_every_run(rows: pd.DataFrame) -> None:
    found = report(rows, LEVEL_S)
    data = json.loads(to_json(found))
    assert len(data["runs"]) == len(rows)
    first = data["cells"][0]["tables"]["effects"][0]
    assert first["ratio"] == pytest.approx(found.cells[0].tables["effects"].ratio[0])
    assert data["runs"][0]["aa_label"] is None or data["runs"][0]["aa_label"] in "AB"


def test_simulated_runs_are_described_and_no_test_is_made(rows: pd.DataFrame) -> None:
    found = report(rows.assign(mode="simulated"), LEVEL_S)
    assert list(found.cells[0].tables) == ["runs", "means"]
    assert found.cells[0].refusal.startswith("no test is made: ")
    line = [line for line in to_text(comparison([], found)).splitlines() if line.startswith("refused: ")]
    assert len(line) == 1
    assert "18 of 18 runs are simulated" in line[0]


def test_invalid_runs_are_named_and_the_table_with_them_stands_beside(rows: pd.DataFrame) -> None:
    changed = rows.copy()
    changed["position"] = range(len(rows))
    changed.loc[0, ["valid", "reasons"]] = [False, "host-bound: 95% of the host's CPU was in use"]
    text = to_text(comparison([], report(changed, LEVEL_S)))
    assert "Effects, invalid runs in" in text
    assert "Means, invalid runs in" in text
    assert "is invalid: host-bound: 95%" in text


def test_cells_stand_beside_one_another(rows: pd.DataFrame) -> None:
    other = rows.assign(cell="open", loop="open", run_id=rows.run_id + "-open")
    found = report(pd.concat([rows, other], ignore_index=True), LEVEL_S)
    assert len(found.cells) == 2
    assert len(found.across) == 3
    assert (found.across.agreement == "same").all()
    assert "Verdicts across cells" in to_text(comparison([], found))


def test_one_environment_alone(rows: pd.DataFrame) -> None:
    found = report(rows[rows.environment == "rayserve"], LEVEL_S)
    assert "nothing to compare" in to_text(comparison([], found))


def test_runs_of_no_experiment_are_described(rows: pd.DataFrame) -> None:
    alone = rows.iloc[:2].assign(block=None, cell=None, aa_label=None)
    assert describe(alone)["n"].sum() == 2
    assert "too few blocks" in to_text(comparison([], report(alone, LEVEL_S)))


def test_the_command_prints_tables_and_json(experiment: list[Run]) -> None:
    some = [str(run.path) for run in experiment[:3]]
    plain = mlscale("compare", *some, "--level", "0.3")
    assert plain.returncode == 0, plain.stderr
    assert "ratio torchserve / rayserve" in plain.stdout
    as_json = mlscale("compare", *some, "--level", "0.3", "--json")
    assert len(json.loads(as_json.stdout)["runs"]) == 3


def test_the_command_says_in_one_line_what_is_wrong(experiment: list[Run], tmp_path: Path) -> None:
    nothing = mlscale("compare", str(tmp_path))
    broken = tmp_path / "broken"
    shutil.copytree(experiment[0].path, broken)
    (broken / "requests.parquet").write_bytes(b"not parquet")
    unreadable = mlscale("compare", str(broken), "--level", "0.3")
    for found, words in ((nothing, "no run found"), (unreadable, "can't be read")):
        assert found.returncode == 2
        assert len(found.stderr.strip().splitlines()) == 1
        assert words in found.stderr


def test_other_hosts_are_refused_in_one_line(experiment: list[Run], tmp_path: Path) -> None:
    shape = Shape(baseline_s=20.0, horizon_s=40.0)
    other = make_run(tmp_path / "o", shape=shape, environment="rayserve", host={"cpu_model": "another"})
    found = mlscale("compare", str(experiment[0].path), str(other.path), "--level", "0.3")
    assert found.returncode == 0
    assert sum(line.startswith("refused: ") for line in found.stdout.splitlines()) == 1
    assert "2 hosts" in found.stdout
