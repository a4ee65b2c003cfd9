"""The first process of a sandbox. A separate program (``python -I -S sandbox_init.py``): without site-packages it
starts in 10 ms, so it imports only the standard library.

stdin is a pipe held by the caller. Its first line is a JSON object (see `main`). Then the word "end" requests an
orderly end (SIGTERM to everything, a bounded wait); EOF, or the caller's death, an immediate one. When this process
ends, the kernel kills all others in its pid namespace. One JSON line on stdout reports how the start went.

There are two processes: the keeper, a child of the caller, stays in the caller's pid namespace and waits; its child is
process 1 of the new namespace and dies with the keeper.
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


class StepFailed(Exception):  # noqa: N818
    """The kernel refused a step. ``args``: the step, the reason."""


def call(step: str, name: str, *arguments: Any) -> None:
    """Call libc. Raises StepFailed with the step and errno's text."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        raise StepFailed(step, os.strerror(ctypes.get_errno()))


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
    """Enter new namespaces; True if that took a user namespace too. Raises StepFailed."""
    namespaces = CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET
    try:
        call("unshare", "unshare", namespaces)
    except StepFailed:
        uid, gid = os.geteuid(), os.getegid()
        call("unshare with a user namespace", "unshare", namespaces | CLONE_NEWUSER)
        for file, text in (("setgroups", "deny"), ("uid_map", f"{uid} {uid} 1"), ("gid_map", f"{gid} {gid} 1")):
            with open(f"/proc/self/{file}", "w") as opened:  # noqa: PTH123 (importing pathlib doubles the start-up time)
                opened.write(text)
        return True
    return False


def make_private(hidden: list[str], needed: list[str]) -> None:
    """Mount a private /tmp, /dev/shm and /proc, and bring ``lo`` up. Raises StepFailed.

    The private /tmp shows the present folders of the host's (the checkout, the environment or the caller's files may be
    there), except those that match ``hidden``. What is created beside them is visible only inside and not kept.
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
        except StepFailed:
            os.rmdir(f"/tmp/{name}")  # noqa: PTH106
            if name in needed:
                raise
    os.close(old)
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    loopback_up()


def loopback_up() -> None:
    """Bring up ``lo`` of this network namespace. Raises OSError."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = fcntl.ioctl(sock, SIOCGIFFLAGS, struct.pack("16sH14x", b"lo", 0))
        flags = struct.unpack("16sH14x", request)[1] | IFF_UP
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags))


def first_process(setup: dict[str, Any], caller: int, report: int) -> NoReturn:
    """Process 1: set up the namespaces, reap orphans, wait for the end."""
    try:
        call("die with the keeper", "prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        make_private(setup["hidden"], setup["needed"])
        reply: dict[str, Any] = {"ok": True}
    except StepFailed as failure:
        reply = {"ok": False, "step": failure.args[0], "reason": failure.args[1]}
    except OSError as error:
        reply = {"ok": False, "step": "private folders", "reason": str(error)}
    os.write(report, json.dumps(reply).encode())
    os.close(report)
    if reply["ok"]:
        os.close(1)
        wait_for_end(setup["grace_s"], caller)
    os._exit(0 if reply["ok"] else 1)


def wait_for_end(grace_s: float, caller: int) -> None:
    """Reap children until the caller sends "end" or has ended."""
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
    """SIGTERM all others in the namespace and wait for them, at most ``grace_s``."""
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
    """stdin's first line: {"hidden": [patterns], "needed": [names], "grace_s": s}; the reply is {"ok", "pid", ...}."""
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
        caller = -1  # an old kernel: the pipe alone must do
    try:
        user = unshare()
    except (StepFailed, OSError) as failure:
        os.write(1, json.dumps({"ok": False, "step": failure.args[0], "reason": failure.args[1]}).encode() + b"\n")
        return 1
    report, write_report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(report)
        first_process(setup, caller, write_report)
    os.close(write_report)
    reply = json.loads(os.read(report, 4096) or b'{"ok": false, "step": "start", "reason": "process 1 died"}')
    os.write(1, json.dumps({**reply, "pid": child, "user_namespace": user}).encode() + b"\n")
    os.close(1)
    os.close(0)
    os.waitpid(child, 0)
    return 0 if reply["ok"] else 1


if __name__ == "__main__":
    sys.exit(main())
