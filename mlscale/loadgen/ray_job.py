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

from mlscale.errors import MlscaleError
from mlscale.loadgen import remote
from mlscale.loadgen.ray_cluster import connected
from mlscale.loadgen.remote_job import BODIES
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs.info import ClockOffset

# From a job's start until it can send, s: interpreter and imports, on a machine that does something else as well.
LEAD_S: Final = 8.0
_ANSWER_S: Final = 60.0
_POLL_S: Final = 0.25
_PINGS: Final = 200
_FOLDER: Final = "mlscale-load-"


class Sender:
    """The actor. Its calls return at once, so that the clock can be read at any time."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        _remove_stale_folders()
        self._folder = TemporaryDirectory(prefix=f"{_FOLDER}{os.getpid()}-")
        self._bodies = Path(self._folder.name, "bodies")
        self._bodies.mkdir()
        for name, content in files.items():
            (self._bodies / name).write_bytes(content)
        self._process: subprocess.Popen[str] | None = None
        self._lines: list[str] = []
        self._ended = threading.Event()

    def machine(self) -> str:
        return socket.gethostname()

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


def prefix(load: LoadSpec) -> list[str]:
    """argv of the stand-in for a load worker on the cluster at ``load.ray`` (see `LoadProcess.start`)."""
    bodies = None if load.bodies is None else str(load.bodies)
    return remote.prefix(f"{__name__}:RayJob", LEAD_S, address=load.ray, bodies=bodies)


class RayJob:
    """See `mlscale.loadgen.remote.RemoteJob`. ``bodies``: folder or file to send a copy of, or None."""

    warms_up = False
    clock_within_s = 0.002

    def __init__(self, address: str, bodies: str | None) -> None:
        self._ray = connected(address)
        paths = [] if bodies is None else sorted(Path(bodies).iterdir()) if Path(bodies).is_dir() else [Path(bodies)]
        files = {path.name: path.read_bytes() for path in paths if path.is_file()}
        self._machine = f"Ray at {address}"
        self._sender = self._ray.remote(num_cpus=1, scheduling_strategy="SPREAD")(Sender).remote(files)
        self._machine = self._answer(self._sender.machine)

    def clock(self) -> ClockOffset:
        """From the fastest of some round trips, as NTP does: the other clock was read between request and answer."""
        fastest_s, ahead_s = float("inf"), 0.0
        for _ in range(_PINGS):
            sent, there, received = time.time(), self._answer(self._sender.now), time.time()
            if received - sent < fastest_s:
                fastest_s, ahead_s = received - sent, there - (sent + received) / 2
            if fastest_s < self.clock_within_s / 2:
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
        except self._ray.exceptions.RayError as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise MlscaleError(f"the load worker is lost: {reason}", self._machine, "see Ray's log there") from error
