"""A node's first process, its groups and its network link: made, entered, ended. The pure part is elsewhere."""

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

from mlscale.host.cgroups import group_pids, remove_tree
from mlscale.host.processes import ProcessIdentity, kill_until_none
from mlscale.runs import MlscaleError
from onenode.layout import BINDS, PATH, NodeLayout, import_folders
from onenode.node_cgroups import NodeGroups, node_groups
from onenode.parts import Part

_BOOTSTRAP: Final = "import sys; sys.path[:0] = sys.argv[1:]; from onenode.{0} import main; sys.exit(main())"
_START_AT_MOST_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Record:
    """A process of the node as its record names it. ``digest``: of what it was started with."""

    identity: ProcessIdentity
    digest: str

    @property
    def alive(self) -> bool:
        return self.identity.here_and_alive()


def read_record(file: Path) -> Record | None:
    """None where there is no record."""
    try:
        data = json.loads(file.read_text())
        return Record(ProcessIdentity.from_json(data), str(data["digest"]))
    except FileNotFoundError:
        return None


@dataclass(frozen=True, slots=True)
class Link:
    """A node's only network link. ``outer`` and ``inner``: addresses of its ends, in one network of 4 (/30). ``ways``
    are networks reached through it from inside (``ip route`` words), ``beyond`` those behind it from outside."""

    outer: str
    inner: str
    ways: tuple[tuple[str, ...], ...] = ()
    beyond: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """What a machine has: everything on it together can't use more. ``weight``: its share of the CPU among siblings, as
    `mlscale.host.cgroups.Group.set_weight` takes it."""

    cpu_cores: float
    memory_bytes: int
    weight: int


class Node:
    """One node on this host, whether it runs or not. ``passed_on``: descriptors that a program which is being started
    holds open until it runs (the lock)."""

    def __init__(self, layout: NodeLayout, passed_on: Sequence[int] = ()) -> None:
        self.layout = layout
        self.groups: NodeGroups = node_groups(layout.cgroup)
        self._passed_on = tuple(passed_on)

    @property
    def init(self) -> ProcessIdentity | None:
        """Its first process, None where it does not run."""
        record = read_record(self.layout.init)
        return record.identity if record is not None and record.alive else None

    def record(self, part: str) -> Record | None:
        """What `start` wrote down of a part."""
        return read_record(self.layout.records / f"{part}.json")

    def boot(self, limits: Limits | None = None, covers: Mapping[str, str] | None = None) -> None:
        """Start the first process in namespaces and groups of its own; what an earlier one left is ended before.

        Args:
            limits: None: it may use what the host has.
            covers: files and folders that are seen in the place of others inside, such as another /proc/meminfo.

        Raises:
            MlscaleError: the host refuses something; nothing is left then but the groups.
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
        options = [[mount.point.name, ",".join(mount.options)] for mount in self.groups.mounts]
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
            "identity": _whereabouts(""),
        }
        done = self._run("nodeinit", setup)
        answer = json.loads(done.stdout or '{"ok": false, "step": "start", "reason": ""}')
        if done.returncode or not answer["ok"]:
            self.kill()
            reason = f"{answer['step']}: {answer['reason']} {done.stderr.strip()[-300:]}".strip()
            raise MlscaleError(f"the node can't be made: {reason}", "its namespaces", "see `mlscale doctor`")
        self.groups.hand_down()

    def link(self, link: Link) -> None:
        """The node's only network link: one end out here, the other inside. Idempotent."""
        init, interface = self.init, self.layout.interface
        assert init is not None, "boot comes first"
        if not Path("/sys/class/net", interface).exists():
            _ip("link", "add", interface, "type", "veth", "peer", "name", "eth0", "netns", str(init.pid))
        _ip("link", "set", interface, "addrgenmode", "none", "up")
        _ip("address", "replace", f"{link.outer}/30", "dev", interface)
        inside = (
            ("address", "replace", f"{link.inner}/30", "dev", "eth0"),
            ("link", "set", "eth0", "addrgenmode", "none", "up"),
            *(("route", "replace", *way) for way in link.ways),
        )
        for words in inside:
            self.run(["ip", *words])
        for network in link.beyond:
            _ip("route", "replace", network, "via", link.inner, "dev", interface)

    def start(self, part: Part, digest: str) -> None:
        """Start a part; its record is written before it runs. Raises MlscaleError where that can't be."""
        group = self.groups.part(part.name)
        group.create()
        self.layout.records.mkdir(exist_ok=True, mode=0o700)
        spec = self._spec(part.argv, self.groups.entries_of(part.name), part.environment)
        spec |= {"log": str(self.layout.log(part.name)), "record": str(self.layout.records / f"{part.name}.json")}
        done = self._run("nodestart", spec | {"identity": _whereabouts(digest)})
        if done.returncode:
            raise MlscaleError(
                f"it can't be started: {done.stderr.strip()[-300:]}", part.name, "mlscale cluster status"
            )

    def run(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> str:
        """Run a command inside and return what it printed. Raises MlscaleError when it fails."""
        group = self.groups.part("tools")
        group.create()
        spec = self._spec(argv, self.groups.entries_of("tools"), environment or {})
        done = self._run("nodestart", spec | {"log": None, "record": None})
        if done.returncode:
            said = (done.stderr or done.stdout).strip()[-300:]
            raise MlscaleError(
                f"{Path(argv[0]).name} failed in the node: {said}", " ".join(argv[:3]), "see its message"
            )
        return done.stdout

    def end_part(self, name: str, grace_s: float) -> None:
        """SIGTERM, a bounded wait, SIGKILL. A part that does not run is left as it is."""
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
        """End the first process, and with it everything inside; back when nothing runs any more."""
        kill_until_none(lambda: group_pids(self.groups.folders), at_most_s=10)

    def clear(self) -> None:
        """`kill`, then remove what the kernel keeps: the groups and the host's end of the link. Idempotent.

        Raises:
            MlscaleError: something could not be removed.
        """
        init = self.init
        if init is not None:
            kill_until_none(lambda: (init.pid,) if init.here_and_alive() else (), at_most_s=10)
        self.kill()
        remove_tree(self.groups.folders)
        if Path("/sys/class/net", self.layout.interface).exists():
            with contextlib.suppress(MlscaleError):  # it goes by itself as soon as the namespace is gone
                _ip("link", "delete", self.layout.interface)
        deadline_s = time.monotonic() + 5
        while Path("/sys/class/net", self.layout.interface).exists():
            if time.monotonic() > deadline_s:
                raise MlscaleError("the interface stays", self.layout.interface, "ip link delete it by hand")
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
                pass_fds=self._passed_on,
                cwd="/",
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise MlscaleError("no answer", program, "try again; see `mlscale cluster status`") from error


def host_networks() -> list[str]:
    """Every network the host knows a way to, such as "192.0.2.0/24". Raises MlscaleError without iproute2."""
    routes: list[dict[str, Any]] = json.loads(_ip("-json", "-4", "route", "show", "table", "all") or "[]")
    return [str(route.get("dst", "")) for route in routes]


def forget_records(layout: NodeLayout) -> None:
    """Records of parts that ran in an earlier node."""
    for file in layout.records.glob("*.json"):
        file.unlink()


def _whereabouts(digest: str) -> dict[str, str]:
    here = ProcessIdentity.of(os.getpid())
    assert here is not None, "this process runs"
    return {"boot_id": here.boot_id, "pid_namespace": here.pid_namespace, "digest": digest}


def _ip(*words: str) -> str:
    try:
        done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise MlscaleError("the program ip is missing", "iproute2", "apt-get install iproute2") from error
    if done.returncode:
        raise MlscaleError(f"ip {' '.join(words)}: {done.stderr.strip()}", "the node's link", "run as root")
    return done.stdout
