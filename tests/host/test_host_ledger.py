"""The ledger names what exists, before it exists, whatever cut its writing short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from functools import partial
from operator import sub
from pathlib import Path
from typing import Any

import pytest

from mlscale.host.ledger import Ledger, ledger_folder, ledger_paths, read_ledger
from mlscale.host.processes import ProcessIdentity, process_start
from mlscale.host.reap import cleanup
from mlscale.runs import MlscaleError


def test_what_is_open_is_read_back_and_a_finished_ledger_vanishes(tmp_path: Path) -> None:
    with Ledger.create("run 1/ä", tmp_path) as ledger:
        first = ledger.intend("sandbox", folder="/tmp/mls-1", cgroups=[])
        second = ledger.intend("process", pid=4)
        ledger.done(first)
        read = read_ledger(ledger.path)
        assert read is not None
        assert read.open_entries == ledger.open_entries == (second,)
        assert read.run_id == "run 1/ä"
        assert read.owner == ProcessIdentity.of(os.getpid())
        assert read.owner.alive()
        ledger.done(second)
        ledger.done(second)
    assert list(ledger_paths(tmp_path)) == []


def test_a_ledger_with_something_open_stays(tmp_path: Path) -> None:
    ledger = Ledger.create("run", tmp_path)
    entry = ledger.intend("process", pid=4)
    ledger.close()
    ledger.close()
    (path,) = ledger_paths(tmp_path)
    read = read_ledger(path)
    assert read is not None
    assert read.open_entries == (entry,)


@pytest.mark.parametrize("torn", ["{", '{"op": "intend", "id": "x", "kind"', '{"op": "done", "id"'])
def test_a_torn_last_line_is_left_out(tmp_path: Path, torn: str) -> None:
    ledger = Ledger.create("run", tmp_path)
    entry = ledger.intend("process", pid=4)
    ledger.close()
    with ledger.path.open("a") as file:
        file.write(torn)
    read = read_ledger(ledger.path)
    assert read is not None
    assert read.open_entries == (entry,)


def test_a_ledger_cut_off_anywhere_is_read_or_named_nothing_yet(tmp_path: Path) -> None:
    ledger = Ledger.create("run", tmp_path)
    for number in range(3):
        ledger.intend("process", pid=number)
    ledger.close()
    whole = ledger.path.read_bytes()
    for length in range(len(whole)):
        ledger.path.write_bytes(whole[:length])
        read = read_ledger(ledger.path)
        lines = whole[:length].count(b"\n")
        assert (read is None) == (lines == 0)
        if read is not None:
            assert len(read.open_entries) == lines - 1


def test_a_broken_line_in_the_middle_is_an_error_and_cleanup_goes_on_with_the_rest(tmp_path: Path) -> None:
    ledger = Ledger.create("a-broken", tmp_path)
    ledger.intend("process", pid=4)
    ledger.close()
    ledger.path.write_text(ledger.path.read_text().replace('"intend"', '"intend'))
    with pytest.raises(MlscaleError, match="the ledger is malformed"):
        read_ledger(ledger.path)
    asked = []
    dead = Ledger.create("b-dead", tmp_path)
    dead.intend("thing", name="x")
    dead.close()
    dead.path.write_text(dead.path.read_text().replace(f'"pid": {os.getpid()}', '"pid": 999999999'))
    with pytest.raises(MlscaleError, match="the ledger is malformed"):
        cleanup(reapers={"thing": asked.append}, folder=tmp_path)
    assert [entry.identity for entry in asked] == [{"name": "x"}]
    assert list(ledger_paths(tmp_path)) == [ledger.path]


def test_a_ledger_that_never_got_its_first_line_goes_after_a_minute(tmp_path: Path) -> None:
    torn = tmp_path / "torn.jsonl"
    torn.write_text('{"op": "op')
    assert cleanup(folder=tmp_path) == []
    assert torn.exists()
    long_ago_s = torn.stat().st_mtime - 3600
    os.utime(torn, (long_ago_s, long_ago_s))
    assert cleanup(folder=tmp_path) == []
    assert not torn.exists()


def test_an_intention_stands_on_disk_before_intend_returns(tmp_path: Path) -> None:
    program = (
        "import os, sys, pathlib; from mlscale.host.ledger import Ledger\n"
        "Ledger.create('run', pathlib.Path(sys.argv[1])).intend('thing', name='x'); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode == -9
    (path,) = ledger_paths(tmp_path)
    read = read_ledger(path)
    assert read is not None
    assert [entry.identity for entry in read.open_entries] == [{"name": "x"}]
    assert not read.owner.alive()


def test_the_folder_follows_xdg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert ledger_folder() == tmp_path / "mlscale/ledger"
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/not/allowed")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert ledger_folder() == Path("/home/somebody/.local/state/mlscale/ledger")


def test_a_folder_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(MlscaleError, match="the ledger can't be written"):
        Ledger.create("run", tmp_path / "file" / "below")


def test_an_identity_is_more_than_a_pid() -> None:
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    data = own.to_json()
    assert ProcessIdentity.from_json(json.loads(json.dumps(data))) == own
    assert own.here_and_alive()
    assert not ProcessIdentity.from_json({**data, "start": "1"}).alive()
    assert not ProcessIdentity.from_json({**data, "boot_id": "another"}).alive()
    elsewhere = ProcessIdentity.from_json({**data, "pid_namespace": "pid:[1]", "start": "1"})
    assert elsewhere.alive(), "nothing is cleaned up on a guess"
    assert not elsewhere.here_and_alive()


def test_a_zombie_is_no_running_process() -> None:
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(process.pid) is None
    process.wait()


def test_a_full_disk_leaves_the_ledger_whole(tmp_path: Path) -> None:
    """A line that found no room is taken back, so that later lines do not follow a torn one."""
    program = (
        "import os, pathlib, resource, signal, sys\n"
        "from mlscale.host.ledger import Ledger\nfrom mlscale.runs import MlscaleError\n"
        "ledger = Ledger.create('run', pathlib.Path(sys.argv[1]))\n"
        "entry = ledger.intend('thing', name='x')\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "full = ledger.path.stat().st_size + 80\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (full, full))\n"
        "try:\n    ledger.intend('thing', name='y' * 200)\n"
        "except MlscaleError as error:\n    print(error)\n"
        "ledger.done(entry)\nos._exit(0)"
    )
    run = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "the ledger can't be written" in run.stdout
    (path,) = ledger_paths(tmp_path)
    read = read_ledger(path)
    assert read is not None
    assert read.open_entries == ()


def leave(folder: Path, name: str, owner: ProcessIdentity | None = None) -> Path:
    """A ledger that its process, or ``owner``, closed with something open."""
    with Ledger.create(name, folder, owner) as ledger:
        ledger.intend("thing", name=name)
    return ledger.path


def cleaned(folder: Path, **options: Any) -> list[str]:
    return [entry.identity["name"] for entry in cleanup(reapers={"thing": lambda _: None}, folder=folder, **options)]


def test_what_a_living_process_gave_up_is_cleaned_unless_another_one_owns_it(tmp_path: Path) -> None:
    """A notebook's kernel lives on after a run whose leftovers it couldn't remove."""
    lasting = leave(tmp_path, "lasting", ProcessIdentity.of(os.getppid()))
    with Ledger.create("still open", tmp_path) as ledger:
        ledger.done(ledger.intend("thing", name="x"))
        leave(tmp_path, "given up")
        assert cleaned(tmp_path) == ["given up"]
    assert list(ledger_paths(tmp_path)) == [lasting]


def test_the_ledgers_of_other_machines_are_left_alone(tmp_path: Path) -> None:
    """They show where machines share a home."""
    own = ProcessIdentity.of(os.getpid())
    assert own is not None
    assert own.machine
    elsewhere = replace(own, boot_id="another", machine="another")
    assert not elsewhere.here_and_alive()
    left = leave(tmp_path, "elsewhere", elsewhere)
    leave(tmp_path, "before a reboot", replace(elsewhere, machine=own.machine))
    leave(tmp_path, "of an older version", replace(elsewhere, machine=""))
    assert cleaned(tmp_path) == ["before a reboot", "of an older version"]
    assert list(ledger_paths(tmp_path)) == [left]


def test_a_ledger_that_cannot_be_read_is_named_and_stops_nothing_else(tmp_path: Path) -> None:
    foreign = tmp_path / "a-foreign.jsonl"
    foreign.mkdir()  # can't be read by root either
    leave(tmp_path, "x")
    with pytest.raises(MlscaleError, match=r"a-foreign.jsonl: the ledger can't be read or removed"):
        cleaned(tmp_path)
    assert list(ledger_paths(tmp_path)) == [foreign]
    leave(tmp_path, "y")
    said: list[MlscaleError] = []
    assert cleaned(tmp_path, unreachable=said.append) == ["y"], "it stops no measure"
    assert [error.where for error in said] == [str(foreign)]


def test_what_was_left_before_the_clock_was_set_back_is_cleaned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(tmp_path, "x")
    monkeypatch.setattr(time, "time", partial(sub, time.time(), 3600))
    assert cleaned(tmp_path, older_than_s=60) == []
    assert cleaned(tmp_path) == ["x"]
