"""A real build by the real compiler: several programs of one module, kept alone, and never twice."""

from __future__ import annotations

import io
import subprocess
from pathlib import Path

import pytest

from onenode.cache import Cache
from onenode.gobuild import build_modules, module_folder
from onenode.progress import Reporter

pytestmark = pytest.mark.live

PROGRAM = 'package main\n\nvar said = "{0}"\n\nfunc main() {{ println(said) }}\n'


def test_a_module_s_programs_are_built_once_and_nothing_else_is_kept(tmp_path: Path) -> None:
    source, cache, out = tmp_path / "things", Cache(tmp_path / "cache"), io.StringIO()
    for name in ("one", "two"):
        (source / name).mkdir(parents=True)
        (source / name / "main.go").write_text(PROGRAM.format(name))
    (source / "go.mod").write_text(
        "module example.org/things\n\ngo 1.24.0\n\ntool (\n\texample.org/things/one\n\texample.org/things/two\n)\n"
    )
    with cache.locked():
        build_modules(cache, [source], Reporter(out))
    folder = module_folder(cache, source)
    assert sorted(file.name for file in folder.iterdir()) == ["one", "two"]
    for name in ("one", "two"):
        done = subprocess.run([folder / name], capture_output=True, text=True, check=True)
        assert done.stderr == f"{name}\n"
    assert sorted(path.name for path in cache.root.iterdir()) == sorted([folder.name, "lock"])
    assert "things: built" in out.getvalue()
    (source / "one/main.go").write_text("no program any more")  # only go.mod, go.sum and the top's files are the recipe
    before = out.getvalue()
    with cache.locked():
        build_modules(cache, [source], Reporter(out))
    assert out.getvalue() == before
