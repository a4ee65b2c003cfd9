"""Load from the machines of a Ray cluster: each worker is an actor there that runs `mlscale.loadgen.remote_job`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import psutil

import mlscale
from mlscale.errors import MlscaleError
from mlscale.loadgen import remote
from mlscale.loadgen.ray_cluster import connected
from mlscale.loadgen.remote_job import BODIES
from mlscale.runs.info import ClockOffset

# From a job's start until it can send, s: interpreter and imports, on a machine that does something else as well.
LEAD_S: Final = 8.0
_ANSWER_S: Final = 60.0
_POLL_S: Final = 0.25
# When the comparison of two clocks ends: so many round trips, so long, or one so fast.
_PINGS: Final = 200
_PINGS_S: Final = 2.0
_FAST_S: Final = 0.001
_FOLDER: Final = "mlscale-load-"


class Sender:
    """The actor. Its calls return at once, so that the clock can be read at any time."""

    def __init__(self) -> None:
        _remove_stale_folders()
        self._folder = TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-")
        self._bodies = Path(self._folder.name, "bodies")
        self._bodies.mkdir()
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._ended = threading.Event()

    def machine(self) -> str:
        from ray.util import get_node_ip_address

        return f"{socket.gethostname()} ({get_node_ip_address()})"

    def receive(self, files: Mapping[str, bytes]) -> None:
        for name, content in files.items():
            (self._bodies / name).write_bytes(content)

    def now(self) -> float:
        return time.time()

    def start(self, environment: Mapping[str, str]) -> None:
        argv = [sys.executable, "-P", "-m", "mlscale.loadgen.remote_job"]
        variables = {**os.environ, **environment, BODIES: str(self._bodies), "TMPDIR": self._folder.name}
        self._process = subprocess.Popen(argv, env=variables, stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self._read, args=(self._process,), daemon=True).start()

    def new_lines(self) -> tuple[list[str], bool]:
        """Output since the last call, and whether that was all."""
        ended = self._ended.is_set()
        lines, self._lines = self._lines, []
        return lines, ended

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def close(self) -> None:
        self._folder.cleanup()

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.append(line.rstrip("\n"))
        process.wait()
        self._ended.set()


def _remove_stale_folders() -> None:
    """Remove folders of killed actors: Ray kills actors and their children when the command that they serve ends."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER}*-*"):
        pid = folder.name.removeprefix(_FOLDER).partition("-")[0]
        if pid.isdigit() and not psutil.pid_exists(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)


def prefix(address: str, node_id: str = "", working_dir: str = "") -> list[str]:
    """argv of the stand-in for a load worker on the cluster at ``address`` (see `LoadProcess.start` and `RayJob`)."""
    return remote.prefix(f"{__name__}:RayJob", LEAD_S, address=address, node_id=node_id, working_dir=working_dir)


class RayJob:
    """See `mlscale.loadgen.remote.RemoteJob`. mlscale itself travels with it; what mlscale imports must be there.

    Args:
        address: see `connected`.
        node_id: of the node that sends; empty: Ray spreads the jobs.
        working_dir: URI of a zip that the node fetches; empty: none.
    """

    warms_up = False

    def __init__(self, address: str, node_id: str, working_dir: str) -> None:
        # The jobs of a load test share one schedule; the times of a run's load only meet those of observations.
        self.clock_within_s = 0.02 if node_id else 0.002
        package = str(Path(mlscale.__file__).parent)
        runtime_env = {"py_modules": [package], "excludes": ["__pycache__"]}
        self._machine = f"Ray at {address}"
        self._ray = connected(address, {**runtime_env, **({"working_dir": working_dir} if working_dir else {})})
        strategies = self._ray.util.scheduling_strategies
        strategy = strategies.NodeAffinitySchedulingStrategy(node_id, soft=False) if node_id else "SPREAD"
        self._sender = self._ray.remote(num_cpus=1, scheduling_strategy=strategy)(Sender).remote()
        self._machine = self._answer(self._sender.machine)

    def send_bodies(self, bodies: Path) -> None:
        """Raises MlscaleError: the actor is lost."""
        paths = sorted(bodies.iterdir()) if bodies.is_dir() else [bodies]
        self._answer(self._sender.receive, {path.name: path.read_bytes() for path in paths if path.is_file()})

    def clock(self) -> ClockOffset:
        """From the fastest of some round trips, as NTP does: the other clock was read between request and answer."""
        fastest_s, ahead_s, until_s = float("inf"), 0.0, time.monotonic() + _PINGS_S
        for _ in range(_PINGS):
            sent, there, received = time.time(), self._answer(self._sender.now), time.time()
            if received - sent < fastest_s:
                fastest_s, ahead_s = received - sent, there - (sent + received) / 2
            if fastest_s < _FAST_S or time.monotonic() > until_s:
                break
        return ClockOffset(machine=self._machine, ahead_s=ahead_s, within_s=fastest_s / 2)

    def start(self, environment: Mapping[str, str]) -> None:
        """Raises MlscaleError: the actor is lost."""
        self._answer(self._sender.start, dict(environment))

    def lines(self) -> Iterator[str]:
        """Raises MlscaleError: the actor is lost."""
        ended = False
        try:
            while not ended:
                lines, ended = self._answer(self._sender.new_lines)
                yield from lines
                time.sleep(0.0 if ended else _POLL_S)
        finally:
            self._answer(self._sender.close)

    def stop(self) -> None:
        """SIGTERM to the job; it still reports what it sent."""
        self._answer(self._sender.stop)

    def _answer(self, method: Any, *arguments: Any) -> Any:
        try:
            return self._ray.get(method.remote(*arguments), timeout=_ANSWER_S)
        except self._ray.exceptions.GetTimeoutError as error:
            what = f"the load worker does not answer for {_ANSWER_S:g} s"
            raise MlscaleError(what, self._machine, "see whether one CPU is free there (ray status)") from error
        except self._ray.exceptions.RayError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MlscaleError(f"the load worker is lost: {reason}", self._machine, "see Ray's log there") from error
