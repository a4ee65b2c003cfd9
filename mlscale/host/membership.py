"""Which processes a sandbox holds and which subject each belongs to, with or without cgroups."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mlscale.host.cgroups import Tree
from mlscale.host.processes import ROLE_VARIABLE, environment_of, inside_pid, marked_pids, process_start
from mlscale.host.proctable import ProcessUsage, Usage, descendants, nearest, read_table
from mlscale.host.replica_launcher import read_starts
from mlscale.host.sampling import rss_bytes
from mlscale.runs import MlscaleError, Role


@dataclass(frozen=True, slots=True)
class BoxProcess:
    """One process of a sandbox: its pid inside it and its pid here (the same without a pid namespace)."""

    inside: int
    outside: int


class Members(Protocol):
    """The processes of one sandbox, by subject: "replica-<pid inside>" or a role."""

    def subjects(self) -> dict[str, tuple[BoxProcess, ...]]:
        """Subject -> its processes, lowest pid inside first; may include subjects without processes."""
        ...

    def move(self, process: BoxProcess, role: Role) -> None:
        """Raises ProcessLookupError."""
        ...

    def usage(self) -> dict[str, Usage]:
        """Use by every subject."""
        ...


class CgroupMembers:
    """By cgroup: complete and exact."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def subjects(self) -> dict[str, tuple[BoxProcess, ...]]:
        return {name: _pairs(group.pids()) for name, group in self._tree.children().items()}

    def move(self, process: BoxProcess, role: Role) -> None:
        self._tree.group(role).add(process.outside)

    def usage(self) -> dict[str, Usage]:
        usage: dict[str, Usage] = {}
        for name, group in self._tree.children().items():
            cpu = group.read()
            if cpu is not None:
                usage[name] = Usage(cpu, rss_bytes(group.pids()))
        shared = None if self._tree.shared is None else self._tree.shared.read()
        if shared is not None and "data_plane" in usage:  # its only quota is the shared one
            own = usage["data_plane"]
            usage["data_plane"] = replace(own, cpu=replace(shared, cpu_s=own.cpu.cpu_s))
        return usage


class ScannedMembers:
    """Without cgroups: finds processes by pid namespace, else by the marker in their environment, else (without /proc)
    by ancestry. A process's subject follows from its ancestry and environment.

    Args:
        marker: value of `MARKER_VARIABLE`.
        records: folder of the replica wrappers' records.
        first: pid of process 1 of the pid namespace; None without one.
        roots: pid -> role of spawned processes; the sandbox adds to it.
    """

    def __init__(self, marker: str, records: Path, first: int | None, roots: Mapping[int, Role]) -> None:
        self._marker, self._records, self._roots = marker, records, roots
        self._namespace = None if first is None else _pid_namespace_of(first)
        self._first = first
        self._moved: dict[int, str] = {}
        self._usage = ProcessUsage()

    def subjects(self) -> dict[str, tuple[BoxProcess, ...]]:
        members = _pairs(self._pids())
        subject_of = self._subjects_of(members)
        by_subject: dict[str, list[BoxProcess]] = {}
        for member in members:
            by_subject.setdefault(subject_of[member.outside], []).append(member)
        return {subject: tuple(processes) for subject, processes in by_subject.items()}

    def move(self, process: BoxProcess, role: Role) -> None:
        if process_start(process.outside) is None:
            raise ProcessLookupError(process.outside)
        self._moved[process.outside] = role

    def usage(self) -> dict[str, Usage]:
        members = _pairs(self._pids())
        subject_of = self._subjects_of(members)
        return self._usage.read(read_table(subject_of), lambda pid: subject_of[pid])

    def _pids(self) -> tuple[int, ...]:
        if not Path("/proc/self").exists():
            return descendants(read_table(), self._roots)
        if self._namespace is None:
            return marked_pids(self._marker)
        pids = (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        return tuple(pid for pid in pids if pid != self._first and _pid_namespace_of(pid) == self._namespace)

    def _subjects_of(self, members: tuple[BoxProcess, ...]) -> dict[int, str]:
        outside = {member.inside: member.outside for member in members}
        starts = {
            outside[start.pid_inside]: start.subject
            for start in read_starts(self._records)
            if start.pid_inside in outside
        }
        names: Mapping[int, str] = {**self._roots, **starts, **self._moved}
        table = read_table()

        def parent(pid: int) -> int | None:
            return table[pid].parent if pid in table else None

        return {pid: nearest(pid, parent, names) or _role_in_environment(pid) for pid in outside.values()}


def find_process(members: Members, pid_inside: int, box: str) -> BoxProcess:
    """The process with this pid inside. Raises MlscaleError if there is none."""
    for processes in members.subjects().values():
        for process in processes:
            if process.inside == pid_inside:
                return process
    raise MlscaleError(f"it has no process {pid_inside}", f"sandbox {box}", "the process has ended; look it up again")


def _pairs(pids: tuple[int, ...]) -> tuple[BoxProcess, ...]:
    pairs = (BoxProcess(inside, pid) for pid in pids if (inside := inside_pid(pid)) is not None)
    return tuple(sorted(pairs, key=lambda pair: pair.inside))


def _pid_namespace_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 (not a path: "pid:[4026531836]")
    except OSError:
        return None


def _role_in_environment(pid: int) -> str:
    return environment_of(pid).get(ROLE_VARIABLE, "control_plane")
