"""A Ray cluster as somebody else runs one: nodes made by ``ray start``, each in a network namespace of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path

import psutil

HEAD = "10.214.7.2"
ADDRESS = f"http://{HEAD}:8265"
_BRIDGE = "mlsray"
_RAY = str(Path(sys.executable).with_name("ray"))


@contextmanager
def ray_cluster(nodes: int, cpus: int, import_folder: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """``nodes`` nodes of ``cpus`` each, which import modules from ``import_folder``, too; the head first, its dashboard
    at `ADDRESS`. Yields what adds another. Afterwards neither process, interface nor file is left."""
    with tempfile.TemporaryDirectory(prefix="ray-nodes-", ignore_cleanup_errors=True) as folder, ExitStack() as stack:
        _ip("link", "add", _BRIDGE, "type", "bridge")
        stack.callback(_ip, "link", "delete", _BRIDGE)
        _ip("address", "add", "10.214.7.1/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
        environment = {**kept, "PYTHONPATH": str(import_folder), "RAY_USAGE_STATS_ENABLED": "0"}
        environment["RAY_agent_register_timeout_ms"] = "120000"
        numbers = count()

        def add() -> subprocess.Popen[bytes]:
            number = next(numbers)
            return stack.enter_context(_node(number, cpus, Path(folder, str(number)), environment))

        for _ in range(nodes):
            add()
        yield add


@contextmanager
def _node(number: int, cpus: int, folder: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    name, address = f"{_BRIDGE}{number}", f"10.214.7.{2 + number}"
    _ip("netns", "add", name)
    try:
        _ip("link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", name, "master", _BRIDGE, "up")
        for words in (("link", "set", "lo", "up"), ("address", "add", f"{address}/24", "dev", "eth0")):
            _ip("-n", name, *words)
        _ip("-n", name, "link", "set", "eth0", "up")
        role = ["--head", "--port=6379", "--dashboard-host=0.0.0.0"] if number == 0 else [f"--address={HEAD}:6379"]
        where = (
            [f"--node-ip-address={address}", f"--temp-dir={folder}"]
            if number == 0
            else [f"--node-ip-address={address}"]
        )
        argv = ["ip", "netns", "exec", name, _RAY, "start", *role, *where, f"--num-cpus={cpus}", "--block"]
        argv += ["--object-store-memory=80000000", "--disable-usage-stats"]
        log = folder.with_suffix(".log")
        try:
            yield _started(argv, environment, name, log)
        finally:
            _end(name)
    finally:
        _ip("netns", "delete", name)
        shutil.rmtree(folder, ignore_errors=True)


def _started(
    argv: Sequence[str], environment: Mapping[str, str], name: str, log: Path, tries: int = 3
) -> subprocess.Popen[bytes]:
    """``ray start`` that has succeeded: it gives up after 30 s, which a busy machine may need."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=dict(environment), stdout=output, stderr=output, start_new_session=True, cwd=log.parent
        )
    deadline_s = time.monotonic() + 300
    while "Ray runtime started" not in (text := log.read_text(errors="replace")):
        assert time.monotonic() < deadline_s, text[-2000:]
        if process.poll() is not None:
            assert "timed out during startup" in text, text[-2000:]
            assert tries > 1, text[-2000:]
            _end(name)
            return _started(argv, environment, name, log, tries - 1)
        time.sleep(0.2)
    return process


def _end(name: str) -> None:
    """Kill all processes of a namespace."""
    for pid in (pids := _inside(name)):
        os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid) for pid in pids if psutil.pid_exists(pid)], timeout=30)


def processes(number: int) -> list[int]:
    """Of one node, the head being number 0."""
    return _inside(f"{_BRIDGE}{number}")


def _inside(name: str) -> list[int]:
    """Processes in a network namespace."""
    done = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
