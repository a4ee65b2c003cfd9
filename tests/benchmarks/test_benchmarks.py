"""Every benchmark runs to its end with tiny sizes; those that take longer than seconds do so under ``make proof``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from onenode.layout import default_layout
from onenode.settings import extras
from onenode.status import read_status

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Name -> arguments; {tmp}: a folder of the test's own.
SECONDS = {
    "certainty": "--photos 1",
    "coldstart": "--rounds 1 --sizes 1",
    "decode": "--photos 1",
    "dismissal": "--photos 1",
    "load": "--rates 20 --seconds 0.5 --rounds 1 --peers sleep",
    "twin": "--requests 1e4 --repeats 1",
}
MINUTES = {
    "advise": "--traces spikes",
    "advise_exhaustion": "--traces flat --settings 30",
    "control_loops": "--rounds 1 --out {tmp}",
    "host_speed": "--environments k3s --draws 1",
    "machines": "--counts 0 1 --seconds 1",
    "overhead": "--rounds 1",
    "ray_start": "--pairs 1 --quick --out {tmp}",
    "sandbox_redraw": "--environments torchserve --moves 2",
}
# Run by another benchmark: load.py, with Locust.
NOT_COMMANDS = {"load_locust"}


def missing(name: str) -> str:
    """What this machine lacks for the benchmark, and the command that brings it; "" if nothing."""
    if name == "load" and shutil.which("go") is None:
        return "Go is not installed: https://go.dev/dl"
    if name == "sandbox_redraw" and not (shutil.which("chromium") or shutil.which("google-chrome")):
        return "no Chromium: apt-get install chromium"
    if name == "sandbox_redraw" and find_spec("playwright") is None:
        return "playwright is not installed: make bench-extra"
    if name == "machines" and not (read_status(default_layout()).whole and extras(default_layout().settings).machines):
        return "no cluster with machines is running: make cluster MACHINES=1"
    return ""


@pytest.mark.parametrize("name", [*SECONDS, *(pytest.param(name, marks=pytest.mark.proof) for name in MINUTES)])
def test_a_benchmark_runs_to_its_end(name: str, tmp_path: Path) -> None:
    if lacks := missing(name):
        pytest.skip(lacks)
    arguments = (SECONDS | MINUTES)[name].format(tmp=tmp_path / "out").split()
    program = str(BENCHMARKS / f"{name}.py")
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout


def test_every_benchmark_is_run() -> None:
    assert {path.stem for path in BENCHMARKS.glob("*.py")} == {*SECONDS, *MINUTES, *NOT_COMMANDS}
