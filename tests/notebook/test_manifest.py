"""The manifest tells what a figure shows; another number in it is noticed."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from mlscale.notebook.manifest import Simulated, plotted_numbers, read_manifest, save_figure, tree
from mlscale.runs import MlscaleError

mpl.use("Agg")


def drawn(shift: float = 0.0) -> Figure:
    figure = Figure()
    axes = figure.subplots(1, 2)
    x = np.arange(5.0)
    axes[0].plot(x, x**2 + shift, label="line")
    axes[0].fill_between(x, x, x + 1)
    axes[0].scatter(x, -x)
    axes[1].bar(x, x + 1)
    axes[1].errorbar(x, x, yerr=0.5)
    axes[1].text(0, 0, "p = 0.03")
    axes[1].plot(x, np.full(5, np.nan))
    return figure


def test_the_same_figure_has_the_same_numbers_and_another_has_others() -> None:
    assert plotted_numbers(drawn()) == plotted_numbers(drawn())
    assert plotted_numbers(drawn()) != plotted_numbers(drawn(0.01))


def test_numbers_are_those_that_were_plotted() -> None:
    numbers = plotted_numbers(drawn())["axes0"]
    assert numbers["lines"] == {"n": 5, "x": 10.0, "y": 30.0}
    assert numbers["points"]["y"] == pytest.approx(-10.0)
    assert plotted_numbers(drawn())["axes1"]["texts"] == ["p = 0.03"]


def test_a_figure_is_written_with_its_entry(tmp_path: Path) -> None:
    folder = tmp_path / "figures"
    save_figure(drawn(), "one", folder, notebook="02", runs=[], seed=3)
    save_figure(drawn(), "two", folder, notebook="02", runs=[], seed=3, note="quick")
    assert sorted(file.name for file in folder.iterdir()) == [
        "manifest.json",
        *(f"{name}.{kind}" for name in ("one", "two") for kind in ("pdf", "png")),
    ]
    entries = read_manifest(folder)
    assert entries["one"]["numbers"] == json.loads(json.dumps(plotted_numbers(drawn())))
    assert entries["one"]["seed"] == 3
    assert entries["two"]["note"] == "quick"
    assert entries["one"]["tree"]["sha256"] == tree()["sha256"]


def test_what_is_simulated_beside_runs_or_without_any_is_named(tmp_path: Path) -> None:
    record = Simulated("data/reference/claims.json", 20, "ab" * 32)
    save_figure(drawn(), "one", tmp_path, notebook="07", runs=[], seed=0, simulated=record)
    entry = read_manifest(tmp_path)["one"]
    assert entry["simulated"] == {"what": "data/reference/claims.json", "draws": 20, "sha256": "ab" * 32}
    assert entry["modes"] == ["simulated"]
    assert record.sentence.endswith("data/reference/claims.json (20 draws of each, sha256 abababababab)")


def test_without_a_folder_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    figure = drawn()
    assert save_figure(figure, "one", None, notebook="02", runs=[], seed=0) is figure
    assert list(tmp_path.iterdir()) == []


def test_a_broken_manifest_or_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(MlscaleError, match=r"manifest\.json: broken"):
        read_manifest(tmp_path)
    with pytest.raises(MlscaleError, match="make room there"):
        save_figure(drawn(), "one", tmp_path / "manifest.json" / "below", notebook="02", runs=[], seed=0)
