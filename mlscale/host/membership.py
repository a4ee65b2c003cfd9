"""Which processes a sandbox holds and what each counts as, with cgroups or without."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from mlscale.host.cgroups import Tree
from mlscale.host.processes import ROLE_VARIABLE, environment_of, inside_pid, marked_pids, process_start
from mlscale.host.proctable import ProcessUsage, Usage, descendants, nearest, read_table
from mlscale.host.replica_launcher import REPLICA, read_starts
from mlscale.host.sampling import rss_bytes
from mlscale.runs import MlscaleError, Role


@dataclass(frozen=True, slots=True)
class BoxProcess:
    """One process of a sandbox: its pid as seen inside and as seen from here (the same where nothing isolates)."""

    inside: int
    outside: int


class Members(Protocol):
    """The processes of one sandbox, by subject: "replica-<pid inside>" or a role."""

    def subjects(self) -> dict[str, tuple[BoxProcess, ...]]:
        """Subject -> its processes, lowest pid inside first; subjects without processes may be there, empty."""
        ...

    def move(self, process: BoxProcess, role: Role) -> None:
        """Raises ProcessLookupError."""
        ...

    def usage(self) -> dict[str, Usage]:
        """What every subject has used."""
        ...

    def drop_empty_replicas(self) -> tuple[str, ...]: ...


class CgroupMembers:
    """By cgroup: complete and exact."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def subjects(self) -> dict[str, tuple[BoxProcess, ...]]:
        return {name: _pairs(group.pids()) for name, group in self._tree.children().items()}

    def move(self, process: BoxProcess, role: Role) -> None:
        self._tree.group(role).add(process.outside)

    def usage(self) -> dict[str, Usage]:
        found: dict[str, Usage] = {}
        for name, group in self._tree.children().items():
            cpu = group.read()
            if cpu is not None:
                found[name] = Usage(cpu, rss_bytes(group.pids()))
        shared = None if self._tree.shared is None else self._tree.shared.read()
        if shared is not None and "data_plane" in found:  # which has no quota but the one it shares
            one = found["data_plane"]
            found["data_plane"] = replace(one, cpu=replace(shared, cpu_s=one.cpu.cpu_s))
        return found

    def drop_empty_replicas(self) -> tuple[str, ...]:
        dropped: list[str] = []
        for subject, group in self._tree.children().items():
            if subject.startswith(REPLICA) and not group.pids():
                try:
                    group.remove()
                except OSError:
                    continue  # entered again, or its last process is still being taken down: the next call takes it
                dropped.append(subject)
        return tuple(dropped)


class ScannedMembers:
    """By pid namespace, or else by the marker in the environment, or (without /proc) by ancestry.

    The subject by ancestry and environment. ``roots``: pid -> role of what was spawned, filled by the sandbox.
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
        found: dict[str, list[BoxProcess]] = {}
        for member in members:
            found.setdefault(subject_of[member.outside], []).append(member)
        return {subject: tuple(processes) for subject, processes in found.items()}

    def move(self, process: BoxProcess, role: Role) -> None:
        if process_start(process.outside) is None:
            raise ProcessLookupError(process.outside)
        self._moved[process.outside] = role

    def usage(self) -> dict[str, Usage]:
        members = _pairs(self._pids())
        subject_of = self._subjects_of(members)
        return self._usage.read(read_table(subject_of), lambda pid: subject_of[pid])

    def drop_empty_replicas(self) -> tuple[str, ...]:
        return ()

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
        named: Mapping[int, str] = {**self._roots, **starts, **self._moved}
        table = read_table()

        def parent(pid: int) -> int | None:
            return table[pid].parent if pid in table else None

        return {pid: nearest(pid, parent, named) or _role_in_environment(pid) for pid in outside.values()}


def find_process(members: Members, pid_inside: int, box: str) -> BoxProcess:
    """The process with this pid inside. Raises MlscaleError when there is none."""
    for processes in members.subjects().values():
        for process in processes:
            if process.inside == pid_inside:
                return process
    raise MlscaleError(f"no process {pid_inside} inside", f"sandbox {box}", "it has ended; look it up again")


def _pairs(pids: tuple[int, ...]) -> tuple[BoxProcess, ...]:
    pairs = (BoxProcess(inside, pid) for pid in pids if (inside := inside_pid(pid)) is not None)
    return tuple(sorted(pairs, key=lambda pair: pair.inside))


def _pid_namespace_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115 (no path: "pid:[4026531836]")
    except OSError:
        return None


def _role_in_environment(pid: int) -> str:
    return environment_of(pid).get(ROLE_VARIABLE, "control_plane")
