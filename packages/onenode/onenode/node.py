"""A node's first process, its cgroups and its network link: creates, enters and ends them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.host.cgroups import pids_below, remove_tree
from mlscale.host.processes import ProcessIdentity, kill_until_none
from mlscale.runs import MlscaleError
from onenode.layout import BINDS, PATH, NodeLayout, import_folders
from onenode.node_cgroups import NodeGroups, node_groups
from onenode.parts import Part

_BOOTSTRAP: Final = "import sys; sys.path[:0] = sys.argv[1:]; from onenode.{0} import main; sys.exit(main())"
_START_AT_MOST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Record:
    """The recorded process of a part. ``digest``: of what it was started with."""

    identity: ProcessIdentity
    digest: str

    @property
    def alive(self) -> bool:
        return self.identity.here_and_alive()


def read_record(file: Path) -> Record | None:
    """None if there is no record."""
    try:
        data = json.loads(file.read_text())
        return Record(ProcessIdentity.from_json(data), str(data["digest"]))
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Link:
    """A node's only network link. ``outer`` and ``inner``: addresses of its ends, a network of 4 (/30);
    ``inner_routes``: routes inside the node (``ip route`` arguments); ``outer_networks``: networks that the host
    reaches through it."""

    outer: str
    inner: str
    inner_routes: tuple[tuple[str, ...], ...] = ()
    outer_networks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What everything on a machine may use together. ``weight``: its share of the CPU among siblings, see
    `mlscale.host.cgroups.Group.set_weight`."""

    cpu_cores: float
    memory_bytes: int
    weight: int


class Node:
    """A node on this host, whether it runs or not. ``inherited_fds``: descriptors that a program holds open while it is
    being started (the lock)."""

    def __init__(self, layout: NodeLayout, inherited_fds: Sequence[int] = ()) -> None:
        self.layout = layout
        self.groups: NodeGroups = node_groups(layout.cgroup)
        self._inherited_fds = tuple(inherited_fds)

    @property
    def init(self) -> ProcessIdentity | None:
        """Its first process; None if it does not run."""
        record = read_record(self.layout.init)
        return record.identity if record is not None and record.alive else None

    def record(self, part: str) -> Record | None:
        """What `start` recorded of a part."""
        return read_record(self.layout.records / f"{part}.json")

    def boot(self, limits: Limits | None = None, covers: Mapping[str, str] | None = None) -> None:
        """Start the first process in namespaces and cgroups of its own, after ending what an earlier one left.

        Args:
            limits: None: everything the host has.
            covers: path inside -> path on the host to mount over it, such as another /proc/meminfo.

        Raises:
            MlscaleError: the host refuses something; only the cgroups are left then.
        """
        self.clear()
        for name in BINDS:
            (self.layout.data / name).mkdir(parents=True, exist_ok=True, mode=0o700)
        self.groups.create()
        if limits is not None:
            self.groups.set_weight(limits.weight)
            self.groups.limit(limits.cpu_cores, limits.memory_bytes)
        leaf = self.groups.part("init")
        leaf.create()
        options = [[mount.path.name, ",".join(mount.options)] for mount in self.groups.mounts]
        setup = {
            "entry": [str(file) for file in self.groups.entry_files],
            "leaf": str(leaf.entry_files[0]) if self.groups.version == 2 else None,
            "version": self.groups.version,
            "mounts": options,
            "binds": [[str(self.layout.data / name), place] for name, place in BINDS.items()],
            "covers": [[source, target] for target, source in (covers or {}).items()],
            "keep": [str(self.layout.root), sys.prefix, sys.base_prefix],
            "name": self.layout.name,
            "sysctl": {"net/ipv4/ip_forward": "1"},
            "record": str(self.layout.init),
            "identity": _identity_fields(""),
        }
        result = self._run("nodeinit", setup)
        answer = json.loads(result.stdout or '{"ok": false, "step": "start", "reason": ""}')
        if result.returncode or not answer["ok"]:
            self.kill()
            reason = f"{answer['step']}: {answer['reason']} {result.stderr.strip()[-300:]}".strip()
            raise MlscaleError(f"the node can't be created: {reason}", "its namespaces", "see `mlscale doctor`")
        self.groups.delegate()

    def link(self, link: Link) -> None:
        """Create the node's network link. Idempotent."""
        init, interface = self.init, self.layout.interface
        assert init is not None, "boot comes first"
        if not Path("/sys/class/net", interface).exists():
            _ip("link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid))
        _ip("link", "set", interface, "addrgenmode", "none", "up")
        _ip("address", "replace", f"{link.outer}/30", "dev", interface)
        commands = (
            ("address", "replace", f"{link.inner}/30", "dev", "eth0"),
            ("link", "set", "eth0", "addrgenmode", "none", "up"),
            *(("route", "replace", *route) for route in link.inner_routes),
        )
        for words in commands:
            self.run(["ip", *words])
        for network in link.outer_networks:
            _ip("route", "replace", network, "via", link.inner, "dev", interface)

    def start(self, part: Part, digest: str) -> None:
        """Start a part; its record is written before it runs. Raises MlscaleError if it can't be started."""
        group = self.groups.part(part.name)
        group.create()
        self.layout.records.mkdir(exist_ok=True, mode=0o700)
        spec = self._spec(part.argv, self.groups.entries_of(part.name), part.environment)
        spec |= {"log": str(self.layout.log(part.name)), "record": str(self.layout.records / f"{part.name}.json")}
        result = self._run("nodestart", spec | {"identity": _identity_fields(digest)})
        if result.returncode:
            raise MlscaleError(
                f"it can't be started: {result.stderr.strip()[-300:]}", part.name, "mlscale cluster status"
            )

    def run(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a command inside and return its output. Raises MlscaleError if it fails."""
        group = self.groups.part("tools")
        group.create()
        spec = self._spec(argv, self.groups.entries_of("tools"), environment or {})
        result = self._run("nodestart", spec | {"log": None, "record": None})
        if result.returncode:
            output = (result.stderr or result.stdout).strip()[-300:]
            raise MlscaleError(
                f"{Path(argv[0]).name} failed in the node: {output}", " ".join(argv[:3]), "see its message"
            )
        return result.stdout

    def end_part(self, name: str, grace_s: float) -> None:
        """SIGTERM, then SIGKILL after ``grace_s``. Does nothing if the part does not run."""
        record = self.record(name)
        if record is None or not record.alive:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(record.identity.pid, signal.SIGTERM)
        deadline_s = time.monotonic() + grace_s
        while record.alive and time.monotonic() < deadline_s:
            time.sleep(0.01)
        kill_until_none(lambda: (record.identity.pid,) if record.alive else ())

    def kill(self) -> None:
        """End everything in the node; returns when nothing runs any more."""
        kill_until_none(lambda: pids_below(self.groups.folders), at_most_s=10)

    def clear(self) -> None:
        """`kill`, then remove the cgroups and the host's end of the link. Idempotent.

        Raises:
            MlscaleError: something could not be removed.
        """
        init = self.init
        if init is not None:
            kill_until_none(lambda: (init.pid,) if init.here_and_alive() else (), at_most_s=10)
        self.kill()
        remove_tree(self.groups.folders)
        if Path("/sys/class/net", self.layout.interface).exists():
            with contextlib.suppress(MlscaleError):  # it disappears with the namespace
                _ip("link", "delete", self.layout.interface)
        deadline_s = time.monotonic() + 5
        while Path("/sys/class/net", self.layout.interface).exists():
            if time.monotonic() > deadline_s:
                raise MlscaleError(
                    "the network interface can't be removed", self.layout.interface, "remove it with ip link delete"
                )
            time.sleep(0.01)

    def _spec(self, argv: Sequence[str], entry: Sequence[Path], environment: Mapping[str, str]) -> dict[str, Any]:
        init = self.init
        if init is None:
            raise MlscaleError("the node does not run", "its first process", "mlscale cluster up")
        return {
            "target": {"pid": init.pid, "start": init.start},
            "cgroup": [str(file) for file in entry],
            "argv": list(argv),
            "environment": {"PATH": PATH, **environment},
        }

    def _run(self, program: str, content: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-I", "-S", "-c", _BOOTSTRAP.format(program), *import_folders()]
        try:
            return subprocess.run(
                argv,
                input=json.dumps(content),
                capture_output=True,
                text=True,
                timeout=_START_AT_MOST_S,
                pass_fds=self._inherited_fds,
                cwd="/",
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MlscaleError("no answer", program, "try again; see `mlscale cluster status`") from error


def host_networks() -> list[str]:
    """Networks that the host has routes to, such as "192.0.2.0/24". Raises MlscaleError without iproute2."""
    routes: list[dict[str, Any]] = json.loads(_ip("-json", "-4", "route", "show", "table", "all") or "[]")
    return [str(route.get("dst", "")) for route in routes]


def forget_records(layout: NodeLayout) -> None:
    """Delete the records of parts of an earlier node."""
    for file in layout.records.glob("*.json"):
        file.unlink()


def _identity_fields(digest: str) -> dict[str, str]:
    here = ProcessIdentity.of(os.getpid())
    assert here is not None, "this process runs"
    return {"boot_id": here.boot_id, "pid_namespace": here.pid_namespace, "digest": digest}


def _ip(*words: str) -> str:
    try:
        result = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MlscaleError("the program ip is missing", "iproute2", "apt-get install iproute2") from error
    if result.returncode:
        raise MlscaleError(f"ip {' '.join(words)}: {result.stderr.strip()}", "the node's link", "run as root")
    return result.stdout
