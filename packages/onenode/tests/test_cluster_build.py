"""What is pinned, what is cached, and what the distribution has to bring."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlscale.runs import MlscaleError
from onenode import gobuild, packages
from onenode.cache import Cache
from onenode.gobuild import build_modules, module_folder
from onenode.gomodule import parse_module, parse_version, version_flags
from onenode.programs import sources
from onenode.progress import Reporter

KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet")


def test_the_pinned_modules() -> None:
    module = parse_module((sources() / "kubernetes/go.mod").read_text())
    assert {tool.rpartition("/")[2] for tool in module.tools} == set(KUBERNETES)
    assert module.versions["k8s.io/kubernetes"].startswith("v1.34.")
    assert f"gitVersion={module.versions['k8s.io/kubernetes']}" in version_flags(module)
    metrics = parse_module((sources() / "metrics-server/go.mod").read_text())
    assert metrics.tools == ("sigs.k8s.io/metrics-server/cmd/metrics-server",)
    assert version_flags(metrics) == ""
    keda = parse_module((sources() / "keda/go.mod").read_text())
    assert keda.folder_of == "github.com/kedacore/keda/v2"
    version = keda.versions[keda.folder_of]
    assert version_flags(keda).endswith(f"version.Version={version.removeprefix('v')}")
    registered = json.loads((sources() / "manifests/keda.json").read_text())[-1]["metadata"]["labels"]
    assert registered["app.kubernetes.io/version"] == version.removeprefix("v"), "what run.json names"


def test_a_module_without_a_go_version_is_broken() -> None:
    with pytest.raises(MlscaleError, match=r"go\.mod"):
        parse_module("module x\n")


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.24.4", (1, 24, 4)), ("go1.26.8 linux/amd64", (1, 26, 8)), ("1.24", (1, 24)), ("none here", ())],
)
def test_versions(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


def test_another_pin_is_another_folder(tmp_path: Path) -> None:
    cache, source = Cache(tmp_path / "cache"), tmp_path / "thing"
    source.mkdir()
    (source / "go.mod").write_text("module x\n\ngo 1.24.0\n")
    first = module_folder(cache, source)
    (source / "README").write_text("no part of it")
    assert module_folder(cache, source) == first
    (source / "go.mod").write_text("module x\n\ngo 1.24.1\n")
    assert module_folder(cache, source) != first


def test_a_recipe_s_parts_do_not_run_together(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    assert cache.folder("x", "ab", "c") != cache.folder("x", "a", "bc")


def test_what_is_made_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folder = cache.folder("x", "1")
    with pytest.raises(IsADirectoryError), cache.creating(folder) as partial:
        partial.write_text("a folder is no file")
    assert list(tmp_path.iterdir()) == []
    with cache.creating(folder) as partial:
        (partial / "all").touch()
    assert [file.name for file in folder.iterdir()] == ["all"]


def test_what_a_killed_maker_left_is_swept_away(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    folder = cache.folder("x", "1")
    left = folder.with_name(f"{folder.name}.partial")
    left.mkdir()
    (left / "torn").touch()
    with cache.creating(folder) as partial:
        assert list(partial.iterdir()) == []


def test_a_program_that_does_not_build_is_named_with_the_compiler_s_words(tmp_path: Path) -> None:
    cache, source = Cache(tmp_path / "cache"), tmp_path / "thing"
    source.mkdir()
    (source / "go.mod").write_text("module thing\n\ngo 1.20\n")
    (source / "main.go").write_text('package main\n\nimport _ "missing.invalid/module"\n\nfunc main() {}\n')
    with cache.locked(), pytest.raises(MlscaleError, match=r"missing\.invalid/module") as caught:
        build_modules(cache, [source], Reporter(io.StringIO()))
    assert caught.value.where == "thing"
    assert not module_folder(cache, source).exists()


def test_too_little_room_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gobuild, "_MIN_FREE_GB", 1e9)
    with pytest.raises(MlscaleError, match="make room"):
        build_modules(Cache(tmp_path), [sources() / "pause"], Reporter(io.StringIO()))


def test_a_build_ends_with_the_command_that_asked_for_it(tmp_path: Path) -> None:
    code = (
        "import subprocess, time; from onenode.cache import die_with_parent; "
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=die_with_parent); print(child.pid, flush=True); "
        "time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(parent.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not Path(f"/proc/{child}").exists()


def test_programs_missing_and_no_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(packages, "_SBIN", str(tmp_path))
    monkeypatch.setattr(packages, "_PLUGIN_PLACES", ())
    assert {package.name for package in packages.missing_packages()} == {
        *(package.name for package in packages.PACKAGES),
        packages.PLUGINS.name,
    }
    with pytest.raises(MlscaleError, match=r"no apt-get: missing: etcd"):
        packages.find_programs(Cache(tmp_path / "cache"), Reporter(io.StringIO()))


def test_the_time_left_follows_from_what_is_done() -> None:
    now_s, out = [0.0], io.StringIO()
    reporter = Reporter(out, lambda: now_s[0])
    reporter.say("compiling")
    now_s[0] = 5.0
    reporter.count("it", 5, 100)
    now_s[0] = 20.0
    reporter.count("it", 20, 100)
    assert out.getvalue().splitlines() == ["cluster: compiling", "cluster: it: 20 of 100, about 80 s left"]
