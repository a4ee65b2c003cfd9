"""The node's cgroups: one group at the top of every hierarchy that the host has mounted, and one per part in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from mlscale.host.cgroups import Group
from mlscale.runs import MlscaleError

_NEEDED: Final = ("cpu", "cpuacct", "memory", "pids")
_NEEDED_V2: Final = ("cpu", "memory", "pids")
_HANDED_DOWN: Final = ("cpuset", "cpu", "io", "memory", "hugetlb", "pids")
# As much as a sandbox has (`mlscale.host.cgroups`), so that environments compete on equal terms.
_WEIGHT: Final = 1_000
_PARTS: Final = "parts"


@dataclass(frozen=True, slots=True)
class Mount:
    """One hierarchy: where it is mounted, and with which options (v1: its controllers, or name=NAME; v2: none)."""

    point: Path
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class NodeGroups:
    """The groups of the node ``name`` in all hierarchies of one version."""

    version: Literal[1, 2]
    mounts: tuple[Mount, ...]
    name: str

    @property
    def folders(self) -> tuple[Path, ...]:
        """The node's own group in each hierarchy: what `mlscale.host.cgroups.remove_tree` needs."""
        return tuple(mount.point / self.name for mount in self.mounts)

    @property
    def entry_files(self) -> tuple[Path, ...]:
        """Files that take a process into the node's own groups."""
        return tuple(folder / "cgroup.procs" for folder in self.folders)

    def part(self, name: str) -> Group:
        """Where the part ``name`` is counted."""
        return Group(self.version, tuple(folder / _PARTS / name for folder in self.cpu_folders))

    def entries_of(self, name: str) -> tuple[Path, ...]:
        """Files that take a process into the part ``name``, in every hierarchy."""
        own = self.part(name).entry_files
        return own if self.version == 2 else (*self.entry_files, *own)

    def create(self) -> None:
        """Make the node's groups; those that exist stay. Raises MlscaleError where the host does not allow it."""
        try:
            for mount, folder in zip(self.mounts, self.folders, strict=True):
                folder.mkdir(exist_ok=True)
                if "cpuset" in mount.options:
                    _inherit_cpuset(folder)
            self.set_weight(_WEIGHT)
            Group(self.version, tuple(folder / _PARTS for folder in self.cpu_folders)).create()
        except OSError as error:
            raise MlscaleError(
                f"no cgroup can be made: {error}", "the node", "run as root, where cgroups can be written"
            ) from error

    def set_weight(self, weight: int) -> None:
        """Share of the CPU among siblings, as `mlscale.host.cgroups.Group.set_weight` takes it. Raises OSError."""
        Group(self.version, self.cpu_folders).set_weight(weight)

    def limit(self, cpu_cores: float, memory_bytes: int) -> None:
        """Bound what all in the node's groups use together.

        Raises:
            MlscaleError: a limit that the kernel can't keep.
        """
        Group(self.version, self.cpu_folders).set_quota(cpu_cores, 0.1)
        name = "memory.max" if self.version == 2 else "memory.limit_in_bytes"
        memory = next(
            folder
            for mount, folder in zip(self.mounts, self.folders, strict=True)
            if self.version == 2 or "memory" in mount.options
        )
        (memory / name).write_text(str(memory_bytes))

    def hand_down(self) -> None:
        """v2: what the kubelet limits pods by. Only once no process is in the node's own group any more."""
        if self.version == 2:
            folder = self.folders[0]
            has = (folder / "cgroup.controllers").read_text().split()
            for name in _HANDED_DOWN:
                if name in has:
                    (folder / "cgroup.subtree_control").write_text(f"+{name}")

    @property
    def cpu_folders(self) -> tuple[Path, ...]:
        """The node's own group where CPU is counted and limited: one or two folders in v1, one in v2."""
        if self.version == 2:
            return self.folders
        points = [next(one.point for one in self.mounts if name in one.options) for name in ("cpu", "cpuacct")]
        return tuple(point / self.name for point in dict.fromkeys(points))


def node_groups(name: str, mountinfo: Path = Path("/proc/self/mountinfo")) -> NodeGroups:
    """The groups that the node ``name`` has on this host, whether they exist or not.

    Raises:
        MlscaleError: a controller that Kubernetes needs is missing.
    """
    found = _mounts(mountinfo.read_text())
    old = tuple(mount for kind, mount in found if kind == "cgroup")
    missing = [name for name in _NEEDED if not any(name in mount.options for mount in old)]
    if not missing:
        return NodeGroups(1, old, name)
    for kind, mount in found:
        if kind == "cgroup2":
            missing = _missing_v2(mount.point)
            if not missing:
                return NodeGroups(2, (mount,), name)
    raise MlscaleError(
        f"no cgroup controller {', '.join(missing)}",
        "/sys/fs/cgroup",
        "boot with it, or hand it down: echo +cpu +memory +pids > /sys/fs/cgroup/cgroup.subtree_control",
    )


def _mounts(mountinfo: str) -> list[tuple[str, Mount]]:
    """(kind, mount) of every cgroup hierarchy, each once; for v1 with the controllers or the name as options."""
    found: dict[tuple[str, tuple[str, ...]], Mount] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind in ("cgroup", "cgroup2"):
            own = () if kind == "cgroup2" else tuple(one for one in options.split(",") if one not in ("rw", "ro"))
            words = tuple(
                one for one in own if one not in ("xattr", "clone_children", "noprefix") and "agent" not in one
            )
            found.setdefault((kind, words), Mount(Path(before.split(" ")[4]), words))
    return [(kind, mount) for (kind, _), mount in found.items()]


def _missing_v2(top: Path) -> list[str]:
    try:
        handed_down = (top / "cgroup.subtree_control").read_text().split()
    except OSError:
        return list(_NEEDED_V2)
    return [name for name in _NEEDED_V2 if name not in handed_down]


def _inherit_cpuset(folder: Path) -> None:
    """v1: a new cpuset is empty and takes no process; groups below it copy this one's."""
    (folder / "cgroup.clone_children").write_text("1")
    for name in ("cpuset.cpus", "cpuset.mems"):
        (folder / name).write_text((folder.parent / name).read_text().strip())
