"""CPU cgroups, version 1 (cpu and cpuacct) and version 2, as one small tree per sandbox.

``mlscale-<id>`` with one child per role and one per replica. Nothing here knows about processes beyond their pids.
"""

from __future__ import annotations

import errno
import os
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mlscale.runs import MlscaleError

NAN: Final = float("nan")
MOUNTINFO: Final = Path("/proc/self/mountinfo")
# cgroup v2 weights (1 to 10000, default 100); v1 shares are weight * 10.24.
_WEIGHTS: Final[Mapping[str, int]] = {"load_generator": 10_000}
_TREE_WEIGHT: Final = 1_000
# Weight of the group that data plane and replicas share: the sum of a data plane's and four replicas' weights.
_SHARED_WEIGHT: Final = 500
SHARED: Final = "application"
_APART: Final = frozenset({"control_plane", "load_generator"})
# Share of each CPU for a load generator's real-time tasks. The kernel allows 0.95 in total, enough for two sandboxes.
_REALTIME_SHARE: Final = 0.45


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount: where, the file system's type ("ext4", "cgroup2") and the options of its superblock."""

    path: Path
    kind: str
    options: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """Where groups can be created: ``roots`` has "cpu" and "cpuacct" (v1, maybe one mount) or "unified" (v2)."""

    version: Literal[1, 2]
    roots: Mapping[str, Path]


@dataclass(frozen=True, slots=True)
class Budget:
    """One CPU quota over the whole data path: the data plane and all replicas together."""

    cores: float
    period_s: float


@dataclass(frozen=True, slots=True)
class CpuReading:
    """Cumulative CPU counters of one group; quota counters are NaN where there is no quota."""

    cpu_s: float
    nr_periods: float = NAN
    nr_throttled: float = NAN
    throttled_s: float = NAN


@dataclass(frozen=True, slots=True)
class Group:
    """One cgroup: its folder in every hierarchy in use (one folder in v2, one or two in v1)."""

    version: Literal[1, 2]
    folders: tuple[Path, ...]
    """The folder of the cpu controller first."""

    @property
    def entry_files(self) -> tuple[Path, ...]:
        """Writing a pid to these files moves that process in; "0" moves the writer."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def create(self) -> None:
        """Create the folders unless they exist. Raises OSError."""
        for folder in self.folders:
            folder.mkdir(exist_ok=True)

    def set_weight(self, weight: int) -> None:
        """Share of the CPU against siblings: v2 scale, 1 to 10000, default 100. Raises OSError."""
        if self.version == 2:
            (self.folders[0] / "cpu.weight").write_text(str(weight))
        else:
            (self.folders[0] / "cpu.shares").write_text(str(round(weight * 10.24)))

    def set_quota(self, cores: float, period_s: float) -> None:
        """At most ``cores`` * ``period_s`` of CPU in each period (1 ms to 1 s). Raises OSError."""
        for name, text in quota_files(self.version, cores, period_s):
            (self.folders[0] / name).write_text(text)

    def allow_realtime(self) -> bool:
        """Give the group a budget for real-time tasks, where the kernel requires one (v1 with RT_GROUP_SCHED).

        Returns whether real-time tasks may run in it: False if the parent group has no budget left.
        """
        budget = self.folders[0] / "cpu.rt_runtime_us"
        if not budget.exists():
            return True
        period_us = int((self.folders[0] / "cpu.rt_period_us").read_text())
        try:
            budget.write_text(str(round(_REALTIME_SHARE * period_us)))
        except OSError:
            return False
        return True

    def add(self, pid: int) -> None:
        """Move in the process ``pid`` (of this pid namespace). Raises OSError."""
        for file in self.entry_files:
            file.write_text(str(pid))

    def pids(self) -> tuple[int, ...]:
        """Its processes, as pids of this namespace; empty if the group is gone."""
        try:
            return tuple(int(line) for line in (self.folders[0] / "cgroup.procs").read_text().split())
        except OSError:
            return ()

    def read(self) -> CpuReading | None:
        """Its counters; None if the group is gone."""
        try:
            return self._read_v2() if self.version == 2 else self._read_v1()
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENODEV):
                return None
            raise

    def _read_v1(self) -> CpuReading:
        cpu_s = int((self.folders[-1] / "cpuacct.usage").read_text()) / 1e9
        stat = _flat_keyed(self.folders[0] / "cpu.stat")
        if int((self.folders[0] / "cpu.cfs_quota_us").read_text()) < 0:
            return CpuReading(cpu_s)
        return CpuReading(cpu_s, stat["nr_periods"], stat["nr_throttled"], stat["throttled_time"] / 1e9)

    def _read_v2(self) -> CpuReading:
        stat = _flat_keyed(self.folders[0] / "cpu.stat")
        cpu_s = stat["usage_usec"] / 1e6
        if (self.folders[0] / "cpu.max").read_text().startswith("max"):
            return CpuReading(cpu_s)
        return CpuReading(cpu_s, stat["nr_periods"], stat["nr_throttled"], stat["throttled_usec"] / 1e6)


class Tree:
    """The cgroups of one sandbox. Its folders follow from ``name``, so they can be recorded before they exist.

    With a ``budget``, data plane and replicas are in a common group, which has that quota.
    """

    def __init__(self, hierarchy: Hierarchy, name: str, budget: Budget | None = None) -> None:
        self.version = hierarchy.version
        self.budget = budget
        self._folders = tuple(dict.fromkeys(root / name for root in hierarchy.roots.values()))
        self.realtime = False
        """Whether the load generator's group takes real-time tasks; known once the tree is created."""
        self.root = Group(self.version, self._folders)
        self.shared = None if budget is None else Group(self.version, tuple(top / SHARED for top in self._folders))
        """The common group of data plane and replicas; None without a budget."""

    @property
    def replica_folders(self) -> tuple[Path, ...]:
        """The parents of the replicas' groups in every hierarchy, the cpu controller's first."""
        return self._folders if self.shared is None else self.shared.folders

    @property
    def folders(self) -> tuple[Path, ...]:
        """The top folder in every hierarchy: what `remove_tree` needs."""
        return self._folders

    def create(self, roles: tuple[str, ...]) -> None:
        """Create the tree and a group for each role.

        Raises:
            OSError: remove what exists with `remove_tree`.
            MlscaleError: a budget that the kernel can't enforce.
        """
        self._create_inner(self.root, _TREE_WEIGHT)
        if self.shared is not None and self.budget is not None:
            self._create_inner(self.shared, _SHARED_WEIGHT)
            self.shared.set_quota(self.budget.cores, self.budget.period_s)
        for role in roles:
            group = self.group(role)
            group.create()
            group.set_weight(_WEIGHTS.get(role, 100))
        if "load_generator" in roles:
            self.realtime = self.root.allow_realtime() and self.group("load_generator").allow_realtime()

    def _create_inner(self, group: Group, weight: int) -> None:
        group.create()
        if self.version == 2:
            (group.folders[0] / "cgroup.subtree_control").write_text("+cpu")
        group.set_weight(weight)

    def group(self, name: str) -> Group:
        """The role's or replica's group ``name``, whether it exists or not."""
        above = self._folders if name in _APART else self.replica_folders
        return Group(self.version, tuple(folder / name for folder in above))

    def children(self) -> dict[str, Group]:
        """The groups of roles and replicas that exist, by name, sorted."""
        names = {name for top in {self._folders[0], self.replica_folders[0]} for name in _folders_in(top)}
        return {name: self.group(name) for name in sorted(names - {SHARED})}


def quota_files(version: Literal[1, 2], cores: float, period_s: float) -> tuple[tuple[str, str], ...]:
    """(file, text) pairs in writing order. Raises MlscaleError for a quota that the kernel can't enforce."""
    period_us, quota_us = round(period_s * 1e6), round(cores * period_s * 1e6)
    if not 1_000 <= period_us <= 1_000_000:
        raise MlscaleError(f"a CPU period of {period_s} s is out of range", "cpu_period_s", "use 0.001 to 1 s")
    if quota_us < 1_000:
        raise MlscaleError(
            f"{cores} core in a period of {period_s} s is {quota_us} us of CPU; the kernel requires 1000",
            "cpu_cores, cpu_period_s",
            "raise one of them",
        )
    if version == 2:
        return (("cpu.max", f"{quota_us} {period_us}"),)
    return (("cpu.cfs_period_us", str(period_us)), ("cpu.cfs_quota_us", str(quota_us)))


def read_mounts(file: Path = MOUNTINFO) -> Iterator[MountPoint]:
    """All mounts of this process (proc(5)), in mount order. Raises OSError.

    Not with psutil, which mixes up the superblock options that name cgroup v1 controllers.
    """
    for line in file.read_text().splitlines():
        mount, _, superblock = line.partition(" - ")
        kind, _, options = superblock.split(" ", 2)
        yield MountPoint(Path(mount.split(" ")[4]), kind, tuple(options.split(",")))


def find_hierarchy(mountinfo: Path = MOUNTINFO, own: Path = Path("/proc/self/cgroup")) -> Hierarchy | str:
    """Where this process may create CPU cgroups, or why it may not. Leaves nothing behind."""
    try:
        mounts, memberships = tuple(read_mounts(mountinfo)), own.read_text()
    except OSError:
        return "this system has no cgroups"
    reasons: list[str] = []
    for candidate in _candidates(mounts, memberships):
        reason = _try(candidate)
        if reason is None:
            return candidate
        reasons.append(reason)
    return "; ".join(dict.fromkeys(reasons)) or "no cgroup hierarchy with a cpu controller is mounted"


def quota_remedy() -> str:
    """What gives this user a place for CPU cgroups."""
    if sys.platform != "linux":
        return "use Linux; without quotas, replicas share all cores"
    if os.geteuid() == 0:
        return "let this container change its cgroups: docker run --privileged"
    bus = Path(os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")) / "bus"
    if bus.exists() and any(mount.kind == "cgroup2" for mount in read_mounts()):
        return "run as root, or: systemd-run --user --scope -p Delegate=yes mlscale ..."
    return "run as root; systemd can delegate none to this session (su opens no bus, a login by ssh does; cgroup v2)"


def remove_tree(folders: tuple[Path, ...], at_most_s: float = 5.0) -> None:
    """Remove the groups at and below ``folders``. (A group stays busy for a moment after its last process has ended.)

    Raises:
        MlscaleError: a group still has processes after ``at_most_s``.
    """
    deadline_s = time.monotonic() + at_most_s
    for top in folders:
        for folder in _deepest_first(top):
            while True:
                try:
                    folder.rmdir()
                except FileNotFoundError:
                    break
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > deadline_s:
                        raise MlscaleError(
                            f"the cgroup can't be removed: {error.strerror}",
                            str(folder),
                            "end the processes in it, then run `mlscale cleanup`",
                        ) from error
                    time.sleep(0.01)
                else:
                    break


def with_groups(tree: Tree | str, roles: tuple[str, ...]) -> Tree | str:
    """The sandbox's tree after creating its groups, or the reason why that failed."""
    if isinstance(tree, str):
        return tree
    try:
        tree.create(roles)
    except OSError as error:
        remove_tree(tree.folders)
        return f"no cgroups: {error}"
    return tree


def pids_below(folders: tuple[Path, ...]) -> tuple[int, ...]:
    """The processes in the groups at and below ``folders``, as pids of this namespace."""
    pids: set[int] = set()
    for top in folders:
        for folder in _deepest_first(top):
            pids.update(Group(2, (folder,)).pids())
    return tuple(sorted(pids))


def _deepest_first(top: Path) -> list[Path]:
    return [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]


def _candidates(mounts: Iterable[MountPoint], memberships: str) -> list[Hierarchy]:
    """v1 with cpu and cpuacct before v2; in each, this process's own group before the groups above it."""
    own: dict[str, str] = {}
    for line in memberships.splitlines():
        _, controllers, path = line.split(":", 2)
        own.update(dict.fromkeys(controllers.split(",") if controllers else ["unified"], path))
    points: dict[str, Path] = {}
    for mount in mounts:
        if mount.kind == "cgroup2":
            points.setdefault("unified", mount.path)
        elif mount.kind == "cgroup":
            for controller in {"cpu", "cpuacct"}.intersection(mount.options):
                points.setdefault(controller, mount.path)
    candidates: list[Hierarchy] = []
    if {"cpu", "cpuacct"} <= points.keys():
        inner = {name: points[name] / own.get(name, "/").lstrip("/") for name in ("cpu", "cpuacct")}
        outer = {name: points[name] for name in ("cpu", "cpuacct")}
        candidates += [Hierarchy(1, inner)] + ([Hierarchy(1, outer)] if outer != inner else [])
    if "unified" in points:
        top = points["unified"]
        inner_v2 = top / own.get("unified", "/").lstrip("/")
        folders = (folder for folder in [inner_v2, *inner_v2.parents] if folder.is_relative_to(top))
        candidates += [Hierarchy(2, {"unified": folder}) for folder in folders]
    return candidates


def _try(hierarchy: Hierarchy) -> str | None:
    """None if a group can be created here (the probe is removed), else the reason."""
    root = next(iter(hierarchy.roots.values()))
    if hierarchy.version == 2:
        try:
            if "cpu" not in (root / "cgroup.subtree_control").read_text().split():
                return f"the cpu controller is not delegated in {root} (its cgroup.subtree_control lacks it)"
        except OSError as error:
            return f"{root}: {error.strerror}"
    for root in hierarchy.roots.values():
        probe = root / f"mlscale-probe-{uuid.uuid4().hex[:8]}"
        try:
            probe.mkdir()
            probe.rmdir()
        except OSError as error:
            return f"no group can be created in {root}: {error.strerror}"
        if not os.access(root / "cgroup.procs", os.W_OK):
            return f"processes can't be moved below {root}"
    return None


def _folders_in(top: Path) -> list[str]:
    try:
        return [entry.name for entry in os.scandir(top) if entry.is_dir()]
    except FileNotFoundError:
        return []


def _flat_keyed(file: Path) -> dict[str, float]:
    return {key: float(value) for key, value in (line.split() for line in file.read_text().splitlines())}
