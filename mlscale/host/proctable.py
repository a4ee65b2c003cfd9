"""CPU and memory per process, for hosts where no cgroup can be created: from /proc on Linux, from psutil elsewhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from mlscale.host.cgroups import CpuReading
from mlscale.host.proc_stat import stat_fields


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process: its parent, the CPU it has used (s) and its resident set (bytes)."""

    parent: int
    cpu_s: float
    rss_bytes: float


@dataclass(frozen=True, slots=True)
class Usage:
    """Use by one subject: cumulative CPU counters, and its present resident set in bytes."""

    cpu: CpuReading
    rss_bytes: float


class ProcessUsage:
    """Adds up processes by subject.

    What a process uses between the last call and its end is lost; cgroups, which lose nothing, are preferred.
    """

    def __init__(self) -> None:
        self._last_cpu_s: dict[int, float] = {}
        self._cpu_s: dict[str, float] = {}

    def read(self, table: Mapping[int, ProcessRow], subject_of: Callable[[int], str]) -> dict[str, Usage]:
        """Use by every subject with a process in ``table``; ``subject_of`` maps a pid to its subject."""
        rss: dict[str, float] = {}
        for pid, row in table.items():
            subject = subject_of(pid)
            rss[subject] = rss.get(subject, 0.0) + row.rss_bytes
            used_s = row.cpu_s - self._last_cpu_s.get(pid, 0.0)
            self._cpu_s[subject] = self._cpu_s.get(subject, 0.0) + max(0.0, used_s)
        self._last_cpu_s = {pid: row.cpu_s for pid, row in table.items()}
        return {subject: Usage(CpuReading(self._cpu_s[subject]), total) for subject, total in rss.items()}


def nearest(pid: int, parent_of: Callable[[int], int | None], names: Mapping[int, str]) -> str | None:
    """The name of process ``pid`` or of its nearest ancestor in ``names``."""
    visited: set[int] = set()
    current: int | None = pid
    while current is not None and current > 1 and current not in visited:
        if current in names:
            return names[current]
        visited.add(current)
        current = parent_of(current)
    return None


def descendants(table: Mapping[int, ProcessRow], roots: Iterable[int]) -> tuple[int, ...]:
    """The processes of ``table`` that are in ``roots`` or descend from one of them."""
    names = dict.fromkeys(roots, "")

    def parent(pid: int) -> int | None:
        return table[pid].parent if pid in table else None

    return tuple(pid for pid in table if nearest(pid, parent, names) is not None)


def read_table(pids: Iterable[int] | None = None) -> dict[int, ProcessRow]:
    """Rows of the processes ``pids`` (None: all); those that have ended are left out.

    On Linux it reads /proc itself: psutil takes 75 to 110 us a process, this 36 us, several times a second in a run.
    """
    if Path("/proc/self/stat").exists():
        selected = pids if pids is not None else (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        return {pid: row for pid in selected if (row := _proc_row(pid)) is not None}
    table = table_without_proc()
    return table if pids is None else {pid: table[pid] for pid in pids if pid in table}


def table_without_proc() -> dict[int, ProcessRow]:
    """All processes, by psutil; for those it may not read (macOS: other users'), only the parent is known."""
    table: dict[int, ProcessRow] = {}
    for process in psutil.process_iter(["ppid", "cpu_times", "memory_info"]):
        cpu, memory = process.info["cpu_times"], process.info["memory_info"]
        cpu_s = cpu.user + cpu.system if cpu else 0.0
        table[process.pid] = ProcessRow(process.info["ppid"], cpu_s, float(memory.rss if memory else 0))
    return table


def _proc_row(pid: int) -> ProcessRow | None:
    fields = stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    ticks = int(fields[11]) + int(fields[12])
    return ProcessRow(int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"), float(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
