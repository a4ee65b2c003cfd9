"""However the caller ends, nothing of its sandbox is left; what only a later call can remove, cleanup() removes."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from host_helpers import Caller, start_caller, wait_for

from mlscale.host.ledger import Ledger, ledger_paths
from mlscale.host.processes import ProcessIdentity
from mlscale.host.reap import cleanup, reap
from mlscale.host.sandbox import Sandbox
from mlscale.runs import MlscaleError

Start = Callable[[str], Caller]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Caller] = []

    def begin(how: str) -> Caller:
        caller = start_caller(tmp_path / "ledger", how)
        started.append(caller)
        if caller.about["first"] is None:
            pytest.skip(f"no namespaces here: {caller.about['facts']['reasons']}")
        return caller

    yield begin
    for caller in started:
        caller.process.kill()
        caller.process.communicate()
    cleanup(folder=tmp_path / "ledger")


@pytest.mark.parametrize(("how", "code"), [("return", 0), ("exception", 1)])
def test_an_orderly_end_leaves_nothing(start: Start, tmp_path: Path, how: str, code: int) -> None:
    caller = start(how)
    _, errors = caller.process.communicate(timeout=60)
    assert caller.process.returncode == code, errors
    assert caller.left() == []
    assert list(ledger_paths(tmp_path / "ledger")) == []


def test_ctrl_c_leaves_nothing(start: Start, tmp_path: Path) -> None:
    caller = start("wait")
    caller.process.send_signal(signal.SIGINT)
    _, errors = caller.process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    assert caller.left() == []
    assert list(ledger_paths(tmp_path / "ledger")) == []


def test_ctrl_c_again_and_again_leaves_at_most_what_cleanup_removes(start: Start, tmp_path: Path) -> None:
    caller = start("wait")

    def insist() -> bool:
        caller.process.send_signal(signal.SIGINT)
        return caller.process.poll() is not None

    wait_for(insist, "the caller's end")
    wait_for(lambda: not caller.processes_left(), "the processes' end")
    cleanup(folder=tmp_path / "ledger")
    assert caller.left() == []
    assert list(ledger_paths(tmp_path / "ledger")) == []


@pytest.mark.parametrize("how", ["wait", "kill -9", "fork, then kill -9"])
def test_after_a_sudden_end_the_kernel_takes_the_processes_and_cleanup_the_rest(
    start: Start, tmp_path: Path, how: str
) -> None:
    caller = start(how)
    if how == "wait":
        caller.process.send_signal(signal.SIGTERM)
    assert caller.process.wait(60) in (-signal.SIGKILL, -signal.SIGTERM)
    wait_for(lambda: not caller.processes_left(), "the processes' end")
    assert caller.left() != [], "cgroups and the folder outlive a sudden end"
    removed = cleanup(folder=tmp_path / "ledger")
    assert [entry.kind for entry in removed] == ["sandbox"]
    assert caller.left() == []
    assert list(ledger_paths(tmp_path / "ledger")) == []
    assert cleanup(folder=tmp_path / "ledger") == []


@pytest.mark.parametrize("which", ["first", "keeper"])
def test_kill_9_of_the_first_process_takes_all_along(start: Start, tmp_path: Path, which: str) -> None:
    caller = start("wait")
    os.kill(caller.about[which], signal.SIGKILL)
    wait_for(lambda: not caller.processes_left(), "the processes' end")
    assert caller.process.poll() is None, "the caller itself goes on"
    caller.process.communicate("\n", timeout=60)
    assert caller.process.returncode == 0
    assert caller.left() == []


@pytest.mark.parametrize("which", ["first", "keeper"])
def test_cleanup_ends_what_was_stopped_and_so_missed_its_callers_end(start: Start, tmp_path: Path, which: str) -> None:
    caller = start("wait")
    os.kill(caller.about[which], signal.SIGSTOP)
    caller.process.kill()
    caller.process.wait(60)
    cleanup(folder=tmp_path / "ledger")
    wait_for(lambda: caller.left() == [], "the end")


def test_cleanup_leaves_a_live_run_alone(start: Start, tmp_path: Path) -> None:
    caller = start("wait")
    before = caller.left()
    assert cleanup(folder=tmp_path / "ledger") == []
    assert caller.left() == before
    assert len(list(ledger_paths(tmp_path / "ledger"))) == 1


def test_cleanup_waits_for_the_age_it_is_given(start: Start, tmp_path: Path) -> None:
    caller = start("kill -9")
    caller.process.wait(60)
    assert cleanup(older_than_s=3600, folder=tmp_path / "ledger") == []
    assert len(cleanup(older_than_s=0, folder=tmp_path / "ledger")) == 1


def test_an_ended_sandbox_says_so(box: Sandbox) -> None:
    assert box._parts.first is not None
    os.kill(box._parts.first.pid, signal.SIGKILL)
    wait_for(lambda: not box.alive, "the end")
    with pytest.raises(MlscaleError, match="first process has ended"):
        box.spawn(["true"])


def test_reap_refuses_names_that_mlscale_never_gives(ledger: Ledger, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    for identity in (
        {"folder": str(precious), "cgroups": []},
        {"folder": str(tmp_path / "mls-00000000"), "cgroups": ["/"]},
    ):
        entry = ledger.intend("sandbox", **identity)
        with pytest.raises(MlscaleError, match="not a name"):
            reap(entry)
        ledger.done(entry)
    assert precious.is_dir()


def test_reap_kills_only_the_process_that_is_meant(ledger: Ledger) -> None:
    with subprocess.Popen(["sleep", "600"]) as process:
        meant = ProcessIdentity.of(process.pid)
        assert meant is not None
        other = ledger.intend("process", **{**meant.to_json(), "start": "1"})
        reap(other)
        assert process.poll() is None
        right = ledger.intend("process", **meant.to_json())
        reap(right)
        reap(right)
        assert process.wait(30) == -signal.SIGKILL
        ledger.done(other)
        ledger.done(right)


def test_cleanup_tries_everything_and_keeps_the_ledger_of_what_failed(tmp_path: Path) -> None:
    folder = tmp_path / "ledger"
    for number in range(2):
        dead = Ledger.create(f"dead-{number}", folder)
        dead.intend("mystery", number=number)
        dead.close()
    for path in ledger_paths(folder):
        lines = path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999')
        path.write_text(lines)
    with pytest.raises(MlscaleError, match="no reaper for the kind 'mystery'"):
        cleanup(folder=folder)
    assert len(list(ledger_paths(folder))) == 2
    asked: list[int] = []
    removed = cleanup(reapers={"mystery": lambda entry: asked.append(entry.identity["number"])}, folder=folder)
    assert asked == [0, 1]
    assert [entry.kind for entry in removed] == ["mystery"] * 2
    assert list(ledger_paths(folder)) == []
