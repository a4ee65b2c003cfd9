"""The first process of the node: creates its namespaces, then reaps orphans. When it is killed, so is everything else.

Started by `onenode.node` without site-packages: imports the standard library and mlscale.host alone. stdin is
one JSON object (see `main`); one JSON line on stdout says how the start went. It outlives the command that started it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
from typing import Any, NoReturn

from mlscale.host.sandbox_enter import start_time
from mlscale.host.sandbox_init import (
    MS_BIND,
    MS_NODEV,
    MS_NOEXEC,
    MS_NOSUID,
    MS_REC,
    StepFailed,
    call,
    loopback_up,
    mount,
)

CLONE_ALL = 0x20000 | 0x2000000 | 0x4000000 | 0x8000000 | 0x20000000 | 0x40000000  # mnt cgroup uts ipc pid net
MS_SLAVE = 1 << 19
PR_SET_NAME = 15
# Names in /var/lib that are the node's own: kubelet and CNI write there, whatever their configuration.
OTHERS_STATE = ("cni", "containerd", "docker", "etcd", "kubelet", "rancher")
# What a kubelet sets for the whole machine unless it finds it set (kubelet/cm/container_manager_linux.go,
# setupKernelTunables).
KUBELETS_SETTINGS = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


def own_folders(keep: list[str], binds: list[list[str]]) -> None:
    """Fresh /run, /var/log, /dev/shm; a /var/lib with the host's folders except other clusters' state. What is created
    in them is visible only inside and vanishes with the node. ``keep``: folders that must stay visible; ``binds``:
    [folder of the host, path inside], for what must persist."""
    for target in ("/run", "/var/log", "/dev/shm"):
        if not any(path.startswith(f"{target}/") for path in keep):
            mount("tmpfs", target, "tmpfs", MS_NOSUID | MS_NODEV, "mode=755" if target != "/dev/shm" else "mode=1777")
    old = os.open("/var/lib", os.O_RDONLY | os.O_DIRECTORY)
    names = [one.name for one in os.scandir(old) if one.is_dir(follow_symlinks=False) and one.name not in OTHERS_STATE]
    mount("tmpfs", "/var/lib", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    for name in names:
        os.mkdir(f"/var/lib/{name}")  # noqa: PTH102 (no pathlib here, as in boxinit)
        mount(f"/proc/self/fd/{old}/{name}", f"/var/lib/{name}", None, MS_BIND | MS_REC)
    os.close(old)
    for folder in ("/run/netns", "/run/containerd", "/run/lock", "/run/cni", *(target for _, target in binds)):
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    for source, target in binds:
        mount(source, target, None, MS_BIND | MS_REC)


def own_settings() -> None:
    """Cover the machine's settings that a kubelet would change with files of the node's own."""
    for name, value in KUBELETS_SETTINGS.items():
        shown, own = f"/proc/sys/{name}", f"/var/lib/mlscale/{name}"
        if os.path.exists(shown):  # noqa: PTH110
            os.makedirs(os.path.dirname(own), exist_ok=True)  # noqa: PTH103, PTH120
            with open(own, "w") as file:  # noqa: PTH123
                file.write(value)
            mount(own, shown, None, MS_BIND)


def own_cgroups(version: int, mounts: list[list[str]]) -> None:
    """Mount every hierarchy again, so that the node's own group is its top. v1: [name of the folder, options]."""
    top, flags = "/sys/fs/cgroup", MS_NOSUID | MS_NODEV | MS_NOEXEC
    if version == 2:
        mount("cgroup2", top, "cgroup2", flags)
        return
    mount("tmpfs", top, "tmpfs", flags, "mode=755")
    for name, options in mounts:
        os.mkdir(f"{top}/{name}")  # noqa: PTH102
        mount("cgroup", f"{top}/{name}", "cgroup", flags, options)


def set_up(setup: dict[str, Any]) -> None:
    """Set up the namespaces, except for the network link. Raises StepFailed or OSError."""
    mount("none", "/", None, MS_REC | MS_SLAVE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    own_cgroups(setup["version"], setup["mounts"])
    own_folders(setup["keep"], setup["binds"])
    own_settings()
    for source, path in setup["covers"]:
        target = os.path.realpath(path)
        if not os.path.exists(target):  # noqa: PTH110 (a link into the host's /run; the node has its own)
            os.makedirs(os.path.dirname(target), exist_ok=True)  # noqa: PTH103, PTH120
            with open(target, "w"):  # noqa: PTH123
                pass
        mount(source, target, None, MS_BIND | MS_REC)
    socket.sethostname(setup["name"])
    loopback_up()
    for name, value in setup["sysctl"].items():
        with open(f"/proc/sys/{name}", "w") as file:  # noqa: PTH123
            file.write(value)


def first_process(setup: dict[str, Any], go: int, report: int) -> NoReturn:
    """Process 1. It starts only once its identity is recorded (``go``)."""
    if not os.read(go, 1):
        os._exit(1)
    try:
        set_up(setup)
        answer: dict[str, Any] = {"ok": True}
    except StepFailed as refused:
        answer = {"ok": False, "step": refused.args[0], "reason": refused.args[1]}
    except OSError as error:
        answer = {"ok": False, "step": "own folders", "reason": str(error)}
    os.write(report, json.dumps(answer).encode())
    if not answer["ok"]:
        os._exit(1)
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"mlscale-node", 0, 0, 0)
    os.setsid()
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(quiet, descriptor)
    os.closerange(3, 1024)
    reap_forever()


def reap_forever() -> NoReturn:
    """Reap orphans, which become children of process 1; it starts no children itself."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                continue
        except ChildProcessError:
            continue


def write_record(path: str, content: dict[str, Any]) -> None:
    """Write the record atomically. Not with `mlscale.atomic`, which needs site-packages."""
    with open(f"{path}.new", "w") as file:  # noqa: PTH123
        json.dump(content, file)
    os.rename(f"{path}.new", path)  # noqa: PTH104


def main() -> int:
    """stdin: {"entry": [cgroup files], "leaf": file | null (v2: where the first process moves to), "version": 1 | 2,
    "mounts": [[name, options]], "keep": [paths], "binds": [[from, to]], "covers": [[from, to]], "name": host name,
    "sysctl": {file below /proc/sys: value}, "record": file, "identity": {what it holds beside pid and start}}."""
    setup = json.load(sys.stdin)
    os.setpriority(os.PRIO_PROCESS, 0, 0)  # the node does not inherit the caller's niceness
    try:
        for file in setup["entry"]:
            with open(file, "w") as opened:  # noqa: PTH123
                opened.write("0")
        call("unshare", "unshare", CLONE_ALL)
        if setup["leaf"]:
            with open(setup["leaf"], "w") as opened:  # noqa: PTH123
                opened.write("0")
    except StepFailed as refused:
        print(json.dumps({"ok": False, "step": refused.args[0], "reason": refused.args[1]}))  # noqa: T201
        return 1
    wait, go = os.pipe()
    report, write_report = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(go)
        os.close(report)
        first_process(setup, wait, write_report)
    os.close(write_report)
    write_record(setup["record"], {"pid": child, "start": start_time(child), **setup["identity"]})
    os.write(go, b"1")
    answer = os.read(report, 4096) or b'{"ok": false, "step": "start", "reason": "the first process died"}'
    os.write(1, answer + b"\n")
    return 0 if json.loads(answer)["ok"] else 1
