"""Identifying and ending processes. Pids are reused, so a process is identified by pid, start time and boot id (and pid
namespace); and by its machine, since machines may share a home folder."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil

from mlscale.host.proc_stat import stat_fields
from mlscale.runs import MlscaleError

# Environment variable of everything that a sandbox starts; its value identifies the sandbox.
MARKER_VARIABLE: Final = "MLSCALE_SANDBOX"

# Environment variable with the role that a process was started in.
ROLE_VARIABLE: Final = "MLSCALE_ROLE"

_PROC: Final = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of one boot.

    ``start`` is field 22 of /proc/PID/stat (clock ticks since boot) on Linux, psutil's create_time() elsewhere;
    ``pid_namespace`` is the namespace in which ``pid`` is valid (empty where the system has none), ``machine`` what
    `machine_id` says (empty: recorded before there was such a field).
    """

    pid: int
    start: str
    boot_id: str
    pid_namespace: str = ""
    machine: str = ""

    @classmethod
    def of(cls, pid: int) -> Self | None:
        """The process that has ``pid`` now; None if there is none."""
        start = process_start(pid)
        return None if start is None else cls(pid, start, boot_id(), pid_namespace(), machine_id())

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Raises KeyError, TypeError or ValueError if ``data`` isn't an identity."""
        start, boot, namespace = (str(data[name]) for name in ("start", "boot_id", "pid_namespace"))
        return cls(int(data["pid"]), start, boot, namespace, str(data.get("machine", "")))

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie doesn't).

        A process in another pid namespace can't be looked up from here, so it counts as alive until the next boot. So
        does one on another machine, whose ledgers can be seen in a shared home folder.
        """
        if self.boot_id != boot_id():
            return self.machine not in ("", machine_id())
        if self.pid_namespace != pid_namespace():
            return True
        return process_start(self.pid) == self.start

    def here_and_alive(self) -> bool:
        """Whether it runs on this machine in this pid namespace, so that its pid can be signalled."""
        return (self.boot_id, self.pid_namespace) == (boot_id(), pid_namespace()) and self.alive()


def process_start(pid: int) -> str | None:
    """Start time of a process (see `ProcessIdentity`); None if it has ended or is a zombie."""
    if not _PROC.joinpath("self").exists():
        return start_without_proc(pid)
    fields = stat_fields(pid)
    return None if fields is None or fields[0] in "ZX" else fields[19]


def boot_id() -> str:
    """Identifies this boot of the machine."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        pass
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.check_output(["sysctl", "-n", "kern.bootsessionuuid"], text=True, timeout=10).strip()
    return "unknown"


def machine_id() -> str:
    """Identifies this machine across reboots: /etc/machine-id, else its node name."""
    with contextlib.suppress(OSError):
        if text := Path("/etc/machine-id").read_text().strip():
            return text
    return platform.node()


def pid_namespace() -> str:
    """Identifies this process's pid namespace; empty where the system has none."""
    try:
        return os.readlink("/proc/self/ns/pid")  # noqa: PTH115 (not a path: "pid:[4026531836]")
    except OSError:
        return ""


def inside_pid(pid: int) -> int | None:
    """The pid of process ``pid`` in its own, innermost pid namespace; None if it has ended."""
    try:
        status = (_PROC / str(pid) / "status").read_text()
    except OSError:
        return None
    match = re.search(r"^NSpid:\s+(.*)$", status, re.MULTILINE)
    return int(match[1].split()[-1]) if match else pid


def start_without_proc(pid: int) -> str | None:
    """`process_start` where there is no /proc. (On Linux psutil's time depends on the wall clock, ticks don't.)"""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else repr(process.create_time())
    except psutil.Error:
        return None


def marked_pids(marker: str) -> tuple[int, ...]:
    """Other processes of this user with ``marker`` in their `MARKER_VARIABLE` (Linux only)."""
    pids = (int(folder.name) for folder in _PROC.glob("[0-9]*"))
    others = (pid for pid in pids if pid != os.getpid())
    return tuple(
        pid for pid in others if environment_of(pid).get(MARKER_VARIABLE) == marker and process_start(pid) is not None
    )


def environment_of(pid: int) -> dict[str, str]:
    """The environment that process ``pid`` was started with; empty if it has ended or is another user's."""
    try:
        text = (_PROC / str(pid) / "environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in text.split("\0") if "=" in line)


def end_marked(marker: str, grace_s: float) -> None:
    """End every process with ``marker`` (see `marked_pids`): SIGTERM, at most ``grace_s``, SIGKILL.

    Raises:
        MlscaleError: some survive SIGKILL.
    """
    _signal_all(marked_pids(marker), signal.SIGTERM if grace_s > 0 else signal.SIGKILL)
    deadline_s = time.monotonic() + grace_s
    while time.monotonic() < deadline_s and marked_pids(marker):
        time.sleep(0.02)
    kill_until_none(lambda: marked_pids(marker))


def end_group(group: int, grace_s: float, reap: Callable[[], object] = lambda: None) -> None:
    """End a process group: SIGTERM, at most ``grace_s``, SIGKILL. ``reap`` collects a child of ours."""
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
    """SIGKILL what ``pids()`` returns until it returns nothing, since a dying parent may fork once more.

    Raises:
        MlscaleError: some are left after ``at_most_s``.
    """
    deadline_s = time.monotonic() + at_most_s
    while left := tuple(pids()):
        if time.monotonic() > deadline_s:
            raise MlscaleError(
                "processes survive SIGKILL", ", ".join(map(str, left)), "end them yourself, then run `mlscale cleanup`"
            )
        _signal_all(left, signal.SIGKILL)
        time.sleep(0.01)


def kill_process(identity: ProcessIdentity) -> None:
    """SIGKILL this very process and wait until it has ended. Raises MlscaleError if it survives."""
    kill_until_none(lambda: (identity.pid,) if identity.here_and_alive() else (), 5.0)


def _signal_all(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
