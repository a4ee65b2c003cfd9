"""Resource use of cgroups and of the host, from /proc and /sys/fs/cgroup."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.host.cgroups import NAN, CpuReading, Group
from mlscale.host.wrapper import REPLICA
from mlscale.runs import Clock, ResourceSample, Role

HOST: Final = "host"


@dataclass(frozen=True, slots=True)
class HostCpu:
    """Cumulative CPU of the whole host, s: busy (user, nice, system, irq, softirq, steal) and total over all cores."""

    busy_s: float
    total_s: float


class Sampler:
    """Turns cumulative counters into rates: remembers each subject's last reading. Thread-safe."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def sample(self, clock: Clock, component: str, groups: Mapping[str, Group]) -> list[ResourceSample]:
        """One sample per group that still exists, and one for the host. Groups named replica-* are replicas."""
        with self._lock:
            samples = [found for name, group in groups.items() if (found := self._group(clock, component, name, group))]
            samples.append(self._host(clock, component))
            gone = self._last.keys() - {sample.subject for sample in samples}
            for subject in gone:
                del self._last[subject]
            return samples

    def _group(self, clock: Clock, component: str, name: str, group: Group) -> ResourceSample | None:
        t_s, reading = clock(), group.read()
        if reading is None:
            return None
        role: Role = "replica" if name.startswith(REPLICA) else name  # type: ignore[assignment]  # groups are named by role
        return self._row(t_s, component, name, role, reading, rss_bytes(group.pids()))

    def _row(self, t_s: float, component: str, subject: str, role: Role, reading: CpuReading, rss: float) -> ResourceSample:
        cores = self._rate(subject, t_s, reading.cpu_s)
        return ResourceSample(
            t_s, component, subject, role, cores, rss, reading.nr_periods, reading.nr_throttled, reading.throttled_s
        )

    def _host(self, clock: Clock, component: str) -> ResourceSample:
        t_s, cpu = clock(), host_cpu()
        cores = NAN if cpu is None else self._rate(HOST, t_s, cpu.busy_s)
        return ResourceSample(t_s, component, HOST, "host", cores, memory_in_use_bytes(), psi_avg10_pct=cpu_pressure_avg10_pct())

    def _rate(self, subject: str, t_s: float, cpu_s: float) -> float:
        last = self._last.get(subject)
        self._last[subject] = (t_s, cpu_s)
        return NAN if last is None or t_s <= last[0] else (cpu_s - last[1]) / (t_s - last[0])


def host_cpu(proc: Path = Path("/proc")) -> HostCpu | None:
    """CPU counters of the host; None where there is no /proc/stat."""
    try:
        line = (proc / "stat").read_text().partition("\n")[0]
    except OSError:
        return None
    ticks = [float(field) for field in line.split()[1:9]]
    hertz = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    return HostCpu((sum(ticks) - idle) / hertz, sum(ticks) / hertz)


def memory_in_use_bytes(proc: Path = Path("/proc")) -> float:
    """MemTotal - MemAvailable of the host, bytes; NaN where there is no /proc/meminfo."""
    try:
        found = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE))
    except OSError:
        return NAN
    return 1024.0 * (int(found["MemTotal"]) - int(found["MemAvailable"]))


def cpu_pressure_avg10_pct(proc: Path = Path("/proc")) -> float:
    """PSI: share of the last 10 s in which some task waited for a CPU, %; NaN where the kernel has none."""
    try:
        text = (proc / "pressure/cpu").read_text()
    except OSError:
        return NAN
    found = re.search(r"^some avg10=([\d.]+)", text, re.MULTILINE)
    return float(found[1]) if found else NAN


def rss_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Sum of the resident sets, bytes; processes that have ended count as 0."""
    page = os.sysconf("SC_PAGE_SIZE")
    pages = 0
    for pid in pids:
        try:
            pages += int((proc / str(pid) / "statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return float(pages * page)


def pss_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> float:
    """Sum of the proportional set sizes, bytes: shared pages are divided among their users. Costs milliseconds a process."""
    total = 0
    for pid in pids:
        try:
            text = (proc / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return float(total)
