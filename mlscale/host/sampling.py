"""Resource use of cgroups and of the host, from /proc and /sys/fs/cgroup."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from mlscale.host.cgroups import NAN
from mlscale.host.proctable import Usage
from mlscale.host.replica_launcher import REPLICA
from mlscale.runs import Clock, ResourceSample, Role

HOST: Final = "host"
_STOLEN: Final = "stolen"
_AT_ONCE_S: Final = 0.01
_READINGS: Final = 3


@dataclass(frozen=True, slots=True)
class HostCpu:
    """Cumulative CPU of the whole host, s: busy (user, nice, system, irq, softirq), total over all cores, and stolen by
    the hypervisor for other machines (in the total, not in busy)."""

    busy_s: float
    total_s: float
    stolen_s: float = 0.0


class Sampler:
    """Turns cumulative counters into rates: remembers each subject's last reading. Thread-safe.

    A rate is the counter's difference over the difference of the samples' own times, so rate times width adds up to
    what the counter says, whatever delays a reading. (A rate over the moments of reading doesn't: the reader that had
    to wait for a CPU between a counter and its time showed 7 cores in use on a host of 2.)
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def sample(self, clock: Clock, component: str, usage: Callable[[], Mapping[str, Usage]]) -> list[ResourceSample]:
        """One sample per subject and one for the host. Subjects named replica-* are replicas, others are roles.

        All carry one time, the middle of the reading.
        """
        with self._lock:
            t_s, used, host = _read_at_once(clock, usage)
            samples = [self._row(t_s, component, subject, one) for subject, one in used.items()]
            samples.append(self._host(t_s, component, host))
            for subject in self._last.keys() - {_STOLEN, *(sample.subject for sample in samples)}:
                del self._last[subject]
            return samples

    def _row(self, t_s: float, component: str, subject: str, usage: Usage) -> ResourceSample:
        role: Role = "replica" if subject.startswith(REPLICA) else cast("Role", subject)
        cpu = usage.cpu
        quota = (cpu.nr_periods, cpu.nr_throttled, cpu.throttled_s)
        cores = self._rate(subject, t_s, cpu.cpu_s)
        return ResourceSample(t_s, component, subject, role, cores, usage.rss_bytes, *quota)

    def _host(self, t_s: float, component: str, cpu: HostCpu | None) -> ResourceSample:
        cores = NAN if cpu is None else self._rate(HOST, t_s, cpu.busy_s)
        stolen = NAN if cpu is None else self._rate(_STOLEN, t_s, cpu.stolen_s)
        pressure_pct = cpu_pressure_avg10_pct()
        return ResourceSample(
            t_s,
            component,
            HOST,
            "host",
            cores,
            memory_in_use_bytes(),
            psi_avg10_pct=pressure_pct,
            stolen_cores=stolen,
        )

    def _rate(self, subject: str, t_s: float, cpu_s: float) -> float:
        last = self._last.get(subject)
        self._last[subject] = (t_s, cpu_s)
        return NAN if last is None or t_s <= last[0] else (cpu_s - last[1]) / (t_s - last[0])


def _read_at_once(
    clock: Clock, usage: Callable[[], Mapping[str, Usage]]
) -> tuple[float, Mapping[str, Usage], HostCpu | None]:
    """All counters, and the middle of the time that reading them took; read again where that was long."""
    for _ in range(_READINGS):
        begin_s = clock()
        used, host = usage(), host_cpu()
        end_s = clock()
        if end_s - begin_s <= _AT_ONCE_S:
            break
    return (begin_s + end_s) / 2, used, host


def host_cpu(proc: Path = Path("/proc")) -> HostCpu | None:
    """CPU counters of the host; None where there is no /proc/stat."""
    try:
        line = (proc / "stat").read_text().partition("\n")[0]
    except OSError:
        return None
    ticks = [float(field) for field in line.split()[1:9]]
    hertz = os.sysconf("SC_CLK_TCK")
    idle, stolen = ticks[3] + ticks[4], sum(ticks[7:8])
    return HostCpu((sum(ticks) - idle - stolen) / hertz, sum(ticks) / hertz, stolen / hertz)


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
    """Sum of the proportional set sizes, bytes: shared pages are divided among their users. Costs ms a process."""
    total = 0
    for pid in pids:
        try:
            text = (proc / str(pid) / "smaps_rollup").read_text()
        except OSError:
            continue
        found = re.search(r"^Pss:\s+(\d+) kB$", text, re.MULTILINE)
        total += int(found[1]) * 1024 if found else 0
    return float(total)
