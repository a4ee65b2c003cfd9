"""Which process is meant: a pid alone is reused, so pid + start time + boot id (+ pid namespace) name one."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from mlscale.runs import MlscaleError

# Environment variable of everything a sandbox starts: its value names the sandbox, uniquely.
MARKER_VARIABLE: Final = "MLSCALE_SANDBOX"

# Environment variable beside it: the role it was started in.
ROLE_VARIABLE: Final = "MLSCALE_ROLE"

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot.

    ``start`` is field 22 of /proc/PID/stat (clock ticks since boot) on Linux, the text of ``ps -o lstart`` elsewhere;
    ``pid_namespace`` says in which namespace ``pid`` counts (empty where the system has none).
    """

    pid: int
    start: str
    boot_id: str
    pid_namespace: str = ""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has ``pid`` now, None where there is none."""
        start = process_start(pid)
        return None if start is None else cls(pid, start, boot_id(), pid_namespace())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError when ``data`` is no identity."""
        return cls(int(data["pid"]), str(data["start"]), str(data["boot_id"]), str(data["pid_namespace"]))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie does not.

        A process of another pid namespace can't be looked up from here and counts as alive while the boot lasts:
        nothing is cleaned up on a guess.
        """
        if self.boot_id != boot_id():
            return False
        if self.pid_namespace != pid_namespace():
            return True
        return process_start(self.pid) == self.start

    def here_and_alive(self) -> bool:
        """Whether it runs and can be reached from here by its pid."""
        return self.pid_namespace == pid_namespace() and self.alive()


def process_start(pid: int) -> str | None:
    """Start time of a running process (see `ProcessIdentity`), None when it is gone or a zombie."""
    if not _PROC.joinpath("self").exists():
        return _start_by_ps(pid)
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def stat_fields(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name: [0] state, [1] ppid, [11] utime, ... [19] start."""
    try:
        text = (_PROC / str(pid) / "stat").read_text()
    except (OSError, UnicodeDecodeError):
        return None
    return text.rpartition(")")[2].split()


def boot_id() -> str:
    """Names this boot of the machine."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return _output("sysctl", "-n", "kern.bootsessionuuid") or "unknown"


def pid_namespace() -> str:
    """Names the pid namespace this process lives in; empty where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (no path: "pid:[4026531836]")
    except OSError:
        return ""


def inside_pid(pid: int) -> int | None:
    """The pid that process ``pid`` has in its own, innermost pid namespace; None when it is gone."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return None
    found = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
    return int(found[1].split()[-1]) if found else pid


def _start_by_ps(pid: int) -> str | None:
    line = _output("ps", "-o", "stat=,lstart=", "-p", str(pid))
    state, _, start = line.strip().partition(" ")
    return None if not start or state.startswith("Z") else start.strip()


def _output(*argv: str) -> str:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=10).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""


def marked_pids(marker: str) -> tuple[int, ...]:
    """Processes of this user that carry ``marker`` in `MARKER_VARIABLE`, this one left out (Linux only)."""
    pids = (int(folder.name) for folder in _PROC.glob("[0-9]*"))
    others = (pid for pid in pids if pid != os.getpid())
    return tuple(
        pid for pid in others if environment_of(pid).get(MARKER_VARIABLE) == marker and process_start(pid) is not None
    )


def environment_of(pid: int) -> dict[str, str]:
    """The environment that process ``pid`` was started with; empty when it is gone or another user's."""
    try:
        text = (_PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def end_marked(marker: str, grace_s: float) -> None:
    """End every process that carries ``marker`` (see `marked_pids`): SIGTERM, a bounded wait, SIGKILL.

    Raises:
        MlscaleError: some are left in spite of SIGKILL.
    """
    _signal_all(marked_pids(marker), signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
    deadline_s = time.monotonic() + grace_s
    while time.monotonic() < deadline_s and marked_pids(marker):
        time.sleep(0.02)
    kill_until_none(lambda: marked_pids(marker))


def end_group(group: int, grace_s: float, reap: Callable[[], object] = lambda: None) -> None:
    """End a process group: SIGTERM, a bounded wait, SIGKILL. ``reap`` takes in the end of a child of ours."""
    deadline_s = time.monotonic() + grace_s
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        if grace_s > 0:
            os.killpg(group, signal.SIGTERM)
            while time.monotonic() < deadline_s:
                reap()
                os.killpg(group, 0)
                time.sleep(0.02)
        os.killpg(group, signal.SIGKILL)


def kill_until_none(pids: Callable[[], Iterable[int]], at_most_s: float = 5.0) -> None:
    """SIGKILL what ``pids()`` gives until it gives nothing (a dying parent may have forked once more).

    Raises:
        MlscaleError: some are left after ``at_most_s``.
    """
    deadline_s = time.monotonic() + at_most_s
    while left := tuple(pids()):
        if time.monotonic() > deadline_s:
            raise MlscaleError(
                "processes do not end", ", ".join(map(str, left)), "end them by hand, then `mlscale cleanup`"
            )
        _signal_all(left, signal.SIGKILL)
        time.sleep(0.01)


def kill_process(identity: ProcessIdentity, at_most_s: float = 5.0) -> None:
    """SIGKILL exactly this process, if it still runs; back when it is gone. Raises MlscaleError when it stays."""
    kill_until_none(lambda: (identity.pid,) if identity.here_and_alive() else (), at_most_s)


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
