"""A stopped experiment leaves the notebook's kernel the time to clean up, and no kernel behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest

from mlscale.host.processes import process_start
from mlscale_experiment.notebook_execution import TEARDOWN_S, execute

CELL = """
import os, pathlib, threading
folder = pathlib.Path(where)
try:
    (folder / "kernel.partial").write_text(str(os.getpid()))
    (folder / "kernel.partial").rename(folder / "kernel")
    threading.Event().wait(300)
finally:
    threading.Event().wait(4)  # a teardown that takes longer than the half of Jupyter's own 5 s
    (folder / "torn-down").write_text("")
"""

RUNNER = """
import signal, sys
from pathlib import Path
from mlscale_experiment.notebook_execution import execute

def ended(signum, frame):
    raise SystemExit(128 + signum)

signal.signal(signal.SIGTERM, ended)
folder = Path(sys.argv[1])
execute(folder / "some.ipynb", folder / "out.ipynb", {"where": str(folder)}, timeout_s=300)
"""


def wait_for(file: Path, process: subprocess.Popen[bytes]) -> None:
    end_s = time.monotonic() + 240
    while not file.exists():
        assert process.poll() is None, "it ended before it came that far"
        assert time.monotonic() < end_s, f"waited 240 s for {file.name}"
        time.sleep(0.02)


def write(cell: str, file: Path) -> None:
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell("where = ''"), nbformat.v4.new_code_cell(cell)]
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "language": "python", "display_name": "Python 3"}
    nbformat.write(made, file)


def test_a_kernel_that_has_nothing_to_do_is_not_waited_for(tmp_path: Path) -> None:
    """This one does not go by itself: a thread of its own never ends."""
    write("import threading\nthreading.Thread(target=threading.Event().wait).start()", tmp_path / "some.ipynb")
    began_s = time.monotonic()
    execute(tmp_path / "some.ipynb", tmp_path / "out.ipynb", {}, timeout_s=60)
    assert time.monotonic() - began_s < TEARDOWN_S / 2, "that long only where a cell was interrupted"


Stopped = dict[signal.Signals, Future[tuple[Path, int]]]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stopped]:
    """A run stopped by each signal, all at once: they mostly wait."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
    with ThreadPoolExecutor() as pool:
        yield {signum: pool.submit(stop, tmp_path_factory.mktemp(signum.name), signum) for signum in signals}


def stop(folder: Path, signum: signal.Signals) -> tuple[Path, int]:
    """The folder of a stopped run, and its exit code."""
    write(CELL, folder / "some.ipynb")
    process = subprocess.Popen([sys.executable, "-c", RUNNER, str(folder)], stderr=subprocess.PIPE)
    assert process.stderr is not None
    with process, process.stderr:
        try:
            wait_for(folder / "kernel", process)
            process.send_signal(signum)
            return folder, process.wait(240)
        finally:
            process.kill()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_kernel_is_interrupted_and_waited_for(stopped: Stopped, signum: signal.Signals) -> None:
    folder, code = stopped[signum].result()
    assert code != 0
    kernel = int((folder / "kernel").read_text())
    assert (folder / "out.kernel.json").exists() == (signum == signal.SIGKILL), "nothing in the temporary folder"
    if signum != signal.SIGKILL:
        assert (folder / "torn-down").exists()
        assert not process_start(kernel)
    deadline_s = time.monotonic() + 60
    while process_start(kernel):
        assert time.monotonic() < deadline_s, "a killed runner's kernel has to notice by itself"
        time.sleep(0.05)
