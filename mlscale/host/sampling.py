"""Resource use of cgroups and of the host, from /proc and /sys/fs/cgroup."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import psutil

from mlscale.host.cgroups import NAN
from mlscale.host.proctable import Usage
from mlscale.host.replica_launcher import REPLICA
from mlscale.runs import Clock, ResourceSample, Role

HOST: Final = "host"
_STOLEN: Final = "stolen"
_SLOW_READING_S: Final = 0.01
_READINGS: Final = 3


@dataclass(frozen=True, slots=True)
class HostCpu:
    """Cumulative CPU time of the whole host, s, over all cores: busy (user, nice, system, irq, softirq), total, and
    stolen by the hypervisor for other machines (in total, not in busy)."""

    busy_s: float
    total_s: float
    stolen_s: float = 0.0


class Sampler:
    """Turns cumulative counters into rates: remembers each subject's last reading. Thread-safe.

    A rate is the counter's difference divided by the difference of the sample times, so rates times intervals add up to
    the counter even if a reading is delayed. (Dividing by the times of reading does not: a reader that waited for a CPU
    between reading counter and clock reported 7 busy cores on a host with 2.)
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[float, float]] = {}
        self._lock = threading.Lock()

    def sample(self, clock: Clock, component: str, usage: Callable[[], Mapping[str, Usage]]) -> list[ResourceSample]:
        """One sample per subject and one for the host. Subjects named replica-* are replicas, the others roles.

        All have the same time, the middle of the reading.
        """
        with self._lock:
            t_s, used, host = _read_counters(clock, usage)
            samples = [self._row(t_s, component, subject, use) for subject, use in used.items()]
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


def _read_counters(
    clock: Clock, usage: Callable[[], Mapping[str, Usage]]
) -> tuple[float, Mapping[str, Usage], HostCpu | None]:
    """All counters and the midpoint of reading them; reads again if that took long."""
    for _ in range(_READINGS):
        start_s = clock()
        used, host = usage(), host_cpu()
        end_s = clock()
        if end_s - start_s <= _SLOW_READING_S:
            break
    return (start_s + end_s) / 2, used, host


def host_cpu() -> HostCpu | None:
    """CPU counters of the host; None where /proc/stat can't be read."""
    try:
        times = psutil.cpu_times()
    except OSError:
        return None
    total_s = sum(times[:8])  # guest time follows, which is in user and nice already
    idle_s, stolen_s = times.idle + getattr(times, "iowait", 0.0), getattr(times, "steal", 0.0)
    return HostCpu(total_s - idle_s - stolen_s, total_s, stolen_s)


def memory_in_use_bytes() -> float:
    """Total less available memory of the host, bytes; NaN where /proc/meminfo can't be read."""
    try:
        memory = psutil.virtual_memory()
    except OSError:
        return NAN
    return float(memory.total - memory.available)


def cpu_pressure_avg10_pct(proc: Path = Path("/proc")) -> float:
    """PSI: share of the last 10 s in which some task waited for a CPU, %; NaN if the kernel lacks PSI."""
    try:
        text = (proc / "pressure/cpu").read_text()
    except OSError:
        return NAN
    match = re.search(r"^some avg10=([\d.]+)", text, re.MULTILINE)
    return float(match[1]) if match else NAN


def rss_bytes(pids: Iterable[int]) -> float:
    """Sum of the resident sets, bytes; processes that have ended count as 0.

    Reads statm itself: creating a psutil.Process for each pid would more than double the cost of a sample.
    """
    page = os.sysconf("SC_PAGE_SIZE")
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, IndexError):
            continue
    return float(pages * page)
