"""The node's cgroups: a group at the top of every hierarchy mounted on the host, with a group for each part."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal

from mlscale.host.cgroups import MOUNTINFO, Group, MountPoint, read_mounts
from mlscale.runs import MlscaleError

_NEEDED: Final = ("cpu", "cpuacct", "memory", "pids")
_NEEDED_V2: Final = ("cpu", "memory", "pids")
_DELEGATED: Final = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
# As for a sandbox (`mlscale.host.cgroups`), so that all environments run under the same conditions.
_WEIGHT: Final = 1_000
_PARTS: Final = "parts"


@dataclass(frozen=True, slots=True)
class NodeGroups:
    """The groups of the node ``name`` in all hierarchies of one version.

    ``mounts``: options are a hierarchy's controllers or name=NAME (v1), or none (v2).
    """

    version: Literal[1, 2]
    mounts: tuple[MountPoint, ...]
    name: str

    @property
    def folders(self) -> tuple[Path, ...]:
        """The node's own group in each hierarchy, for `mlscale.host.cgroups.remove_tree`."""
        return tuple(mount.path / self.name for mount in self.mounts)

    @property
    def entry_files(self) -> tuple[Path, ...]:
        """cgroup.procs of the node's own groups."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def part(self, name: str) -> Group:
        """The group of the part ``name``."""
        return Group(self.version, tuple(folder / _PARTS / name for folder in self.cpu_folders))

    def entries_of(self, name: str) -> tuple[Path, ...]:
        """cgroup.procs files that move a process into the part ``name``, in every hierarchy."""
        own = self.part(name).entry_files
        return own if self.version == 2 else (*self.entry_files, *own)

    def create(self) -> None:
        """Create the node's groups where missing. Raises MlscaleError if the host does not allow it."""
        try:
            for mount, folder in zip(self.mounts, self.folders, strict=True):
                folder.mkdir(exist_ok=True)
                if "cpuset" in mount.options:
                    _inherit_cpuset(folder)
            self.set_weight(_WEIGHT)
            Group(self.version, tuple(folder / _PARTS for folder in self.cpu_folders)).create()
        except OSError as error:
            raise MlscaleError(
                f"cgroups can't be created: {error}", "the node", "run as root, with writable cgroups"
            ) from error

    def set_weight(self, weight: int) -> None:
        """Set the share of the CPU among siblings, see `mlscale.host.cgroups.Group.set_weight`. Raises OSError."""
        Group(self.version, self.cpu_folders).set_weight(weight)

    def limit(self, cpu_cores: float, memory_bytes: int) -> None:
        """Limit what everything in the node's groups uses together.

        Raises:
            MlscaleError: the kernel can't enforce the limit.
        """
        Group(self.version, self.cpu_folders).set_quota(cpu_cores, 0.1)
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        memory = next(
            folder
            for mount, folder in zip(self.mounts, self.folders, strict=True)
            if self.version == 2 or "memory" in mount.options
        )
        (memory / name).write_text(str(memory_bytes))

    def delegate(self) -> None:
        """v2: enable the controllers that the kubelet needs. Only while the node's own group has no process."""
        if self.version == 2:
            folder = self.folders[0]
            available = (folder / "cgroup.controllers").read_text().split()
            for name in _DELEGATED:
                if name in available:
                    (folder / "cgroup.subtree_control").write_text(f"+{name}")

    @property
    def cpu_folders(self) -> tuple[Path, ...]:
        """The node's own group in the CPU hierarchies: one or two folders in v1, one in v2."""
        if self.version == 2:
            return self.folders
        points = [next(one.path for one in self.mounts if name in one.options) for name in ("cpu", "cpuacct")]
        return tuple(point / self.name for point in dict.fromkeys(points))


def node_groups(name: str, mountinfo: Path = MOUNTINFO) -> NodeGroups:
    """The groups of the node ``name`` on this host, whether they exist or not.

    Raises:
        MlscaleError: a controller that Kubernetes needs is missing.
    """
    mounts = _mounts(mountinfo)
    v1_mounts = tuple(mount for mount in mounts if mount.kind == "cgroup")
    missing = [name for name in _NEEDED if not any(name in mount.options for mount in v1_mounts)]
    if not missing:
        return NodeGroups(1, v1_mounts, name)
    for mount in mounts:
        if mount.kind == "cgroup2":
            missing = _missing_v2(mount.path)
            if not missing:
                return NodeGroups(2, (mount,), name)
    raise MlscaleError(
        f"no cgroup controller {', '.join(missing)}",
        "/sys/fs/cgroup",
        "boot with it, or delegate it: echo +cpu +memory +pids > /sys/fs/cgroup/cgroup.subtree_control",
    )


def _mounts(mountinfo: Path) -> tuple[MountPoint, ...]:
    """Every cgroup hierarchy once; for v1 with controllers or name as options."""
    mounts: dict[tuple[str, tuple[str, ...]], MountPoint] = {}
    for mount in read_mounts(mountinfo):
        if mount.kind in ("cgroup", "cgroup2"):
            controllers = tuple(
                option
                for option in (() if mount.kind == "cgroup2" else mount.options)
                if option not in ("rw", "ro", "xattr", "clone_children", "noprefix") and "agent" not in option
            )
            mounts.setdefault((mount.kind, controllers), replace(mount, options=controllers))
    return tuple(mounts.values())


def _missing_v2(top: Path) -> list[str]:
    try:
        delegated = (top / "cgroup.subtree_control").read_text().split()
    except OSError:
        return list(_NEEDED_V2)
    return [name for name in _NEEDED_V2 if name not in delegated]


def _inherit_cpuset(folder: Path) -> None:
    """v1: a new cpuset is empty and accepts no process; child groups copy this one's."""
    (folder / "cgroup.clone_children").write_text("1")
    for name in ("cpuset.cpus", "cpuset.mems"):
        (folder / name).write_text((folder.parent / name).read_text().strip())
