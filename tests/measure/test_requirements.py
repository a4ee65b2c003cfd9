"""Packages that mlscale does not have, in a folder of their own."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

from foreign_package import require_foreign_package
from mlscale.measurement.requirements import use_requirements
from mlscale.runs import MlscaleError


@pytest.fixture(autouse=True)
def _own_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", "")
    monkeypatch.setattr(sys, "path", [*sys.path])


def test_a_package_is_installed_once_and_importable_here_and_in_children(tmp_path: Path) -> None:
    file = require_foreign_package(tmp_path)
    folder = use_requirements(file)
    assert importlib.util.find_spec("wholly_unknown") is not None
    assert str(folder) in os.environ["PYTHONPATH"].split(os.pathsep)
    (tmp_path / "package/backend.py").write_text("raise RuntimeError('built again')")
    assert use_requirements(file) == folder
    assert [each.name for each in (tmp_path / "cache/mlscale/requirements").iterdir()] == [folder.name]


def test_what_can_not_be_installed_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="name a file in pip's format"):
        use_requirements(tmp_path / "none.txt")
    (tmp_path / "requirements.txt").write_text("numpy==1.0\n")
    with pytest.raises(MlscaleError, match=r"can't be installed: .*numpy") as caught:
        use_requirements(tmp_path / "requirements.txt")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "cache/mlscale/requirements").iterdir()) == []
