"""The notebooks of environments and comparison: clean, checked, and drawn from runs without measuring anything."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nbformat
import pytest

from mlscale.notebook.manifest import read_manifest
from mlscale.notebook.parameters import (
    CompareParameters,
    EcsParameters,
    KubernetesParameters,
    MeasureParameters,
    PartitionParameters,
    RehearsalParameters,
    StrategyParameters,
    TwinParameters,
    declared,
)
from mlscale.notebook.study import Study
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, Run
from mlscale_experiment.notebook_execution import NotebookFailed, execute
from mlscale_paper import places
from mlscale_paper.drawing import COMPARE
from mlscale_paper.openings import OPENINGS
from mlscale_paper.results import RESULTS
from mlscale_twin.simulate import SimulateOptions, simulate
from synthetic_runs import Shape, make_experiment

NOTEBOOKS = sorted(places.notebooks().glob("*.ipynb"))
MODELS = {
    "02_torchserve": MeasureParameters,
    "03_rayserve": MeasureParameters,
    "04_k3s": KubernetesParameters,
    "05_ecs": EcsParameters,
    "06_eks": RehearsalParameters,
    "07_compare": CompareParameters,
    "07b_referee": CompareParameters,
    "08_partition": PartitionParameters,
    "09_twin": TwinParameters,
    "10_strategy": StrategyParameters,
}
STEP = ClosedLoop(
    duration_s=200.0,
    stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=60, clients=14)),
    think_mean_s=0.76,
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    shapes = {"torchserve": Shape(), "rayserve": Shape(service_s=0.13), "k3s": Shape(detection_s=9.0, start_s=20.0)}
    return make_experiment(tmp_path_factory.mktemp("runs"), shapes, blocks=1)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_output_is_committed(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_machinery_and_as_much_prose_as_code(path: Path) -> None:
    cells = nbformat.read(path, as_version=4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    assert not re.search(r"^\s*(def|class|while|try|async) ?", code, re.MULTILINE)
    prose = sum(len(cell.source) for cell in cells if cell.cell_type == "markdown")
    assert prose > len(code)
    assert cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", MODELS)
def test_the_parameters_cell_declares_what_the_notebook_checks(name: str) -> None:
    assert declared(places.notebooks() / f"{name}.ipynb") == set(MODELS[name].model_fields)


def test_each_numbered_notebook_opens_with_three_sentences_and_a_figure() -> None:
    numbered = {path.stem for path in NOTEBOOKS if re.match("0[1-9]|10", path.stem)}
    assert set(OPENINGS) == numbered
    for name in OPENINGS:
        first, second, *_ = nbformat.read(places.notebooks() / f"{name}.ipynb", as_version=4).cells
        sentences = [line for line in first.source.splitlines() if line.startswith("- ")]
        assert len(sentences) == 3
        assert not [line for line in sentences if re.search(r"[a-z)]\. [A-Z]", line.partition("** ")[2])], name
        assert len(re.findall(r'<img src="\.\./figures/\w+\.png" width="\d+" alt="[^"]{20,}">', first.source)) == 1 or (
            second.cell_type == "code" and ".show(" in second.source
        )


def test_one_block_without_a_valid_run_of_one_framework(runs: list[Run], tmp_path: Path) -> None:
    """Figures without p-values; the framework stays in them, and nothing is claimed of it. Nothing is simulated, since
    the application is not the code reader."""
    folders = []
    for run in runs:
        if run.info.aa_label == "B":
            continue
        folder = tmp_path / "runs" / run.info.run_id
        shutil.copytree(run.path, folder)
        info = json.loads((folder / "run.json").read_text()) | {"app": "another"}  # which the twin knows nothing of
        if run.info.environment == "rayserve":
            info["validity"] = {
                "valid": False,
                "host_bound": True,
                "pre_scaled": False,
                "reasons": ["host-bound: 99 %"],
            }
        (folder / "run.json").write_text(json.dumps(info))
        folders.append(str(folder))
    figures = tmp_path / "figures"
    parameters = {"run_dirs": folders, "figures": str(figures), "level_s": 0.6, "p_values": False, "seed": 3}
    for name in COMPARE:
        execute(places.notebooks() / name, tmp_path / name, parameters, timeout_s=300)
        assert "not this application: nothing is simulated here" in (tmp_path / name).read_text()
    entries = read_manifest(figures)
    assert {entry["seed"] for entry in entries.values()} == {3}
    for name in ("trajectory", "estimation", "response", "sigma", "resources"):
        assert any("rayserve" in run_id for run_id in entries[f"compare_{name}"]["runs"]), name
    assert "1 invalid (shown)" in entries["compare_trajectory"]["note"]
    words = entries["compare_estimation"]["numbers"]["axes0"]["texts"]
    assert "not comparable: 1 of 1 run of Ray Serve was invalid" in words
    effects = json.loads((figures / RESULTS).read_text())["effects"]
    assert {effect["verdict"] for effect in effects} == {"too few blocks", "not comparable"}
    assert "compare_five" not in entries
    executed = (tmp_path / COMPARE[0]).read_text()
    assert "No valid run in a block: rayserve. It is shown; nothing may be claimed from it." in executed


def test_runs_of_another_environment_are_refused(runs: list[Run], tmp_path: Path) -> None:
    wanted = [str(run.path) for run in runs if run.info.environment == "rayserve"][:1]
    with pytest.raises(NotebookFailed, match="includes runs of rayserve"):
        execute(places.notebooks() / "02_torchserve.ipynb", tmp_path / "out.ipynb", {"run_dirs": wanted}, timeout_s=300)


def test_without_a_cluster_published_runs_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    said: list[str] = []
    monkeypatch.setattr("mlscale.notebook.study.remark", said.append)
    study = Study("04_k3s", "k3s", {"figures": str(tmp_path / "figures")}, KubernetesParameters)
    study.trajectory()
    assert "these are the published runs, measured elsewhere" in said[0]
    assert all("data/reference/core" in entry["note"] for entry in read_manifest(tmp_path / "figures").values())
    with pytest.raises(MlscaleError, match="no kubeconfig"):  # asked for anything else, it says what is missing
        Study("04_k3s", "k3s", {"arm": "shipped"}, KubernetesParameters)


@pytest.mark.proof
def test_without_a_cluster_the_published_runs_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the whole notebook."""
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    notebook, executed = places.notebooks() / "04_k3s.ipynb", tmp_path / "executed.ipynb"
    execute(notebook, executed, {"figures": str(tmp_path / "figures")}, timeout_s=300)
    assert "these are the published runs, measured elsewhere" in executed.read_text()
    assert all("data/reference/core" in entry["note"] for entry in read_manifest(tmp_path / "figures").values())
    with pytest.raises(NotebookFailed, match="no kubeconfig"):  # asked for anything else, it says what is missing
        execute(notebook, tmp_path / "failed.ipynb", {"arm": "shipped"}, timeout_s=300)


def test_the_twin_is_held_against_runs(tmp_path: Path) -> None:
    """Runs of the twin, taken for live ones: the notebook judges whatever it is given."""
    folders = []
    for seed in range(2):
        run = simulate(
            "torchserve",
            schedule=STEP,
            out=tmp_path / "runs" / str(seed),
            options=SimulateOptions(seed=seed, draw=100 + seed),
        )
        info = json.loads((run.path / "run.json").read_text())
        (run.path / "run.json").write_text(json.dumps({**info, "mode": "live", "cell": "holdout/closed"}))
        folders.append(str(run.path))
    parameters = {"run_dirs": folders, "figures": str(tmp_path / "figures"), "level_s": 0.55, "draws": 2}
    execute(places.notebooks() / "09_twin.ipynb", tmp_path / "executed.ipynb", parameters, timeout_s=300)
    assert set(read_manifest(tmp_path / "figures")) == {"twin_verdicts"}
    assert "the recorded validation is of other runs" in (tmp_path / "executed.ipynb").read_text().lower()
