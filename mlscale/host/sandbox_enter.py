"""Run a command in a sandbox. A separate program (``python -I -S sandbox_enter.py FILE [--go FD] -- ARGV...``): without
site-packages it starts in 10 ms, so it imports only the standard library.

FILE is JSON: {"target": {"pid", "start"} | null, "namespaces": ["pid", "net", ...], "cgroup": [entry files],
"nice": n, "realtime": bool, "environment": {name: value}}. The command enters its cgroup before it is executed.
Signals sent to this process are forwarded to the command, which is killed if this process is; its exit code (or the
signal that ended it) becomes this process's own. With ``--go`` the command starts only after a byte is read from
descriptor FD (EOF: never).
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
from typing import Any, NoReturn

PR_SET_PDEATHSIG = 1
FORWARDED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGCONT,
)


def fail(text: str) -> NoReturn:
    sys.stderr.write(f"sandbox: {text}\n")
    os._exit(125)


def start_time(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[19]


def open_namespaces(target: dict[str, Any], names: list[str]) -> list[int]:
    """Descriptors of the target's namespaces, having checked that its pid wasn't reused."""
    try:
        opened = [os.open(f"/proc/{target['pid']}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC) for name in names]
        if start_time(target["pid"]) != target["start"]:
            fail("it has ended")
    except OSError as error:
        fail(f"it has ended or can't be entered: {error}")
    return opened


def enter(descriptors: list[int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.getcwd()  # noqa: PTH109
    for descriptor in descriptors:
        if libc.setns(descriptor, 0) != 0:
            fail(f"a namespace can't be entered: {os.strerror(ctypes.get_errno())}")
    try:
        os.chdir(folder)
    except OSError as error:
        fail(f"the working folder is not visible inside: {error}")


def join_cgroup(files: list[int], realtime: bool) -> None:
    for file in files:
        os.write(file, b"0")
    if realtime:
        # Weight and nice set how much CPU a task gets, but not how soon: on a busy CPU it waits for the next tick.
        with contextlib.suppress(PermissionError):  # no permission, or a group without real-time budget
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))


def execute(argv: list[str]) -> NoReturn:
    for ignored in (signal.SIGPIPE, signal.SIGXFSZ):  # ignored by Python, which the program would inherit
        signal.signal(ignored, signal.SIG_DFL)
    try:
        os.execvp(argv[0], argv)
    except OSError as error:
        sys.stderr.write(f"sandbox: {argv[0]}: {error.strerror}\n")
        os._exit(127 if isinstance(error, FileNotFoundError) else 126)


def run_child(argv: list[str], cgroup: list[int], realtime: bool, parent_gone: int) -> NoReturn:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    poll = select.poll()
    poll.register(parent_gone, select.POLLIN)
    if poll.poll(0):
        os._exit(1)
    os.setsid()
    join_cgroup(cgroup, realtime)
    execute(argv)


def supervise(child: int) -> int:
    """Wait for the command and end the same way."""
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    file, *rest = sys.argv[1:]
    with open(file) as opened:  # noqa: PTH123
        box = json.load(opened)
    split = rest.index("--")
    options, argv = rest[:split], rest[split + 1 :]
    if options and not os.read(int(options[1]), 1):
        return 125
    try:
        cgroup = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in box["cgroup"]]
    except OSError as error:
        fail(f"it has ended or its cgroup can't be entered: {error}")
    os.environ.update(box["environment"])
    if box["nice"]:
        try:
            os.nice(box["nice"])
        except PermissionError:
            box["nice"] = 0  # unprivileged users can't raise priority; the cgroup's weight still applies
    if box["target"] is None:
        join_cgroup(cgroup, box["realtime"])
        execute(argv)
    enter(open_namespaces(box["target"], box["namespaces"]))
    parent_gone, alive = os.pipe()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    child = os.fork()
    if child == 0:
        os.close(alive)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        run_child(argv, cgroup, box["realtime"], parent_gone)
    for number in FORWARDED:
        signal.signal(number, lambda received, _: os.kill(child, received))
    signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return supervise(child)


if __name__ == "__main__":
    sys.exit(main())
