"""Captions say where the runs lie, and name no folder outside the checkout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from mlscale import figures
from mlscale.notebook.manifest import read_manifest
from mlscale.notebook.show import Figures
from mlscale.runs import Run
from mlscale_paper import places
from synthetic_runs import Shape, make_run


def noted(tmp_path: Path, runs: list[Run]) -> str:
    """The caption of a figure of these runs."""
    figure = Figure()
    Figures("02_torchserve", tmp_path / "figures", 0).show("one", figure.subplots(), runs)
    return str(read_manifest(tmp_path / "figures")["one"]["note"])


def test_runs_are_named_where_they_are_few_else_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [make_run(tmp_path / "mine" / f"run-{seed}", seed=seed, shape=Shape(horizon_s=20.0)) for seed in range(4)]
    assert noted(tmp_path, runs[:2]).endswith("Runs: run-0 and run-1.")
    text = noted(tmp_path, runs)
    assert text.endswith("Runs: mine.")
    assert str(tmp_path) not in text
    monkeypatch.setattr(places, "checkout", lambda: tmp_path)
    assert "Runs: mine." in noted(tmp_path, runs)
    assert "Runs: mine/run-0." in noted(tmp_path, runs[:1])


def test_a_published_figure_embeds_no_type_3_font_and_has_an_alternative_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Publishers refuse Type 3; a reader who sees no pictures gets its headline."""
    shown: list[Any] = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    run = make_run(tmp_path / "run", shape=Shape(horizon_s=20.0))
    Figures("02_torchserve", tmp_path / "figures", 0).show("one", figures.trajectory([run], 0.5), [run])
    pdf = (tmp_path / "figures/one.pdf").read_bytes()
    assert b"/Type3" not in pdf
    assert b"/TrueType" in pdf or b"/Type42" in pdf or b"/CIDFontType2" in pdf
    assert 'alt="Back under L = 0.5 s after the load step: ' in shown[0].data
    line, details = shown[0].data.split("<summary>")[1].split("</summary>")
    assert line == "<em>Live. 1 run in 1 block.</em>"
    assert f"Application: {run.info.app}" in details
    assert f"Application: {run.info.app}" in read_manifest(tmp_path / "figures")["one"]["note"]


def test_runs_in_memory_are_counted(tmp_path: Path) -> None:
    run = make_run(tmp_path / "mine" / "run", shape=Shape(horizon_s=20.0))
    drawn = Run.in_memory(run.info.model_copy(update={"run_id": "drawn"}), {"requests": run.requests})
    assert noted(tmp_path, [run, drawn]).endswith("Runs: run (1) and 1 simulated for this figure.")
    assert noted(tmp_path, [drawn]).endswith("Runs: 1 simulated for this figure.")
