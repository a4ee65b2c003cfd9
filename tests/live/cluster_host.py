"""The state of a host, read before and after a cluster: what it could leave behind."""

from __future__ import annotations

import difflib
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from mlscale.host.processes import process_start
from onenode.cache import default_cache
from onenode.node import Node
from onenode.packages import find_programs
from onenode.progress import Reporter

# Where Kubernetes, containerd and CNI write when installed on a host.
PLACES = ("/etc", "/opt", "/run", "/srv", "/usr/lib", "/usr/libexec", "/usr/local", "/var")
# Other programs change these while the tests run.
EXCLUDED = ("/var/tmp", "/var/cache", "/var/lib/apt")


@dataclass(frozen=True)
class HostState:
    """Everything must be the same afterwards, except that files may have gone. Other clusters' links are left out."""

    mounts: tuple[str, ...]
    links: tuple[str, ...]
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    rules: tuple[str, ...]
    filters: str
    settings: dict[str, str]
    groups: frozenset[str]
    files: frozenset[str]


def read_host() -> HostState:
    links = [link["ifname"] for link in _ip("link")]
    return HostState(
        tuple(sorted(_mounts())),
        tuple(sorted(name for name in links if not name.startswith("mlsc"))),
        tuple(_ip_lines("address")),
        tuple(_ip_lines("route", "show", "table", "all")),
        tuple(_ip_lines("rule")),
        _filters(),
        _settings(),
        frozenset(_groups()),
        frozenset(_files()),
    )


def differences(before: HostState, after: HostState) -> list[str]:
    """The lines that differ, as a diff of each field; files are not compared."""
    rows: list[str] = []
    for name in (field.name for field in fields(HostState) if field.name != "files"):
        lines = (_lines(getattr(state, name)) for state in (before, after))
        rows += difflib.unified_diff(*lines, f"{name} before", f"{name} after", n=0, lineterm="")
    return rows


def _lines(value: str | Mapping[str, str] | tuple[str, ...] | frozenset[str]) -> list[str]:
    if isinstance(value, str):
        return value.splitlines()
    if isinstance(value, Mapping):
        return [f"{name} = {text}" for name, text in value.items()]
    return sorted(value)


def node_processes(node: Node) -> dict[int, str]:
    """pid -> start time of every process in the node's pid namespace."""
    init = node.init
    assert init is not None
    namespace = Path(f"/proc/{init.pid}/ns/pid").stat().st_ino
    processes: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            inside = (folder / "ns/pid").stat().st_ino == namespace
        except OSError:
            continue
        start = process_start(int(folder.name))
        if inside and start is not None:
            processes[int(folder.name)] = start
    return processes


def command_lines_with(text: str) -> list[str]:
    """Other processes' command lines that contain ``text``."""
    lines: list[str] = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(folder.name) != os.getpid():
            lines.append(line)
    return lines


def _mounts() -> list[str]:
    """Without the mount IDs, which change."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [re.sub(r"^\d+ \d+ ", "", line) for line in lines]


def _ip_lines(*words: str) -> list[str]:
    rows = [json.dumps(row, sort_keys=True) for row in _ip(*words) if "mlsc" not in json.dumps(row)]
    return sorted(re.sub(r'"(valid|preferred)_life_time": \d+', "", row) for row in rows)


def _ip(*words: str) -> list[dict[str, Any]]:
    done = subprocess.run(["ip", "-json", *words], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout or "[]"))


def _filters() -> str:
    """The host's packet filter, by the cluster's own iptables."""
    programs = find_programs(default_cache(), Reporter())
    environment = {"LD_LIBRARY_PATH": ":".join(map(str, programs.libraries))}
    texts: list[str] = []
    for name in ("iptables-save", "ip6tables-save"):
        program = programs.paths["iptables"].with_name(name)
        done = subprocess.run([str(program)], capture_output=True, text=True, check=True, env=environment)
        texts += [line for line in done.stdout.splitlines() if not line.startswith(("#", ":"))]
    return "\n".join(texts)


def _settings() -> dict[str, str]:
    """Kernel settings that Kubernetes may change."""
    names = (
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
    )
    names += ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv4/conf/default/forwarding")
    names += ("net/netfilter/nf_conntrack_max", "net/netfilter/nf_conntrack_tcp_timeout_established")
    files = {name: Path("/proc/sys", name) for name in names}
    return {name: file.read_text().strip() for name, file in files.items() if file.exists()}


def groups_named(text: str) -> list[str]:
    """Cgroups of any hierarchy with ``text`` in their path."""
    return [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if text in folder]


def _groups() -> list[str]:
    """A container runtime's cgroups outside nodes' own, since another cluster's may come and go meanwhile."""
    folders = [folder for folder, _, _ in os.walk("/sys/fs/cgroup") if "/mlscale-" not in folder]
    return [folder for folder in folders if re.search(r"kubepods|containerd|k8s\.io|pod[0-9a-f]{8}-", folder)]


def _files() -> list[str]:
    paths: list[str] = []
    for place in PLACES:
        for folder, folders, files in os.walk(place):
            folders[:] = [name for name in folders if not f"{folder}/{name}".startswith(EXCLUDED)]
            paths += [f"{folder}/{name}" for name in (*folders, *files)]
    return paths
