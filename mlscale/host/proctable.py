"""CPU and memory by process, for hosts where no cgroup can be made: /proc on Linux, ps elsewhere."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlscale.host.cgroups import CpuReading
from mlscale.host.processes import stat_fields


@dataclass(frozen=True, slots=True)
class ProcessRow:
    """One process: its parent, the CPU it has used (s) and its resident set (bytes)."""

    parent: int
    cpu_s: float
    rss_bytes: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What one subject has used: cumulative CPU counters and its resident set now, bytes."""

    cpu: CpuReading
    rss_bytes: float


class ProcessUsage:
    """Adds processes up by subject.

    What a process used after the last call is lost when it ends in between (cgroups lose nothing: they come first).
    """

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}
        self._cpu_s: dict[str, float] = {}

    def read(self, table: Mapping[int, ProcessRow], subject_of: Callable[[int], str]) -> dict[str, Usage]:
        """Usage of every subject that has a process in ``table``; ``subject_of`` maps a pid to its subject."""
        rss: dict[str, float] = {}
        for pid, row in table.items():
            subject = subject_of(pid)
            rss[subject] = rss.get(subject, 0.0) + row.rss_bytes
            used_s = row.cpu_s - self._seen.get(pid, 0.0)
            self._cpu_s[subject] = self._cpu_s.get(subject, 0.0) + max(0.0, used_s)
        self._seen = {pid: row.cpu_s for pid, row in table.items()}
        return {subject: Usage(CpuReading(self._cpu_s[subject]), total) for subject, total in rss.items()}


def nearest(pid: int, parents: Callable[[int], int | None], named: Mapping[int, str]) -> str | None:
    """The name of the process itself or of its nearest named ancestor."""
    seen: set[int] = set()
    current: int | None = pid
    while current is not None and current > 1 and current not in seen:
        if current in named:
            return named[current]
        seen.add(current)
        current = parents(current)
    return None


def descendants(table: Mapping[int, ProcessRow], roots: Iterable[int]) -> tuple[int, ...]:
    """The processes of ``table`` that are in ``roots`` or come from one of them."""
    named = dict.fromkeys(roots, "")

    def parent(pid: int) -> int | None:
        return table[pid].parent if pid in table else None

    return tuple(pid for pid in table if nearest(pid, parent, named) is not None)


def read_table(pids: Iterable[int] | None = None) -> dict[int, ProcessRow]:
    """Rows of the processes ``pids`` (None: of all); those that have ended are left out."""
    if Path("/proc/self/stat").exists():
        chosen = pids if pids is not None else (int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
        return {pid: row for pid in chosen if (row := _proc_row(pid)) is not None}
    output = subprocess.run(
        ["ps", "-axo", "pid=,ppid=,time=,rss="], capture_output=True, text=True, check=False, timeout=10
    ).stdout
    table = parse_ps(output)
    return table if pids is None else {pid: table[pid] for pid in pids if pid in table}


def parse_ps(output: str) -> dict[int, ProcessRow]:
    """``ps -axo pid=,ppid=,time=,rss=``: time is [[days-]hours:]minutes:seconds, rss in KiB."""
    table: dict[int, ProcessRow] = {}
    for line in output.splitlines():
        pid, parent, used, rss = line.split()
        days, _, clock = used.rpartition("-")
        seconds = 0.0
        for part in clock.split(":"):
            seconds = seconds * 60 + float(part)
        table[int(pid)] = ProcessRow(int(parent), seconds + 86_400 * int(days or 0), 1024.0 * int(rss))
    return table


def _proc_row(pid: int) -> ProcessRow | None:
    fields = stat_fields(pid)
    if fields is None or fields[0] in "ZX":
        return None
    ticks = int(fields[11]) + int(fields[12])
    return ProcessRow(int(fields[1]), ticks / os.sysconf("SC_CLK_TCK"), float(fields[21]) * os.sysconf("SC_PAGE_SIZE"))
