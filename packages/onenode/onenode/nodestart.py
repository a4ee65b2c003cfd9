"""Start a program inside the node. Run by `onenode.node`, without site-packages, as nodeinit is.

stdin is one JSON object (see `main`). With a record, the program outlives this process, and starts only once the record
names it; without one, this process waits for the program and exits with its status.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn

from mlscale.host.sandbox_enter import enter, execute, join_cgroup, open_namespaces, start_time, supervise
from onenode.nodeinit import write_record

# Entering this namespace affects only children: the parent stays where it can write the record.
OF_CHILDREN = ["pid"]
OWN = ["mnt", "net", "uts", "ipc", "cgroup"]


def run_child(spec: dict[str, Any], namespaces: list[int], cgroup: list[int], log: int, wait: int) -> NoReturn:
    """Become the program, once the record is written."""
    if not os.read(wait, 1):
        os._exit(1)
    join_cgroup(cgroup, realtime=False)  # before its cgroup namespace: from inside, v2 may refuse
    enter(namespaces)
    os.setsid()
    os.setpriority(os.PRIO_PROCESS, 0, 0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    if log >= 0:
        os.dup2(log, 1)
        os.dup2(log, 2)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):  # a caller in the background ignores some
        signal.signal(number, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(spec["environment"])
    execute(spec["argv"])


def main() -> int:
    """stdin: {"target": {"pid", "start"} of the node's first process, "cgroup": [entry files], "argv", "environment",
    "log": file | null, "record": file | null, "identity": {what the record holds beside pid and start}}."""
    spec = json.load(sys.stdin)
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 (inherited descriptors, such as the lock, close at exec)
        if int(name) > 2 and os.path.exists(f"/proc/self/fd/{name}"):  # noqa: PTH110
            os.set_inheritable(int(name), False)
    log = os.open(spec["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if spec["log"] else -1
    cgroup = [os.open(path, os.O_WRONLY | os.O_CLOEXEC) for path in spec["cgroup"]]
    namespaces = open_namespaces(spec["target"], OWN)
    enter(open_namespaces(spec["target"], OF_CHILDREN))
    wait, go = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        run_child(spec, namespaces, cgroup, log, wait)
    if spec["record"]:
        write_record(spec["record"], {"pid": child, "start": start_time(child), **spec["identity"]})
    os.write(go, b"1")
    return 0 if spec["record"] else supervise(child)
