"""The command line around experiments: one line and exit code 2 for what a user can fix, 130 and 143 for a stop."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from codereader.errors import BadWeights
from in_process import Finished, mlscale
from mlscale.commands import cli
from mlscale.runs import MlscaleError
from mlscale_experiment.protocol import Bodies, write_protocol
from mlscale_paper import places
from mlscale_paper.protocol import default_protocol


def one_line(done: Finished) -> str:
    """The one line on stderr of a command that a user can mend."""
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands that go wrong must not write into the checkout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(places, "figures", lambda: tmp_path / "figures")
    monkeypatch.setattr(places, "protocol_file", lambda: tmp_path / "data" / "protocol.json")


SCHEDULES = {
    "negative.json": {"loop": "open", "duration_s": 5, "rate": {"shape": "constant", "rate_rps": -1}},
    "late.json": {"loop": "closed", "duration_s": 5, "stages": [{"start_s": 1, "clients": 1}]},
    "unknown.json": {"loop": "spiral"},
}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["measure"], "Missing argument"),
        (["measure", "torchserve"], "--out"),
        (["measure", "torchsevre", "--out", "run", "--photos", "photos"], "unknown environment 'torchsevre'"),
        (["measure", "torchserve", "--out", "r" * 300], "File name too long (choose another place)"),
        (["measure", "torchserve", "--out", "run", "--arm", "matchd"], "parameter 'arm'"),
        (["measure", "torchserve", "--out", "run", "--arm", "none"], "'static-min' or 'static-max')"),
        (["load", "http://127.0.0.1", "--out", "run"], "mlscale: load: give exactly one of --rate"),
        (["load", "http://127.0.0.1", "--out", "run", "--rate", "1", "--set", "method=GE T"], "is 'GE T'"),
        (["measure", "torchserve", "--out", "run", "--mode", "dead"], "parameter 'mode'"),
        (["measure", "torchserve", "--out", "run", "--set", "connections=some"], "setting 'connections'"),
        (["measure", "torchserve", "--out", "run", "--scaling", "max"], "not KEY=VALUE"),
        (["measure", "torchserve", "--out", "run", "--scaling", "max=1"], "unknown setting 'max'"),
        (["measure", "torchserve", "--out", "run", "--scaling", "cpu_cores=-1"], "setting 'cpu_cores'"),
        (["measure", "torchserve", "--out", "run", "--scaling", "a=1", "--scaling", "a=2"], "given twice"),
        (["measure", "torchserve", "--out", "run", "--photos", "nowhere"], "nowhere"),
        (["measure", "torchserve", "--out", "run", "--photos", "empty"], "no files"),
        (["measure", "torchserve", "--out", "run", "--app", "my_model:make"], "--bodies"),
        (["measure", "torchserve", "--out", "run", "--set", "idle_s=-1"], "--set: setting 'idle_s'"),
        (["measure", "torchserve", "--out", "run", "--set", "idle_s=1e12"], "less than or equal to 86400"),
        (["measure", "torchserve", "--out", "run", "--set", "timeout_s=nan"], "should be a finite number"),
        (["measure", "torchserve", "--out", "run", "--scaling", "cpu_cores=nan"], "should be a finite number"),
        (["measure", "torchserve", "--out", "run", "--set", "content_type=a/b\r\nX: y"], "use one such as image/png"),
        (["simulate", "k3s", "--out", "run", "--app", "m:f"], "--app m:f: a simulation needs a profile of your model"),
        (["new-app", "numpy"], "numpy: a module of that name is installed"),
        (["measure", "torchserve", "--out", "run", "--idle", "3"], "--idle is now --set idle_s="),
        (["measure", "torchserve", "--out", "run", "--calls", "boxes=m:f"], "--calls: it has no effect without --app"),
        (["measure", "torchserve", "--out", "run", "--requirements", "r.txt"], "--requirements: it has no effect"),
        (["measure", "torchserve", "--out", "run", "--app", "m:f", "--partitioned"], "--partitioned: it has no effect"),
        (["measure", "torchserve", "--out", "run", "--bodies", "empty", "--check", "m:f"], "no labels.jsonl in empty"),
        (["load", "http://127.0.0.1", "--out", "run", "--rate", "1", "--set", "check=m:f"], "labels.jsonl in --bodies"),
        (["load", "http://127.0.0.1", "--out", "run", "--rate", "1", "--think", "1"], "is now --set think_mean_s="),
        (["compare", "empty", "--level", "inf", "--json"], "--level"),
        (["report", "empty", "--level", "inf"], "--level"),
        (["prices", "--out", "file"], "file: the file exists already"),
        (["prices", "--prices", "none.json", "--refresh"], "none.json"),
        (["measure", "torchserve", "--out", "run", "--schedule", "none.json"], "none.json"),
        (["measure", "torchserve", "--out", "run", "--schedule", "negative.json"], "rate_rps"),
        (["measure", "torchserve", "--out", "run", "--schedule", "late.json"], "starts at 1"),
        (["measure", "torchserve", "--out", "run", "--schedule", "unknown.json"], "loop"),
        (["experiment", "run", "--environments", "torchserve nonesuch"], "unknown environment 'nonesuch'"),
        (["experiment", "run", "--environments", " "], "no environment"),
        (["experiment", "run", "--cells", "cor", "--quick"], "unknown cell cor"),
        (["experiment", "run", "--blocks", "0"], "--blocks"),
        (["experiment", "run", "--blocks", "many"], "--blocks"),
        (["experiment", "status"], "no protocol yet"),
        (["experiment", "run", "--quick", "--runs", "file/runs"], "file/runs"),
        (["experiment", "publish", "--runs", "empty"], "no experiment was measured there"),
        (["experiment", "fly"], "fly"),
    ],
)
def test_what_a_user_can_mend_is_one_line(tmp_path: Path, arguments: list[str], named: str) -> None:
    from burner import write_photos

    write_photos(tmp_path / "photos")
    write_photos(tmp_path / "data" / "photos" / "load")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for name, schedule in SCHEDULES.items():
        (tmp_path / name).write_text(json.dumps(schedule))
    assert named in one_line(mlscale(*arguments))
    assert not (tmp_path / "run").exists()


def test_an_edited_price_list_is_not_overwritten(tmp_path: Path) -> None:
    """But for the one that --prices names, which is refreshed where it is."""
    assert mlscale("prices", "--out", "prices.json").returncode == 0
    file = tmp_path / "prices.json"
    edited = file.read_text().replace("700.0", "1400.0")
    file.write_text(edited)
    for again in (["--out", "prices.json"], ["--refresh"]):
        assert "prices.json: the file exists already" in one_line(mlscale("prices", *again))
    assert mlscale("prices", "--prices", "prices.json", "--out", "prices.json").returncode == 0
    assert json.loads(file.read_text()) == json.loads(edited)


class Settings(BaseModel):
    replicas: int = Field(ge=1)


def raising(error: BaseException) -> Any:
    def command(*arguments: object, **named: object) -> None:
        raise error

    return command


def test_errors_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    def status_raises(error: BaseException) -> Finished:
        monkeypatch.setattr("mlscale_paper.experiment.experiment", raising(error))
        return mlscale("experiment", "status")

    found = one_line(status_raises(MlscaleError("is full", "/disk", "make room")))
    assert found == "mlscale: /disk: is full (make room)\n"
    found = one_line(status_raises(BadWeights("corrupt", "ean.safetensors", "restore it")))
    assert found == "mlscale: ean.safetensors: corrupt (restore it)\n"
    with pytest.raises(ValueError) as invalid:
        Settings(replicas=0)
    found = one_line(status_raises(invalid.value))
    assert "Settings: replicas: Input should be greater than or equal to 1" in found
    found = one_line(status_raises(OSError(errno.ENOSPC, "No space left on device", "runs/one/run.json")))
    assert found.startswith("mlscale: runs/one/run.json: No space left on device (make room there")
    assert status_raises(KeyboardInterrupt()).returncode == 130
    monkeypatch.setattr("mlscale_paper.experiment.experiment", raising(RuntimeError("a mistake of ours")))
    monkeypatch.setattr("sys.argv", ["mlscale", "experiment", "status"])
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        cli.main()


def test_a_notebook_shows_the_line_in_place_of_a_traceback() -> None:
    from IPython.core.interactiveshell import InteractiveShell

    shown: list[str] = []
    shell = InteractiveShell()
    shell._showtraceback = lambda kind, error, lines: shown.extend(lines)  # type: ignore[method-assign]
    shell.run_cell("from mlscale import MlscaleError; raise MlscaleError('no cluster', 'k3s', 'make cluster')")
    assert shown == ["mlscale: k3s: no cluster (make cluster)"]


@pytest.mark.parametrize("again", [False, True])
def test_sigterm_leaves_through_every_finally(monkeypatch: pytest.MonkeyPatch, again: bool) -> None:
    """A second one does not break the teardown off."""
    torn_down = []

    def command(*arguments: object, **named: object) -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        finally:
            if again:
                os.kill(os.getpid(), signal.SIGTERM)
            torn_down.append(True)

    monkeypatch.setattr("mlscale_paper.experiment.experiment", command)
    assert mlscale("experiment", "status").returncode == 143
    assert torn_down == [True]


def test_status_lists_the_plan(tmp_path: Path) -> None:
    own = default_protocol(Bodies(folder="photos/load", count=1))
    write_protocol(tmp_path / "runs/quick/protocol.json", own, tmp_path / "runs/quick")
    status = ("experiment", "status", "--quick", "--runs", str(tmp_path / "runs"))
    done = mlscale(*status)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) == 3
    assert all(line.startswith("missing") for line in lines[:2])
    assert lines[-1].startswith("0 of 2 runs are measured, ")
    done = mlscale(*status, "--json")
    assert done.returncode == 0
    plan = json.loads(done.stdout)
    assert set(plan["runs"].values()) == {"missing"}
    assert plan["left_s"] > 0


_CTRL_C_WHILE_IMPORTING = """
import os, signal, sys
class Sends:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Sends())
from mlscale.commands.entry import main
main()
"""


def test_ctrl_c_before_the_command_has_begun_ends_it_without_a_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", _CTRL_C_WHILE_IMPORTING], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_the_command_line_starts_without_the_packages_that_its_commands_need() -> None:
    code = (
        "import sys, mlscale.commands.cli; print(*{'numpy', 'pyarrow', 'pandas', 'cryptography'} & sys.modules.keys())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
