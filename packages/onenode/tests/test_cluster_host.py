"""Cgroup hierarchies of either version, the lock, whole files, claims in the ledger, and what status says."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mlscale.atomic import write_whole
from mlscale.host.cgroups import MountPoint
from mlscale.host.ledger import LedgerEntry, ledger_paths, read_ledger
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError
from onenode.layout import Layout
from onenode.ledger_claims import KIND, claim, drop_claims
from onenode.lifecycle import reap
from onenode.locking import locked
from onenode.node_cgroups import node_groups
from onenode.settings import Settings
from onenode.status import ClusterStatus, PartStatus, read_status, to_json, to_text, verdict
from onenode.waiting import last_log_line

V1 = """\
25 1 0:22 / /sys/fs/cgroup rw - tmpfs tmpfs rw
26 25 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 25 0:24 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
28 25 0:25 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids
29 25 0:26 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/agent,name=systemd
30 25 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw,nsdelegate
31 1 0:28 / /var/copy/memory rw,relatime - cgroup cgroup rw,memory
"""


def test_version_1_with_controllers_on_one_mount(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text(V1)
    groups = node_groups("node", tmp_path / "mountinfo")
    assert groups.version == 1
    assert MountPoint(Path("/sys/fs/cgroup/systemd"), "cgroup", ("name=systemd",)) in groups.mounts
    assert [folder.parent.name for folder in groups.folders] == ["cpu,cpuacct", "memory", "pids", "systemd"]
    assert groups.part("etcd").folders == (Path("/sys/fs/cgroup/cpu,cpuacct/node/parts/etcd"),)
    entries = groups.entries_of("etcd")
    assert Path("/sys/fs/cgroup/memory/node/cgroup.procs") in entries
    assert entries[-1] == Path("/sys/fs/cgroup/cpu,cpuacct/node/parts/etcd/cgroup.procs")


def test_version_2_when_its_controllers_are_handed_down(tmp_path: Path) -> None:
    top = tmp_path / "cgroup"
    top.mkdir()
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"30 25 0:27 / {top} rw,relatime - cgroup2 cgroup2 rw\n")
    (top / "cgroup.subtree_control").write_text("cpu memory")
    with pytest.raises(MlscaleError, match="no cgroup controller pids"):
        node_groups("node", mountinfo)
    (top / "cgroup.subtree_control").write_text("cpuset cpu io memory pids")
    groups = node_groups("node", mountinfo)
    assert (groups.version, groups.folders) == (2, (top / "node",))
    assert groups.entries_of("etcd") == (top / "node/parts/etcd/cgroup.procs",)


def test_a_host_without_cgroups(tmp_path: Path) -> None:
    (tmp_path / "mountinfo").write_text("25 1 0:22 / / rw - ext4 /dev/vda rw\n")
    with pytest.raises(MlscaleError, match="no cgroup controller cpu"):
        node_groups("node", tmp_path / "mountinfo")


def test_a_file_is_written_only_where_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "new/file"
    assert write_whole(file, "a")
    assert not write_whole(file, "a")
    assert write_whole(file, b"b")
    assert file.read_text() == "b"
    assert [one.name for one in file.parent.iterdir()] == ["file"]


def test_the_lock_is_waited_for_also_when_its_holder_removes_it(tmp_path: Path) -> None:
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path / "lock"):
            held.set()
            go_on.wait(20)
            (tmp_path / "lock").unlink()

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(20)
    with locked(tmp_path / "lock", go_on.set) as descriptor:
        assert go_on.is_set()
        assert os.path.samestat(os.fstat(descriptor), (tmp_path / "lock").stat())
    holder.join()


def test_a_program_that_is_being_started_keeps_the_lock(tmp_path: Path) -> None:
    with locked(tmp_path / "lock") as descriptor:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(descriptor,))
    waited: list[bool] = []

    def end() -> None:
        waited.append(True)
        child.communicate(b"\n")

    with locked(tmp_path / "lock", end):
        assert waited == [True]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Layout(tmp_path / "mlscale/cluster/default")


def _owners(layout: Layout) -> list[int]:
    ledgers = [read_ledger(path) for path in ledger_paths()]
    return [
        one.owner.pid
        for one in ledgers
        if one and any(e.identity["root"] == str(layout.root) for e in one.open_entries)
    ]


def test_a_claim_passes_from_the_command_to_the_node(layout: Layout) -> None:
    with claim(layout) as claimed:
        assert _owners(layout) == [os.getpid()]
        claimed.hand_over(ProcessIdentity(1, "0", "boot", ""))
    assert _owners(layout) == [1]
    with claim(layout) as claimed:
        claimed.hand_over(ProcessIdentity(2, "0", "boot", ""))
    assert _owners(layout) == [2]
    drop_claims(layout)
    assert _owners(layout) == []


def test_a_claim_without_success_stays(layout: Layout) -> None:
    with pytest.raises(RuntimeError), claim(layout):
        raise RuntimeError
    assert _owners(layout) == [os.getpid()]


def test_another_cluster_s_claim_is_not_dropped(layout: Layout) -> None:
    other = Layout(layout.root.with_name("other"))
    with pytest.raises(RuntimeError), claim(other):
        raise RuntimeError
    drop_claims(layout)
    assert _owners(other) == [os.getpid()]


def test_cleanup_refuses_a_folder_that_is_not_ours(layout: Layout, tmp_path: Path) -> None:
    owner = ProcessIdentity(1, "0", "boot", "")
    (tmp_path / "precious").mkdir()
    with pytest.raises(MlscaleError, match="not a folder that mlscale creates"):
        reap(LedgerEntry("1", KIND, {"root": str(tmp_path / "precious")}, owner))
    assert (tmp_path / "precious").exists()


def test_no_cluster(layout: Layout) -> None:
    status = read_status(layout)
    assert (status.state, status.whole) == ("absent", False)
    assert "make cluster" in to_text(status)
    assert json.loads(to_json(status))["node_address"] is None


PARTS = (
    PartStatus("etcd", "up", 12, 8.4, 42 * 2**20, "/l/etcd.log"),
    PartStatus("kubelet", "down", None, math.nan, math.nan, "/l/kubelet.log", "it does not run"),
    PartStatus("kube-proxy", "unhealthy", 13, 1.0, 2**20, "/l/kube-proxy.log", "HTTP 500: no"),
)


def test_status_says_which_part_is_down_and_what_to_do() -> None:
    status = ClusterStatus(verdict(PARTS), "/k", PARTS, Settings("10.213.0.1", "10.213.0.2"))
    text = to_text(status)
    assert "not whole: kubelet is down, kube-proxy is unhealthy: make cluster repairs it" in text
    assert [line.split()[-3:] for line in text.splitlines() if line.startswith("all")] == [["all", "9", "43"]]
    data = json.loads(to_json(status))
    assert (data["state"], data["cfs_period_s"], data["host_address"]) == ("degraded", 0.1, "10.213.0.1")
    assert data["parts"][1]["memory_bytes"] is None


def test_the_verdict_of_a_node_whose_parts_are_all_up() -> None:
    assert verdict(PARTS[:1]) == "up"


def test_the_last_line_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert "never started" in last_log_line(log)
    log.write_bytes(b"\xffx" * 5000 + b"\nthe end\n\n")
    assert last_log_line(log) == "the end"
