"""Where cgroups may be made and what is written and read there, on a made-up file system and on this host's."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from host_helpers import wait_for

from mlscale.host.cgroups import Budget, Group, Hierarchy, Tree, find_hierarchy, quota_files, remove_tree
from mlscale.host.ledger import Ledger
from mlscale.host.load_cgroup import open_load_cgroup
from mlscale.runs import MlscaleError

LINE = "31 23 0:26 / {where} rw,relatime shared:9 - {kind} cgroup rw{options}\n"


def mounted(folder: Path, mounts: str, own: str) -> tuple[Path, Path]:
    (folder / "mountinfo").write_text("22 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n" + mounts)
    (folder / "cgroup").write_text(own)
    return folder / "mountinfo", folder / "cgroup"


def control(folder: Path, *, handed_down: str = "cpu memory") -> Path:
    """A folder that looks like a v2 cgroup."""
    folder.mkdir(parents=True)
    (folder / "cgroup.procs").touch()
    (folder / "cgroup.subtree_control").write_text(handed_down)
    return folder


def test_version_1_with_one_mount_for_both_controllers(tmp_path: Path) -> None:
    where = control(tmp_path / "cpu,cpuacct" / "own")
    mounts = LINE.format(where=tmp_path / "cpu,cpuacct", kind="cgroup", options=",cpu,cpuacct")
    found = find_hierarchy(*mounted(tmp_path, mounts, "4:cpu,cpuacct:/own\n0::/\n"))
    assert found == Hierarchy(1, {"cpu": where, "cpuacct": where})
    assert Tree(found, "mlscale-1").folders == (where / "mlscale-1",)


def test_version_1_with_two_mounts_in_a_container_that_sees_only_the_top(tmp_path: Path) -> None:
    mounts = ""
    for name in ("cpu", "cpuacct"):
        control(tmp_path / name)
        mounts += LINE.format(where=tmp_path / name, kind="cgroup", options=f",{name}")
    found = find_hierarchy(*mounted(tmp_path, mounts, "2:cpuacct:/docker/x\n1:cpu:/docker/x\n"))
    assert found == Hierarchy(1, {"cpu": tmp_path / "cpu", "cpuacct": tmp_path / "cpuacct"})
    assert Tree(found, "m").folders == (tmp_path / "cpu/m", tmp_path / "cpuacct/m")


def test_version_2_takes_the_nearest_group_that_hands_cpu_down(tmp_path: Path) -> None:
    top = control(tmp_path / "unified")
    near = control(top / "user.slice")
    control(near / "session.scope", handed_down="memory pids")
    mounts = LINE.format(where=top, kind="cgroup2", options="")
    found = find_hierarchy(*mounted(tmp_path, mounts, "0::/user.slice/session.scope\n"))
    assert found == Hierarchy(2, {"unified": near})
    assert sorted(path.name for path in near.iterdir()) == ["cgroup.procs", "cgroup.subtree_control", "session.scope"]


@pytest.mark.parametrize(
    ("mounts", "reason"),
    [("", "no cgroup hierarchy"), (LINE.format(where="{top}", kind="cgroup2", options=""), "not delegated")],
)
def test_the_reason_for_having_none_is_told(tmp_path: Path, mounts: str, reason: str) -> None:
    top = control(tmp_path / "unified", handed_down="memory")
    found = find_hierarchy(*mounted(tmp_path, mounts.format(top=top), "0::/\n"))
    assert isinstance(found, str)
    assert reason in found


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    assert find_hierarchy(tmp_path / "none", tmp_path / "none") == "this system has no cgroups"


def test_quota_files() -> None:
    assert quota_files(1, 0.3, 0.1) == (("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "30000"))
    assert quota_files(2, 0.3, 0.01) == (("cpu.max", "3000 10000"),)
    assert quota_files(2, 2.5, 1) == (("cpu.max", "2500000 1000000"),)
    for cores, period_s in ((0.3, 1.1), (0.3, 0.0009), (0.05, 0.01), (-1, 0.1)):
        with pytest.raises(MlscaleError, match="cpu_period_s"):
            quota_files(1, cores, period_s)


def test_version_2_on_paper(tmp_path: Path) -> None:
    """Version 2 can't be tried where version 1 is mounted; this holds what is written and read."""
    tree = Tree(Hierarchy(2, {"unified": tmp_path}), "mlscale-0")
    tree.create(("control_plane", "load_generator"))
    assert (tmp_path / "mlscale-0/cgroup.subtree_control").read_text() == "+cpu"
    assert (tmp_path / "mlscale-0/load_generator/cpu.weight").read_text() == "10000"
    group = tree.group("control_plane")
    (group.folders[0] / "cgroup.procs").write_text("12\n7\n")
    (group.folders[0] / "cpu.max").write_text("max 100000\n")
    (group.folders[0] / "cpu.stat").write_text(
        "usage_usec 2500000\nnr_periods 4\nnr_throttled 3\nthrottled_usec 1500\n"
    )
    assert group.pids() == (12, 7)
    reading = group.read()
    assert reading is not None
    assert (reading.cpu_s, math.isnan(reading.nr_periods)) == (2.5, True)
    group.set_quota(0.3, 0.1)
    reading = group.read()
    assert reading is not None
    assert (reading.nr_periods, reading.nr_throttled, reading.throttled_s) == (4, 3, 0.0015)


@pytest.mark.parametrize("version", [1, 2])
def test_a_budget_lies_between_the_tree_and_what_shares_it(tmp_path: Path, version: Literal[1, 2]) -> None:
    tree = Tree(Hierarchy(version, {"unified": tmp_path}), "mlscale-0", Budget(1.2, 0.1))
    tree.create(("control_plane", "data_plane", "load_generator"))
    shared = tmp_path / "mlscale-0/application"
    quota = (shared / "cpu.max", "120000 100000") if version == 2 else (shared / "cpu.cfs_quota_us", "120000")
    assert quota[0].read_text() == quota[1]
    (tree.replica_folders[0] / "replica-9").mkdir()
    folders = {name: group.folders[0] for name, group in tree.children().items()}
    assert folders == {
        "control_plane": tmp_path / "mlscale-0/control_plane",
        "data_plane": shared / "data_plane",
        "load_generator": tmp_path / "mlscale-0/load_generator",
        "replica-9": shared / "replica-9",
    }


def test_a_budget_the_kernel_cannot_keep_is_refused(tmp_path: Path) -> None:
    tree = Tree(Hierarchy(2, {"unified": tmp_path}), "mlscale-0", Budget(0.01, 0.01))
    with pytest.raises(MlscaleError, match="cpu_cores, cpu_period_s"):
        tree.create(("data_plane",))


def test_a_group_that_is_gone_reads_as_none(tmp_path: Path) -> None:
    gone = Group(2, (tmp_path / "gone",))
    assert gone.read() is None
    assert gone.pids() == ()


def test_a_busy_group_is_reported_and_an_empty_one_goes() -> None:
    hierarchy = find_hierarchy()
    if isinstance(hierarchy, str):
        pytest.skip(f"no cgroups here: {hierarchy}")
    tree = Tree(hierarchy, f"mlscale-{os.getpid():08x}")
    try:
        tree.create(("control_plane",))
        child = os.fork()
        if child == 0:
            os.read(os.pipe()[0], 1)
        tree.group("control_plane").add(child)
        with pytest.raises(MlscaleError, match="can't be removed"):
            remove_tree(tree.folders, at_most_s=0.1)
        os.kill(child, 9)
        os.waitpid(child, 0)
    finally:
        remove_tree(tree.folders)
        remove_tree(tree.folders)
    wait_for(lambda: not any(folder.exists() for folder in tree.folders), "the groups' end")


def test_the_load_generator_alone_has_a_group_that_weighs_most_and_goes(ledger: Ledger) -> None:
    with open_load_cgroup(ledger) as place:
        if isinstance(place.tree, str):
            pytest.skip(f"no cgroups here: {place.tree}")
        code = "import sys; print(open('/proc/self/cgroup').read(), flush=True); sys.stdin.read()"
        command = [*place.prefix, sys.executable, "-c", code]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as load:
            assert load.stdout is not None
            assert any(f"{place.tree.root.folders[0].name}/load_generator" in load.stdout.readline() for _ in range(30))
            assert place.usage()["load_generator"].rss_bytes > 1e6
            load.communicate()
    assert place.facts["limited"]
    assert not any(folder.exists() for folder in place.tree.folders)
