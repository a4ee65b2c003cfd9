"""Rates, host counters, the wait for quiet, host facts: each against known numbers."""

from __future__ import annotations

import getpass
import itertools
import json
import math
import os
import platform
import subprocess
from dataclasses import astuple
from pathlib import Path

import psutil
import pytest

from mlscale.host.cgroups import CpuReading
from mlscale.host.facts import host_facts
from mlscale.host.processes import start_without_proc
from mlscale.host.proctable import ProcessRow, ProcessUsage, Usage, descendants, nearest, read_table, table_without_proc
from mlscale.host.quiet import wait_until_quiet
from mlscale.host.sampling import (
    HostCpu,
    Sampler,
    cpu_pressure_avg10_pct,
    host_cpu,
    memory_in_use_bytes,
    rss_bytes,
)
from mlscale.runs import MlscaleError

OTHER = "".join(f"{name}: 0 kB\n" for name in ("Buffers", "Cached", "Shmem", "Active", "Inactive", "Slab"))


def made_up_proc(folder: Path) -> Path:
    (folder / "pressure").mkdir()
    (folder / "stat").write_text("cpu  100 20 30 800 40 5 5 10 7 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
    (folder / "meminfo").write_text("MemTotal:     2000 kB\nMemFree:    100 kB\nMemAvailable:    500 kB\n" + OTHER)
    (folder / "pressure/cpu").write_text(
        "some avg10=12.34 avg60=3.66 avg300=4.45 total=43\nfull avg10=0.00 avg60=0 avg300=0 total=0\n"
    )
    (folder / "cpuinfo").write_text("model name\t: Some CPU\nflags\t\t: fpu hypervisor\n")
    return folder


def test_host_counters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    proc = made_up_proc(tmp_path)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(proc))
    hertz = os.sysconf("SC_CLK_TCK")
    cpu = host_cpu()
    assert cpu is not None
    assert astuple(cpu) == pytest.approx((160 / hertz, 1010 / hertz, 10 / hertz))
    assert memory_in_use_bytes() == 1500 * 1024
    assert cpu_pressure_avg10_pct(proc) == 12.34
    empty = tmp_path / "empty"
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(empty))
    assert host_cpu() is None
    assert math.isnan(memory_in_use_bytes())
    assert math.isnan(cpu_pressure_avg10_pct(empty))


def test_rates_are_since_a_subjects_last_sample() -> None:
    sampler = Sampler()

    def cores(subject_cpu_s: dict[str, float], at_s: float) -> dict[str, float]:
        usage = {subject: Usage(CpuReading(cpu_s, 1, 2, 3), 5.0) for subject, cpu_s in subject_cpu_s.items()}
        rows = sampler.sample(lambda: at_s, "app", lambda: usage)
        assert [row.subject for row in rows] == [*subject_cpu_s, "host"]
        assert {row.t_s for row in rows} == {at_s}
        assert {row.role for row in rows} <= {"replica", "data_plane", "host"}
        return {row.subject: row.cpu_cores for row in rows if row.role != "host"}

    assert all(map(math.isnan, cores({"replica-7": 1.0, "data_plane": 2.0}, 10.0).values()))
    assert cores({"replica-7": 1.3, "data_plane": 2.0}, 11.0) == pytest.approx({"replica-7": 0.3, "data_plane": 0.0})
    assert cores({"data_plane": 4.0}, 15.0) == pytest.approx({"data_plane": 0.5})
    assert math.isnan(cores({"replica-7": 1.3}, 16.0)["replica-7"]), "it came anew"


def test_a_reading_that_had_to_wait_is_taken_again_and_nothing_is_counted_twice() -> None:
    """One core in use all the time; every reading that ``waits`` names takes that long before the counter is seen."""
    now, waits = [0.0], [0.0, 0.4, 0.0, 0.3, 0.3, 0.3, 0.0]

    def usage() -> dict[str, Usage]:
        now[0] += waits.pop(0)
        return {"replica-1": Usage(CpuReading(now[0]), 0.0)}

    sampler = Sampler()
    rows = []
    for due_s in (0.0, 0.5, 1.0, 2.0):
        now[0] = max(now[0], due_s)
        rows.append(sampler.sample(lambda: now[0], "app", usage)[0])
    assert not waits
    assert [row.t_s for row in rows] == pytest.approx([0.0, 0.9, 1.75, 2.0])
    widths_s = [after.t_s - before.t_s for before, after in itertools.pairwise(rows)]
    used_s = sum(width * row.cpu_cores for width, row in zip(widths_s, rows[1:], strict=True))
    assert used_s == pytest.approx(2.0), "what the counter says"
    assert all(0.3 < row.cpu_cores < 1.4 for row in rows[1:])


def test_the_resident_set_of_this_process() -> None:
    own = rss_bytes([os.getpid()])
    assert own > 10e6
    assert rss_bytes([os.getpid(), 999999999]) == pytest.approx(own, rel=0.2)
    row = read_table([os.getpid()])[os.getpid()]
    assert row.parent == os.getppid()
    assert row.rss_bytes == pytest.approx(own, rel=0.2)
    assert 0 < row.cpu_s <= sum(os.times()[:2]) + 0.1


def test_processes_add_up_by_subject_and_never_fall() -> None:
    usage = ProcessUsage()
    subjects = {1: "a", 2: "a", 3: "b"}.__getitem__
    first = usage.read({1: ProcessRow(0, 1.0, 10), 2: ProcessRow(1, 2.0, 10), 3: ProcessRow(1, 5.0, 1)}, subjects)
    assert {name: (one.cpu.cpu_s, one.rss_bytes) for name, one in first.items()} == {"a": (3.0, 20), "b": (5.0, 1)}
    second = usage.read({1: ProcessRow(0, 1.5, 10)}, subjects)
    assert {name: (one.cpu.cpu_s, one.rss_bytes) for name, one in second.items()} == {"a": (3.5, 10)}


def test_the_nearest_named_ancestor() -> None:
    parents = {5: 4, 4: 3, 3: 1, 9: 9}.get
    assert nearest(5, parents, {3: "far", 4: "near"}) == "near"
    assert nearest(5, parents, {5: "own", 4: "near"}) == "own"
    assert nearest(5, parents, {}) is None
    assert nearest(9, parents, {}) is None


def test_descendants() -> None:
    table = {pid: ProcessRow(parent, 0, 0) for pid, parent in {2: 1, 3: 2, 4: 3, 5: 1, 6: 5}.items()}
    assert descendants(table, [3, 99]) == (3, 4)
    assert descendants(table, [2, 6]) == (2, 3, 4, 6)
    assert descendants(table, []) == ()


def test_systems_without_proc_have_the_same_table() -> None:
    own, other = read_table()[os.getpid()], table_without_proc()[os.getpid()]
    assert other.parent == own.parent
    assert other.cpu_s == pytest.approx(own.cpu_s, abs=0.5)
    assert other.rss_bytes == pytest.approx(own.rss_bytes, rel=0.2)


def test_systems_without_proc_tell_a_process_from_a_later_one_with_its_pid() -> None:
    process = subprocess.Popen(["sleep", "30"])
    try:
        start = start_without_proc(process.pid)
        assert start is not None
        assert start_without_proc(process.pid) == start
    finally:
        process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_without_proc(process.pid) is None, "a zombie"
    process.wait()
    assert start_without_proc(process.pid) is None


class Host:
    """A host of two cores that is busy until ``busy_until_s``; its clock moves only when somebody sleeps."""

    def __init__(self, busy_until_s: float) -> None:
        self.now_s, self.busy_until_s = 100.0, 100.0 + busy_until_s

    def read(self) -> HostCpu:
        return HostCpu(2 * min(self.now_s, self.busy_until_s), 2 * self.now_s)

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds

    def wait(self, **limits: float) -> tuple[float, bool, float]:
        return wait_until_quiet(**limits, read=self.read, clock=lambda: self.now_s, sleep=self.sleep)


def test_the_wait_for_quiet() -> None:
    assert Host(0).wait() == (5.0, True, 0.0)
    waited_s, quiet, fraction = Host(20).wait()
    assert quiet
    assert 24.5 <= waited_s <= 25.0, "quiet for 5 s, of which a tenth may be busy"
    assert fraction <= 0.10
    assert Host(1000).wait(at_most_s=30) == (30.0, False, 1.0)
    with pytest.raises(MlscaleError):
        Host(0).wait(for_s=10, at_most_s=5)


def test_a_host_without_counters_is_never_called_quiet() -> None:
    assert wait_until_quiet(read=lambda: None)[1] is False


def test_facts_name_the_machine_but_nobody() -> None:
    facts = host_facts()
    text = json.dumps(facts)
    assert facts["cores"] >= 1
    assert facts["memory_bytes"] > 2**28
    assert facts["python"].endswith(platform.python_version())
    assert platform.node() not in text
    assert f'"{getpass.getuser()}"' not in text
    assert (facts["cgroup_version"] is None) == (facts["cgroup_reason"] is not None)


def test_facts_of_a_made_up_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "etc").mkdir()
    made_up_proc(tmp_path / "proc")
    (tmp_path / "etc/os-release").write_text('NAME="Some"\nPRETTY_NAME="Some Linux 1"\n')
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path / "proc"))
    facts = host_facts(tmp_path)
    chosen = {name: facts[name] for name in ("cpu_model", "memory_bytes", "distribution", "psi", "virtualisation")}
    assert chosen == {
        "cpu_model": "Some CPU",
        "memory_bytes": 2000 * 1024,
        "distribution": "Some Linux 1",
        "psi": True,
        "virtualisation": "virtual machine",
    }
