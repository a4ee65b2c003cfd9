"""The first process of a sandbox. A program of its own (``python -I -S sandbox_init.py``): imports nothing of mlscale.

stdin is a pipe whose other end the caller holds. Its first line is a JSON object (see `main`). Then the word "end"
asks for an orderly end (SIGTERM to everything, a bounded wait); EOF, or the caller's death, for an immediate one. When
this process ends, the kernel kills all others in its pid namespace. One JSON line on stdout says how the start went.

Two processes: the keeper, a child of the caller, stays in the caller's pid namespace and only waits; its child is
process 1 of the new one and dies with it.
"""

from __future__ import annotations

import ctypes
import fcntl
import fnmatch
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from typing import Any, NoReturn

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000,
    0x8000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC, MS_PRIVATE = 2, 4, 8, 4096, 16384, 1 << 18
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1


class Refused(Exception):  # noqa: N818 (a step the kernel refused)
    """``args``: the step, the reason."""


def call(step: str, name: str, *arguments: Any) -> None:
    """One libc call. Raises Refused with the step and errno's text."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise Refused(step, os.strerror(ctypes.get_errno()))


def mount(source: str, target: str, kind: str | None, flags: int, options: str = "") -> None:
    call(
        f"mount {target}",
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        kind and kind.encode(),
        ctypes.c_ulong(flags),
        options.encode() or None,
    )


def unshare() -> bool:
    """Leave the caller's namespaces; True when that took a user namespace too. Raises Refused."""
    rest = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    try:
        call("unshare", "unshare", rest)
    except Refused:
        uid, gid = os.geteuid(), os.getegid()
        call("unshare with a user namespace", "unshare", rest | CLONE_NEWUSER)
        for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{file}", "w") as opened:  # noqa: PTH123 (pathlib's import would double the start's time)
                opened.write(text)
        return True
    return False


def make_private(hidden: list[str], needed: list[str]) -> None:
    """Own /tmp, /dev/shm and /proc, and ``lo`` up. Raises Refused.

    The own /tmp shows the folders that stood in the host's (the checkout, the environment or the caller's files may lie
    there), except those named like ``hidden``; what is made beside them is seen nowhere else and vanishes.
    """
    mount("none", "/", None, MS_REC | MS_PRIVATE)
    old = os.open("/tmp", os.O_RDONLY | os.O_DIRECTORY)
    folders = [entry.name for entry in os.scandir(old) if entry.is_dir(follow_symlinks=False)]
    mount("tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    for name in folders:
        if name not in needed and any(fnmatch.fnmatchcase(name, pattern) for pattern in hidden):
            continue
        os.mkdir(f"/tmp/{name}")  # noqa: PTH102
        try:
            mount(f"/proc/self/fd/{old}/{name}", f"/tmp/{name}", None, MS_BIND | MS_REC)
        except Refused:
            os.rmdir(f"/tmp/{name}")  # noqa: PTH106
            if name in needed:
                raise
    os.close(old)
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    loopback_up()


def loopback_up() -> None:
    """Bring ``lo`` of the own network namespace up. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1] | IFF_UP
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def first_process(setup: dict[str, Any], caller: int, report: int) -> NoReturn:
    """Process 1: set the namespaces up, reap orphans, wait for the end."""
    try:
        call("die with the keeper", "prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        make_private(setup["hidden"], setup["needed"])
        answer: dict[str, Any] = {"ok": True}
    except Refused as refused:
        answer = {"ok": False, "step": refused.args[0], "reason": refused.args[1]}
    except OSError as error:
        answer = {"ok": False, "step": "private folders", "reason": str(error)}
    os.write(report, json.dumps(answer).encode())
    os.close(report)
    if answer["ok"]:
        os.close(1)
        wait_for_end(setup["grace_s"], caller)
    os._exit(0 if answer["ok"] else 1)


def wait_for_end(grace_s: float, caller: int) -> None:
    """Reap children until the caller says "end" or is gone."""
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    os.set_blocking(woken, False)
    signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    poll = select.poll()
    for descriptor in (0, caller, woken):
        if descriptor >= 0:
            poll.register(descriptor, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if woken in ready:
            os.read(woken, 4096)
        reap_children()
        if caller in ready:
            return
        if 0 in ready:
            if os.read(0, 4096):
                end_all(grace_s)
            return


def end_all(grace_s: float) -> None:
    """SIGTERM to all others in the namespace; back when they are gone, at the latest after ``grace_s``."""
    deadline_s = time.monotonic() + grace_s
    try:
        os.kill(-1, signal.SIGTERM)
        while time.monotonic() < deadline_s:
            reap_children()
            os.kill(-1, 0)
            time.sleep(0.01)
    except ProcessLookupError:
        return


def reap_children() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def main() -> int:
    """stdin's first line: {"hidden": [patterns], "needed": [names], "grace_s": s}; the answer is {"ok", "pid", ...}."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return 0
        line += byte
    setup = json.loads(line)
    try:
        caller = os.pidfd_open(os.getppid())
    except (AttributeError, OSError):
        caller = -1  # an old kernel: the pipe alone has to do
    try:
        user = unshare()
    except (Refused, OSError) as refused:
        os.write(1, json.dumps({"ok": False, "step": refused.args[0], "reason": refused.args[1]}).encode() + b"\n")
        return 1
    report, write_report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report)
        first_process(setup, caller, write_report)
    os.close(write_report)
    answer = json.loads(os.read(report, 4096) or b'{"ok": false, "step": "start", "reason": "process 1 died"}')
    os.write(1, json.dumps({**answer, "pid": child, "user_namespace": user}).encode() + b"\n")
    os.close(1)
    os.close(0)
    os.waitpid(child, 0)
    return 0 if answer["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
