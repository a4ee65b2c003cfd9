"""What a sandbox shows, hides, limits, and how commands in it start and end."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from host_helpers import start_caller, wait_for

from mlscale.host.cgroups import Budget
from mlscale.host.ledger import Ledger
from mlscale.host.processes import process_start
from mlscale.host.reap import cleanup
from mlscale.host.sandbox import Sandbox, open_sandbox
from mlscale.host.scratch import scratch_root
from mlscale.runs import MlscaleError, ResourceSample, RunClock
from sandbox_processes import processes

LOOK = """
import json, os, pathlib, socket, tempfile
print(json.dumps({
    "interfaces": [name for _, name in socket.if_nameindex()],
    "pids": sorted(int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*")),
    "own": os.getpid(),
    "shm": os.listdir("/dev/shm"),
    "tmp": os.listdir("/tmp"),
    "temporary": tempfile.gettempdir(),
    "checkout": pathlib.Path("mlscale/host/sandbox.py").exists(),
    "groups": pathlib.Path("/proc/self/cgroup").read_text(),
}))
"""
SERVER = """
import http.server, sys
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[1].encode())
    def log_message(self, *_): pass
server = http.server.HTTPServer(("127.0.0.1", 28480), Answer)
print("listening", flush=True)
server.serve_forever()
"""
FETCH = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:28480').read().decode())"
BURN = """
import time
print("ready", flush=True)
while True:
    sum(range(1000))
"""

SLEEPER = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
print(os.getpid(), flush=True)
time.sleep(600)
"""


def python(*arguments: str) -> list[str]:
    return [sys.executable, "-S", *arguments]


def output(box: Sandbox, argv: list[str]) -> str:
    process = box.spawn(argv, stdout=subprocess.PIPE, text=True)
    said: str = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    return said


def test_it_sees_only_itself_and_the_checkout(box: Sandbox) -> None:
    seen = json.loads(output(box, python("-c", LOOK)))
    assert seen["interfaces"] == ["lo"]
    assert 1 in seen["pids"]
    assert seen["own"] in seen["pids"]
    assert len(seen["pids"]) <= 3
    assert seen["shm"] == []
    assert box.folder.name in seen["tmp"] or not box.folder.is_relative_to("/tmp")
    assert seen["temporary"] == str(box.folder / "tmp")
    assert seen["checkout"]
    assert f"mlscale-{box.folder.name[4:]}/control_plane" in seen["groups"]


def test_what_it_writes_into_tmp_and_shm_is_seen_nowhere_else(box: Sandbox) -> None:
    name = f"only-inside-{box.folder.name}"
    output(box, ["sh", "-c", f"echo x > /tmp/{name} && echo x > /dev/shm/{name} && echo x > {box.folder}/{name}"])
    assert not Path("/tmp", name).exists()
    assert not Path("/dev/shm", name).exists()
    assert (box.folder / name).read_text() == "x\n"


def test_a_folder_of_the_callers_below_tmp_is_seen_inside(box: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("w")
    assert output(box, ["cat", str(tmp_path / "weights")]) == "w"
    run = subprocess.run([*box.prefix, "cat", str(tmp_path / "weights")], capture_output=True, text=True, check=True)
    assert run.stdout == "w"


def test_the_prefix_sees_files_made_anywhere_later(box: Sandbox) -> None:
    name = Path(f"/tmp/later-{box.folder.name}")
    name.mkdir()
    try:
        run = subprocess.run([*box.prefix, "sh", "-c", "echo seen > spec; exit 5"], cwd=name, check=False)
        assert run.returncode == 5
        assert (name / "spec").read_text() == "seen\n"
    finally:
        shutil.rmtree(name)


def test_unix_sockets_fit_below_the_folder(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 60)
    long.mkdir()
    longest = "session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store"
    for root in (scratch_root(), scratch_root(long)):
        assert len(str(root / "mls-00000000" / "ray" / longest)) < 108


def test_two_sandboxes_serve_the_same_port_and_nothing_outside_reaches_them(box: Sandbox, ledger: Ledger) -> None:
    with open_sandbox("other", ledger, grace_s=0.5) as other:
        for one, text in ((box, "first"), (other, "second")):
            server = one.spawn(python("-c", SERVER, text), role="data_plane", stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            assert server.stdout.readline() == "listening\n"
        for one, text in ((box, "first"), (other, "second")):
            asked = subprocess.run([*one.prefix, *python("-c", FETCH)], capture_output=True, text=True, check=True)
            assert asked.stdout == f"{text}\n"
        assert box.folder.name not in output(other, ["ls", "/tmp"])
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 28480), timeout=10)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("way", ["prefix", "spawn"])
def test_killing_the_popen_ends_the_program(box: Sandbox, number: signal.Signals, way: str) -> None:
    argv = python("-c", "import time; print('up', flush=True); time.sleep(600)")
    if way == "prefix":
        process = subprocess.Popen([*box.prefix, *argv], stdout=subprocess.PIPE, text=True)
    else:
        process = box.spawn(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    assert len(processes(box)) == 1
    process.send_signal(number)
    assert process.wait(60) == -number
    wait_for(lambda: not processes(box), "the program's end")
    process.stdout.close()


def test_signals_reach_the_program_which_may_answer_them(box: Sandbox) -> None:
    answer = (
        "import signal,sys,time; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); time.sleep(600)"
    )
    with subprocess.Popen([*box.prefix, *python("-c", answer)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.terminate()
        assert process.wait(60) == 7


@pytest.mark.parametrize(
    ("argv", "code"), [(["/nowhere/program"], 127), (["/etc/passwd"], 126), (["sh", "-c", "kill -11 $$"], -11)]
)
def test_exit_codes_pass_through(box: Sandbox, argv: list[str], code: int) -> None:
    assert subprocess.run([*box.prefix, *argv], capture_output=True, check=False).returncode == code


def test_a_broken_pipe_ends_a_program_as_usual(box: Sandbox) -> None:
    told = output(box, ["sh", "-c", "(yes; echo $? >&3) 3>&1 | head -1 > /dev/null; true"])
    assert told in ("", f"{128 + signal.SIGPIPE}\n")


def burning(box: Sandbox, cores: float, period_s: float) -> str:
    """A replica that burns CPU; returns its subject once it runs."""
    wrapper = box.replica_wrapper(Path(sys.executable), cores, period_s)
    before = set(box.replicas())
    process = box.spawn([wrapper, "-S", "-c", BURN], role="data_plane", stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    (subject,) = set(box.replicas()) - before
    return subject


def test_the_quota_limits_a_replica_whatever_its_period(box: Sandbox) -> None:
    periods_s = {burning(box, 0.3, 0.1): 0.1, burning(box, 0.3, 0.01): 0.01}
    clock = RunClock()

    def replicas() -> dict[str, ResourceSample]:
        return {sample.subject: sample for sample in box.sample(clock, "app") if sample.role == "replica"}

    first, begun_s = replicas(), clock()
    assert set(first) == set(periods_s)
    throttled_before = {subject: sample.nr_throttled for subject, sample in first.items()}
    groups = [box._parts.tree.group(subject) for subject in periods_s] if box._parts.tree else []

    def all_throttled() -> bool:
        readings = {group.folders[0].name: group.read() for group in groups}
        return all(one is not None and one.nr_throttled >= throttled_before[name] + 5 for name, one in readings.items())

    wait_for(lambda: clock() > begun_s + 1 and all_throttled(), "five throttled periods of each", at_most_s=120)
    second = replicas()
    for subject, period_s in periods_s.items():
        seconds = second[subject].t_s - first[subject].t_s
        throttled = second[subject].nr_throttled - first[subject].nr_throttled
        assert throttled >= 5
        assert second[subject].nr_periods > first[subject].nr_periods
        assert second[subject].throttled_s > first[subject].throttled_s
        used_s = second[subject].cpu_cores * seconds
        # A throttled period used its whole quota; the least holds on a busy host too, the most on any.
        assert 0.8 * throttled * 0.3 * period_s <= used_s <= 1.1 * 0.3 * (seconds + 2 * period_s)


def test_data_plane_and_replicas_share_a_budget(ledger: Ledger) -> None:
    with open_sandbox("shared", ledger, budget=Budget(0.4, 0.1), grace_s=0.5) as box:
        if not (box.isolated and box.limited):
            pytest.skip(f"no whole sandbox here: {box.facts['reasons']}")
        assert box.facts["shared_cores"] == 0.4
        replica = burning(box, 0.3, 0.1)
        proxy = box.spawn(python("-c", BURN), role="data_plane", stdout=subprocess.PIPE, text=True)
        assert proxy.stdout is not None
        proxy.stdout.readline()
        clock = RunClock()

        def now() -> dict[str, ResourceSample]:
            return {sample.subject: sample for sample in box.sample(clock, "app")}

        first = now()
        before = first["data_plane"].nr_throttled

        def throttled() -> bool:
            group = box._parts.tree.shared if box._parts.tree else None
            reading = group.read() if group else None
            return reading is not None and clock() > first["data_plane"].t_s + 1 and reading.nr_throttled >= before + 8

        wait_for(throttled, "eight throttled periods of the budget", at_most_s=120)
        latest = now()
        seconds = latest[replica].t_s - first[replica].t_s
        used_s = seconds * (latest[replica].cpu_cores + latest["data_plane"].cpu_cores)
        assert used_s <= 1.1 * 0.4 * (seconds + 0.2)
        assert latest[replica].cpu_cores <= 1.1 * 0.3 * (1 + 0.2 / seconds)
        assert latest["data_plane"].nr_throttled >= before + 8, "the budget's own counters"
        assert math.isnan(latest["control_plane"].nr_throttled)


def test_a_budget_that_is_refused_leaves_nothing(ledger: Ledger) -> None:
    with pytest.raises(MlscaleError, match="cpu_cores, cpu_period_s"), open_sandbox("x", ledger, budget=Budget(0, 0.1)):
        pass
    assert ledger.open_entries == ()


def test_the_wrapper_records_what_was_used_before_the_limit(box: Sandbox) -> None:
    subject = burning(box, 0.3, 0.1)
    (start,) = box.replica_starts()
    (process,) = box.replicas()[subject]
    assert start.subject == subject == f"replica-{start.pid_inside}"
    assert process.inside == start.pid_inside
    assert process_start(process.outside) is not None
    assert 0 < start.cpu_before_s < 0.1
    assert start.uptime_s > 0


def test_a_replica_that_cannot_be_limited_does_not_run(box: Sandbox) -> None:
    wrapper = box.replica_wrapper(Path(sys.executable), 0.3, 0.1)
    wrapper.write_text(wrapper.read_text().replace("cfs_quota_us", "no_such_file").replace("cpu.max", "no_such_file"))
    process = box.spawn([wrapper, "-c", "print('ran')"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=60)
    assert (said, process.returncode) == ("", 125)


def test_a_process_moves_to_another_role(box: Sandbox) -> None:
    process = box.spawn(python("-c", BURN), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    (inside,) = processes(box)
    box.move(inside, "data_plane")
    rss = {sample.subject: sample.rss_bytes for sample in box.sample(RunClock(), "app")}
    assert rss["data_plane"] > 1e6
    assert rss["control_plane"] == 0
    with pytest.raises(MlscaleError, match="no process 31999"):
        box.move(31999, "data_plane")


def test_the_load_generator_weighs_most(box: Sandbox) -> None:
    tree = box._parts.tree
    assert tree is not None
    name = "cpu.weight" if tree.version == 2 else "cpu.shares"
    weights = {subject: int((group.folders[0] / name).read_text()) for subject, group in tree.children().items()}
    assert weights.pop("load_generator") >= 50 * max(weights.values())


def test_the_load_generator_is_a_real_time_task_and_nobody_else(box: Sandbox) -> None:
    policy = ["chrt", "--pid", "0"]
    measured = subprocess.run([*box.prefix, *policy], capture_output=True, text=True, check=True).stdout
    assert ("SCHED_FIFO" in measured) == box.facts["load_realtime"]
    assert "SCHED_OTHER" in output(box, policy)


def test_sampling_beside_spawning(box: Sandbox) -> None:
    """The observing thread samples while replicas come and go."""
    stop, failures = threading.Event(), []

    def observe() -> None:
        while not stop.is_set():
            try:
                assert {"host", "control_plane"} <= {sample.subject for sample in box.sample(RunClock(), "app")}
            except Exception as error:
                failures.append(error)
                return

    thread = threading.Thread(target=observe)
    thread.start()
    wrapper = box.replica_wrapper(Path(sys.executable), 0.5, 0.01)
    try:
        for _ in range(10):
            box.spawn([wrapper, "-S", "-c", "pass"]).wait(60)
    finally:
        stop.set()
        thread.join()
    assert failures == []


def test_a_quota_the_kernel_cannot_keep_is_refused(box: Sandbox) -> None:
    for cores, period_s in ((0.3, 2.0), (0.3, 0.0001), (0.01, 0.01)):
        with pytest.raises(MlscaleError):
            box.replica_wrapper(Path(sys.executable), cores, period_s)


def test_without_the_right_to_namespaces_a_user_namespace_does(tmp_path: Path) -> None:
    if shutil.which("setpriv") is None or os.geteuid() != 0:
        pytest.skip("setpriv and root are needed to give up the right to namespaces")
    caller = start_caller(tmp_path / "ledger", "wait", "setpriv", "--bounding-set=-sys_admin")
    if not caller.about["facts"]["isolated"]:
        caller.process.communicate("\n")
        pytest.skip(f"no user namespaces here: {caller.about['facts']['reasons']}")
    assert caller.about["facts"]["user_namespace"]
    caller.process.communicate("\n", timeout=60)
    assert caller.process.returncode == 0
    assert caller.left() == []


@pytest.fixture(params=["nothing", "namespaces only", "cgroups only"])
def lesser_box(request: pytest.FixtureRequest, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """A sandbox on a host that allows less."""
    if request.param in ("nothing", "namespaces only"):
        monkeypatch.setattr("mlscale.host.sandbox.find_hierarchy", lambda: "no cgroups in this test")
    if request.param in ("nothing", "cgroups only"):
        monkeypatch.setattr("mlscale.host.sandbox.start_first_process", lambda *_: "no namespaces in this test")
    with open_sandbox("lesser", ledger, grace_s=0.5) as made:
        if (made.isolated, made.limited) != (request.param == "namespaces only", request.param == "cgroups only"):
            pytest.skip(f"not even that here: {made.facts['reasons']}")
        yield made


def test_a_lesser_host_still_finds_samples_and_ends_everything(lesser_box: Sandbox, ledger: Ledger) -> None:
    box = lesser_box
    assert box.facts["reasons"] != []
    fork = "import os, time; os.fork() and os._exit(0); os.setsid(); print('up', flush=True); time.sleep(600)"
    escaped = box.spawn(python("-c", fork), stdout=subprocess.PIPE, text=True)
    loader = subprocess.Popen([*box.prefix, *python("-c", BURN)], stdout=subprocess.PIPE, text=True)
    subject = burning(box, 0.3, 0.1)
    for process in (escaped, loader):
        assert process.stdout is not None
        process.stdout.readline()
    clock = RunClock()
    box.sample(clock, "app")
    wait_for(lambda: clock() > 1.0, "some burning")
    samples = {sample.subject: sample for sample in box.sample(clock, "app")}
    assert samples[subject].role == "replica"
    assert samples[subject].cpu_cores > 0
    assert samples["load_generator"].cpu_cores > 0
    assert samples["control_plane"].rss_bytes > 1e6
    box.move(box.replicas()[subject][0].inside, "data_plane")
    assert subject not in box.replicas()
    outside = tuple(processes(box).values())
    assert len(outside) >= 3
    box._end(0.5)
    box._kill()
    wait_for(lambda: not [pid for pid in outside if process_start(pid)], "their end")
    assert loader.wait(60) != 0
    for process in (escaped, loader):
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("isolated", [True, False])
def test_an_interrupted_end_leaves_nothing(isolated: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C during the grace period; once where neither namespaces nor cgroups end everything, too."""
    if not isolated:
        _without_kernel_support(monkeypatch)
    ledger = Ledger.create("interrupted", tmp_path)
    pids = _interrupted_end(open_sandbox("interrupted", ledger, grace_s=60))
    assert [pid for pid in pids if process_start(pid)] == []
    ledger.close()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_kill_is_not_called_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second Ctrl-C."""
    _without_kernel_support(monkeypatch)
    kill = Sandbox._kill

    def interrupted(box: Sandbox) -> None:
        kill(box)
        raise KeyboardInterrupt

    monkeypatch.setattr(Sandbox, "_kill", interrupted)
    ledger = Ledger.create("interrupted", tmp_path)
    _interrupted_end(open_sandbox("interrupted", ledger, grace_s=60))
    assert [entry.kind for entry in ledger.open_entries] == ["sandbox"]
    ledger.close()
    assert [entry.kind for entry in cleanup(folder=tmp_path)] == ["sandbox"]


def _without_kernel_support(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlscale.host.sandbox.find_hierarchy", lambda: "no cgroups in this test")
    monkeypatch.setattr("mlscale.host.sandbox.start_first_process", lambda *_: "no namespaces in this test")


def _interrupted_end(opened: AbstractContextManager[Sandbox]) -> list[int]:
    """Start two processes that ignore SIGTERM; leave the sandbox, with Ctrl-C half a second later. Returns the pids."""
    box = opened.__enter__()
    stubborn = box.spawn(python("-c", SLEEPER), stdout=subprocess.PIPE, text=True)
    assert stubborn.stdout is not None
    for _ in range(2):
        stubborn.stdout.readline()
    pids = list(processes(box).values())
    assert len(pids) >= 2
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        opened.__exit__(None, None, None)
    stubborn.stdout.close()
    return pids


def test_the_cause_of_a_failed_start_is_told_and_nothing_stays(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlscale.host.sandbox.scratch_root", lambda: Path("/nowhere"))
    with pytest.raises(MlscaleError, match="no scratch folder"), open_sandbox("none", ledger):
        pytest.fail("it must not open")
    assert ledger.open_entries == ()
