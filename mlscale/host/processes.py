"""Which process is meant: a pid alone is reused, so pid + start time + boot id (+ pid namespace) name one."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

_PROC = Path("/proc")


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
