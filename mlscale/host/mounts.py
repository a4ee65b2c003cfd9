"""Mounts from /proc/self/mountinfo (proc(5)). Not from psutil, which mixes up the superblock options that name cgroup
v1 controllers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MOUNTINFO: Final = Path("/proc/self/mountinfo")


@dataclass(frozen=True, slots=True)
class MountPoint:
    """One mount: where, the file system's type ("ext4", "cgroup2") and the options of its superblock."""

    path: Path
    kind: str
    options: tuple[str, ...]


def read_mounts(file: Path = MOUNTINFO) -> Iterator[MountPoint]:
    """All mounts of this process, in mount order. Raises OSError."""
    for line in file.read_text().splitlines():
        mount, _, superblock = line.partition(" - ")
        kind, _, options = superblock.split(" ", 2)
        yield MountPoint(Path(mount.split(" ")[4]), kind, tuple(options.split(",")))
