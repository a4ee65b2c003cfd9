"""A slip in a notebook's parameters stops it, with the parameter's name."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mlscale.notebook.parameters import (
    CompareParameters,
    MeasureParameters,
    StrategyParameters,
    check_parameters,
    declared,
)
from mlscale.runs import MlscaleError
from mlscale_experiment.notebook_execution import NotebookFailed, execute

DEFAULTS: dict[str, Any] = {"run_dirs": [], "seed": 0, "idle_s": 30.0, "schedule": None, "figures": None}


def test_good_parameters_come_back_typed() -> None:
    schedule = {"loop": "closed", "duration_s": 60, "stages": [{"start_s": 0, "clients": 2}]}
    given = DEFAULTS | {"run_dirs": ["runs/a"], "schedule": schedule, "labels": {"block": 3}}
    checked = check_parameters(MeasureParameters, given | {"Path": Path, "unrelated": 1})
    assert checked.run_dirs == (Path("runs/a"),)
    assert checked.schedule is not None
    assert checked.schedule.duration_s == 60
    assert checked.labels.block == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("idle_s", "soon"),
        ("idle_s", -1),
        ("seed", 1.5),
        ("arm", "matchd"),
        ("mode", "dead"),
        ("run_dirs", 3),
        ("schedule", {"loop": "closed"}),
        ("labels", {"blok": 1}),
        ("scaling", [1]),
        ("level_s", 0),
        ("level_s", math.nan),
        ("idle_s", math.inf),
    ],
)
def test_an_ill_typed_parameter_is_named(name: str, value: object) -> None:
    with pytest.raises(MlscaleError, match=f"parameter '{name}") as caught:
        check_parameters(MeasureParameters, DEFAULTS | {name: value})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("rate_rps", [-1, math.nan, 1e9])
def test_a_rate_that_can_not_be_sent_is_named(rate_rps: float) -> None:
    with pytest.raises(MlscaleError, match=r"parameter 'hourly_rps\.1'"):
        check_parameters(StrategyParameters, {"hourly_rps": [1, rate_rps]})


def test_an_unknown_name_injected_by_papermill_is_named() -> None:
    cells = ["", "seed = 0", "# Parameters\nseed = 1\nsede = 2\n", "x = %timeit 1"]
    with pytest.raises(MlscaleError, match="unknown parameter 'sede'"):
        check_parameters(CompareParameters, {"In": cells, "seed": 1, "sede": 2})


def test_a_reader_may_define_names_of_his_own() -> None:
    assert check_parameters(CompareParameters, {"In": ["seed = 1", "mine = 2"], "seed": 1, "mine": 2}).seed == 1


def notebook(folder: Path, *cells: str) -> Path:
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    path = folder / "some.ipynb"
    nbformat.write(made, path)
    return path


def test_declared_names_are_read_off_the_tagged_cell(tmp_path: Path) -> None:
    assert declared(notebook(tmp_path, "a = 1\nb: int = 2  # b", "c = 3")) == {"a", "b"}


@pytest.mark.parametrize("text", ["", "not json", '{"cells": []}'])
def test_what_is_no_notebook_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "broken.ipynb").write_text(text)
    with pytest.raises(MlscaleError, match=r"broken\.ipynb"):
        declared(tmp_path / "broken.ipynb")


def test_an_unknown_parameter_stops_before_a_kernel_is_started(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match=r"some\.ipynb: unknown parameter 'sede'"):
        execute(notebook(tmp_path, "seed = 0"), tmp_path / "out.ipynb", {"sede": 1}, timeout_s=60)
    assert not (tmp_path / "out.ipynb").exists()


def test_what_a_cell_raises_becomes_one_line_and_the_executed_notebook_is_kept(tmp_path: Path) -> None:
    source = notebook(
        tmp_path,
        "seed = 0",
        "from mlscale.notebook.parameters import NotebookParameters, check_parameters\n"
        "p = check_parameters(NotebookParameters, globals())",
    )
    with pytest.raises(NotebookFailed, match="parameter 'seed'") as caught:
        execute(source, tmp_path / "out.ipynb", {"seed": "x"}, timeout_s=60)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out.ipynb").exists()
