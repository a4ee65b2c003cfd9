"""``mlscale new-app``: what it writes works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlscale.commands.new_app import new_app
from mlscale.loadgen.bodies import BodySet, load_check
from mlscale.runs import MlscaleError


def test_the_skeleton_s_own_test_passes_and_its_files_can_be_sent(tmp_path: Path) -> None:
    folder = new_app("my_model", tmp_path)
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "4 passed" in done.stdout
    bodies = BodySet.read(folder / "bodies")
    assert len(bodies) == 3
    assert load_check(None, bodies.labels) is not None
    assert "--app my_model.model:make" in (folder / "README.md").read_text()


@pytest.mark.parametrize("name", ["1st", "my-model", "class", "a/b", ""])
def test_a_name_that_python_can_not_import(tmp_path: Path, name: str) -> None:
    with pytest.raises(MlscaleError, match="Python can import"):
        new_app(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["numpy", "json", "mlscale"])
def test_a_name_that_would_shadow_an_installed_module(tmp_path: Path, name: str) -> None:
    with pytest.raises(MlscaleError, match=f"{name}: a module of that name is installed"):
        new_app(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with pytest.raises(MlscaleError, match="exists already"):
        new_app("mine", tmp_path)
