"""Five notebooks that were handed in, with usual mistakes, become one CSV; nothing in them is executed."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
import pytest
from lab_notebooks import NOTEBOOKS
from nbformat.v4 import new_output

from in_process import mlscale
from mlscale_lab import queues, thresholds
from mlscale_lab.teacher.grade import LABS


def answered(
    lab: str, student: str, given: Mapping[str, Any], file: Path, *, saved: bool = True
) -> nbformat.NotebookNode:
    """A lab as it is handed in. ``given``: by question. ``saved``: with the outputs of its checks."""
    lesson = {"lab_1_queues": queues, "lab_2_thresholds": thresholds}[lab]
    check = lesson.checks(student)
    notebook = nbformat.read(NOTEBOOKS / f"{lab}.ipynb", as_version=4)
    for cell in notebook.cells:
        cell.source = cell.source.replace("student = None", f"student = {student!r}")
        for name, answer in given.items():
            if f'check("{name}"' in cell.source:
                cell.source = cell.source.replace("= None", f"= {answer!r}")
                data = check(name, answer)._repr_mimebundle_()
                cell.outputs = [new_output("execute_result", data=data, execution_count=1)] if saved else []
    nbformat.write(notebook, file)
    return notebook


def own_of(student: str) -> dict[str, float]:
    own = queues.own_numbers(student)
    return {
        "own_mean": own["service_s"] / (1 - own["load"]),
        "own_inside": own["load"] / (1 - own["load"]),
        "own_closed": own["clients"] * own["service_s"] - own["think_s"],
    }


RIGHT = {
    "capacity": 20, "mean_at_80": 0.25, "tail_80_to_95": 4, "inside_at_80": 4.0, "constant_at_80": 0.15,
    "shared_queue": 1.8, "closed_loop": 0.6, "replicas": 5,
}  # fmt: skip


@pytest.fixture
def handed_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "handed-in"
    (folder / "late").mkdir(parents=True)
    answered("lab_1_queues", "Ada Lovelace", {**RIGHT, **own_of("Ada Lovelace")}, folder / "ada.ipynb")
    (tmp_path / "queues.answers.json").unlink()
    slips = {**RIGHT, "mean_at_80": 250, "replicas": 9, **own_of("Ada Lovelace")}  # ms; too many; a neighbour's numbers
    answered("lab_1_queues", "4711", slips, folder / "slips.ipynb")
    (tmp_path / "queues.answers.json").unlink()
    answered("lab_1_queues", "Grace", {"capacity": 20, "mean_at_80": 0.25}, folder / "cleared.ipynb", saved=False)
    (tmp_path / "queues.answers.json").unlink()
    copy = answered("lab_1_queues", "Ada Lovelace", {**RIGHT, **own_of("Ada Lovelace")}, folder / "copied.ipynb")
    for cell in copy.cells:
        cell.source = cell.source.replace("'Ada Lovelace'", "'Mallory'")
    nbformat.write(copy, folder / "copied.ipynb")
    late = {"hpa_at_90": 6, "hpa_at_54": 4, "most_changes": "A", "settings": {"min_replicas": 2}}
    answered("lab_2_thresholds", "Ada Lovelace", late, folder / "late/ada2.ipynb")
    (folder / "broken.ipynb").write_text("{")
    answered("lab_1_queues", "nobody", {}, folder / "nameless.ipynb")
    nameless = nbformat.read(folder / "nameless.ipynb", as_version=4)
    nameless.cells[1].source = nameless.cells[1].source.replace("'nobody'", "None")
    nbformat.write(nameless, folder / "nameless.ipynb")
    return folder


def table(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as lines:
        return {row["id"]: row for row in csv.DictReader(lines)}


def test_typical_notebooks_are_graded_into_one_csv(handed_in: Path) -> None:
    done = mlscale("lab", "grade", str(handed_in), "--out", "grades.csv")
    assert done.returncode == 0, done.stderr
    rows = table(Path("grades.csv"))
    assert set(rows) == {"ada lovelace", "4711", "grace", "mallory"}
    questions = [name for name in next(iter(rows.values())) if name.startswith("lab_1.")]
    assert len(questions) == 11
    assert {rows["ada lovelace"][name] for name in questions} == {"1"}
    assert rows["ada lovelace"]["total"] == str(11 + 4)
    wrong = {name for name in questions if rows["4711"][name] == "0"}
    assert {"lab_1.mean_at_80", "lab_1.replicas"} < wrong
    assert "lab_1.own_mean" in wrong or queues.own_numbers("4711")["load"] == queues.own_numbers("Ada Lovelace")["load"]
    assert rows["grace"]["total"] == "2"
    assert rows["mallory"]["total"] == "0"
    assert rows["grace"]["lab_2.hpa_at_90"] == "", "not handed in"
    lines = done.stderr.splitlines()
    for file, said in [
        ("broken.ipynb", "not a notebook that can be read"),
        ("nameless.ipynb", "no name"),
        ("cleared.ipynb", "cells were not run or cleared"),
        ("copied.ipynb", "answered under another name"),
    ]:
        assert any(file in line and said in line for line in lines), (file, lines)
    assert len(lines) == 4


def test_answers_after_the_deadline_get_no_point(handed_in: Path) -> None:
    mlscale("lab", "grade", str(handed_in), "--out", "grades.csv", "--deadline", "2020-01-15T12:00")
    row = table(Path("grades.csv"))["ada lovelace"]
    assert (row["late"], row["total"]) == ("15", "0")
    mlscale("lab", "grade", str(handed_in), "--out", "grades.csv", "--deadline", "2120-01-15T12:00")
    row = table(Path("grades.csv"))["ada lovelace"]
    assert (row["late"], row["total"]) == ("0", "15")
    refused = mlscale("lab", "grade", str(handed_in), "--out", "grades.csv", "--deadline", "tomorrow")
    assert refused.returncode == 2
    assert "write it like 2027-01-15T12:00" in refused.stderr


def test_predictions_and_explanations_are_to_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check = queues.checks("Ada")
    check("mean_at_80", 0.1)
    check.predicted("mean_at_80")
    notebook = answered("lab_1_queues", "Ada", {"mean_at_80": 0.25}, tmp_path / "ada.ipynb")
    (cell,) = (cell for cell in notebook.cells if 'check.explain("growth"' in cell.source)
    data = check.explain("growth", "What is left, shrinks.")._repr_mimebundle_()
    cell.outputs = [new_output("execute_result", data=data, execution_count=2)]
    nbformat.write(notebook, tmp_path / "ada.ipynb")
    mlscale("lab", "grade", ".", "--out", "grades.csv")
    with Path("grades.texts.csv").open(newline="") as lines:
        rows = [tuple(row.values()) for row in csv.DictReader(lines)]
    assert ("ada", "lab_1", "mean_at_80", "prediction", "0.1") in rows
    assert ("ada", "lab_1", "growth", "text", "What is left, shrinks.") in rows


def test_a_folder_without_notebooks_is_refused(tmp_path: Path) -> None:
    refused = mlscale("lab", "grade", str(tmp_path), "--out", str(tmp_path / "grades.csv"))
    assert refused.returncode == 2
    assert "no notebooks" in refused.stderr
    assert not (tmp_path / "grades.csv").exists()


def test_every_lab_can_be_graded() -> None:
    assert [f"lab_{number}_{lesson}" for lesson, number in LABS.items()] == sorted(
        file.stem for file in NOTEBOOKS.glob("lab_*.ipynb")
    )
