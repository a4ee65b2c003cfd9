"""A student's copy: the archive has no answers, is small, and installs and runs without a network."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import nbformat
import pytest
from lab_notebooks import NOTEBOOKS, answers, filled_in

from mlscale_lab.teacher import pack

MOST_MB = 700  # of the archive: without torch and ray


def test_a_wheel_of_the_lab_has_no_answers_and_explains_missing_names(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(build, cwd=NOTEBOOKS.parent / "packages/lab", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "mlscale_lab/checks.py" in names
    assert not [name for name in names if "teacher" in name or "solutions" in name]
    assert [name for name in names if name.endswith("etc/ipython/ipython_kernel_config.py")]


def test_the_labs_of_a_copy_need_no_package_that_it_lacks() -> None:
    labs = pack._labs()
    assert len([name for name in labs if name.endswith(".ipynb")]) == 5
    for name, text in labs.items():
        if name.endswith(".ipynb"):
            notebook = nbformat.reads(text, as_version=4)
            nbformat.validate(notebook)
            code = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "code")
            assert "mlscale_paper" not in code
            assert "ray_start" not in code
    assert "The published numbers of Ray Serve are known to be too large" in labs["lab_5_comparison.ipynb"]


@pytest.mark.proof
@pytest.mark.timeout(1800)
def test_a_copy_installs_and_runs_without_a_network(tmp_path: Path) -> None:
    archive = tmp_path / "labs.zip"
    assert pack.pack(archive) < MOST_MB * 1e6
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(tmp_path)
        wheel = next(packed.read(name) for name in packed.namelist() if name.startswith("wheels/mlscale_lab"))
    assert not [name for name in zipfile.ZipFile(io.BytesIO(wheel)).namelist() if "teacher" in name]
    venv.create(tmp_path / "env", with_pip=True)
    python = str(tmp_path / "env/bin/python")
    alone = ["unshare", "--net", "--map-root-user"] if shutil.which("unshare") else []
    run(
        [*alone, python, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", "wheels", "mlscale-lab"],
        tmp_path,
    )
    said = run([str(tmp_path / "env/bin/mlscale"), "lab", "grade", ".", "--out", "grades.csv"], tmp_path, expected=2)
    assert "a student's copy can't do that" in said
    for lab in ("lab_1_queues", "lab_5_comparison"):
        file = tmp_path / "labs" / f"{lab}.ipynb"
        nbformat.write(filled_in(nbformat.read(file, as_version=4), answers(lab)), file)
        execute = ["-m", "nbconvert", "--execute", "--to", "notebook", "--inplace", file.name]
        run([python, *execute], tmp_path / "labs")  # a kernel needs the loopback interface
        outputs = [output for cell in nbformat.read(file, as_version=4).cells for output in cell.get("outputs", ())]
        verdicts = [
            output.data["text/plain"]
            for output in outputs
            if "application/vnd.mlscale.answer+json" in output.get("data", {})
        ]
        assert len(verdicts) >= 8
        kept = json.loads((tmp_path / "labs" / f"{lab.split('_', 2)[2]}.answers.json").read_text())["answers"]
        assert not [name for name, answer in kept.items() if answer["right"] is False]


def run(words: list[str], folder: Path, expected: int = 0) -> str:
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == expected, done.stderr[-2000:]
    return done.stdout + done.stderr
