"""The parts of the TorchServe environment that need no TorchServe: board, handler, lifecycle, files, settings."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest

from mlscale.environments.base import App, Component, Scaling
from mlscale.environments.sandbox_deployment import with_starts
from mlscale.environments.torchserve.api import (
    COMPONENT_FILE,
    NoAnswer,
    Worker,
    has_tokens,
    parse_state,
    worker_processes,
)
from mlscale.environments.torchserve.board import DRAIN_HEADER, Board
from mlscale.environments.torchserve.environment import TorchServe
from mlscale.environments.torchserve.lifecycle import Change, Lifecycle
from mlscale.environments.torchserve.model_handler import Handler, worker_id
from mlscale.environments.torchserve.server import (
    Layout,
    Ports,
    build_archive,
    configuration,
    environment,
    read_settings,
)
from mlscale.environments.torchserve.settings import TorchServeScaling
from mlscale.host.replica_launcher import ReplicaStart
from mlscale.runs import Event, EventKind, MlscaleError, ReplicaSample, RunClock


class Context:
    """What TorchServe hands to a handler."""

    def __init__(self, archive: Path, headers: dict[str, str] | None = None) -> None:
        self.system_properties = {"model_dir": str(archive)}
        self._request, self.headers, self.status = headers or {}, {}, 200  # type: ignore[var-annotated]

    def get_request_header(self, idx: int, key: str) -> str | None:
        return self._request.get(key)

    def set_response_header(self, idx: int, key: str, value: str) -> None:
        self.headers[key] = value

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.headers["content-type"] = value

    def set_response_status(self, code: int, idx: int) -> None:
        self.status = code


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Board]:
    board = Board.create(tmp_path / "board")
    yield board
    board.close()


@pytest.fixture
def handler(board: Board, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Handler:
    (tmp_path / "entry_of_handler_test.py").write_text(
        "def make():\n    def answer(body):\n        if body == b'?': raise ValueError('no photo')\n"
        "        if body == b'!': raise KeyError('bug')\n        return {'size': len(body)}\n    return answer\n"
    )
    about = {"component": "app", "entry": "entry_of_handler_test:make", "keys": str(tmp_path / "keys"), "calls": {}}
    (tmp_path / "mlscale.json").write_text(json.dumps({**about, "board": str(tmp_path / "board")}))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["worker.py", "--sock-type", "unix", "--sock-name", "/tmp/.ts.sock.9001"])
    handler = Handler()
    handler.initialize(Context(tmp_path))
    return handler


@pytest.mark.parametrize(
    ("body", "status", "answer"),
    [(b"abc", 200, {"size": 3}), (b"?", 400, {"error": "no photo"}), (b"!", 500, {"error": "KeyError: 'bug'"})],
)
def test_handler_answers(handler: Handler, board: Board, tmp_path: Path, body: bytes, status: int, answer: Any) -> None:
    context = Context(tmp_path)
    (reply,) = handler.handle([{"body": bytearray(body)}], context)
    assert (context.status, json.loads(reply)) == (status, answer)
    assert context.headers["X-Mlscale-Replica"] == f"replica-{os.getpid()}"
    assert float(context.headers["X-Mlscale-Inference-S"]) >= 0
    assert board.slot(9001).in_service(os.getpid()) == 0


def test_a_busy_worker_is_seen_by_its_own_process_only(handler: Handler, board: Board) -> None:
    slot = board.slot(9001)
    slot.begin()
    assert slot.in_service(os.getpid()) == 1
    assert slot.in_service(os.getpid() + 1) == 0, "an earlier process's count says nothing of its successor"
    assert board.slot(9001 + 1024).in_service(os.getpid()) == 0, "the slot's former worker"
    slot.end()
    assert slot.in_service(os.getpid()) == 0


def _drain(handler: Handler, board: Board, tmp_path: Path, token: int, secret: str | None = None) -> tuple[int, Any]:
    context = Context(tmp_path, {DRAIN_HEADER: f"{secret or board.secret}:{token}"})
    (reply,) = handler.handle([{"body": b""}], context)
    return context.status, json.loads(reply)


def test_drain_token_for_another_worker_comes_back_at_once(handler: Handler, board: Board, tmp_path: Path) -> None:
    board.beat()
    board.aim(9002, 1)
    assert _drain(handler, board, tmp_path, 1) == (200, {"drain": "not me"})
    assert _drain(handler, board, tmp_path, 1, secret="guess")[0] == 403


def test_drain_token_is_held_until_released(handler: Handler, board: Board, tmp_path: Path) -> None:
    board.beat()
    board.aim(9001, 7)
    replies: list[Any] = []
    thread = threading.Thread(target=lambda: replies.append(_drain(handler, board, tmp_path, 7)))
    thread.start()
    while board.slot(9001).holds(7) is None:
        assert thread.is_alive()
    assert board.slot(9001).in_service(os.getpid()) == 0, "a token is no client's request"
    board.release(7)
    thread.join(20)
    assert replies == [(200, {"drain": "given back"})]
    assert board.slot(9001).holds(7) is None


def test_a_silent_controller_gets_its_token_back(handler: Handler, board: Board, tmp_path: Path) -> None:
    board.aim(9001, 8)  # and no sign of life, ever
    assert _drain(handler, board, tmp_path, 8) == (200, {"drain": "given back"})


def test_worker_id_from_the_command_line() -> None:
    assert worker_id(["w", "--sock-name", "/tmp/x/.ts.sock.9012"]) == 9012
    assert worker_id(["w", "--port", "9003"]) == 9003
    with pytest.raises(ValueError, match="worker"):
        worker_id(["w"])


def _rows(*rows: tuple[int, str, int | None]) -> list[Worker]:
    return [Worker(*row) for row in rows]


def _kinds(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.kind, change.subject) for change in changes]


def test_lifecycle_of_growing_and_draining() -> None:
    life = Lifecycle()
    assert _kinds(life.update(0.0, {9000: 10}, _rows((9000, "READY", 10)))) == [
        ("replica_created", "replica-10"),
        ("replica_started", "replica-10"),
        ("replica_ready", "replica-10"),
    ]
    life.scaled_up(1.0)
    created, started = life.update(1.5, {9000: 10, 9001: 11}, _rows((9000, "READY", 10), (9001, "UNLOADING", None)))
    assert (created.t_s, created.kind, created.subject) == (1.0, "replica_created", "replica-11")
    assert (started.t_s, started.known_within_s) == (1.5, 1.5)
    (ready,) = life.update(2.0, {9000: 10, 9001: 11}, _rows((9000, "READY", 10), (9001, "READY", 11)))
    assert (ready.kind, ready.known_within_s) == ("replica_ready", 0.5)
    assert life.update(2.5, {9000: 10, 9001: 11}, _rows((9000, "READY", 10), (9001, "READY", 11))) == []
    assert _kinds(life.draining(9001, 2.6)) == [("replica_draining", "replica-11")]
    assert life.draining(9001, 2.6) == [], "told once"
    (removed,) = life.update(3.0, {9000: 10}, _rows((9000, "READY", 10)))
    assert (removed.kind, removed.detail["drained"]) == ("replica_removed", True)


def test_lifecycle_of_a_killed_and_restarted_worker() -> None:
    life = Lifecycle()
    life.update(0.0, {9000: 10}, _rows((9000, "READY", 10)))
    (failed,) = life.update(1.0, {}, _rows((9000, "READY", 10)))
    assert (failed.kind, failed.detail["stage"]) == ("replica_failed", "serving")
    created, started = life.update(2.0, {9000: 12}, _rows((9000, "UNLOADING", None)))
    assert created.detail["reason"] == "restarted by TorchServe"
    assert started.subject == "replica-12"
    (failed,) = life.update(3.0, {}, [])
    assert failed.detail["stage"] == "starting"


def test_lifecycle_draining_called_off() -> None:
    life = Lifecycle()
    life.update(0.0, {9000: 10}, [])
    life.draining(9000, 0.5)
    life.drain_cancelled(9000)
    assert _kinds(life.update(1.0, {}, [])) == [("replica_failed", "replica-10")]


def test_state_is_read_and_nonsense_is_no_answer() -> None:
    model = {
        "minWorkers": 1,
        "workers": [{"id": "9000", "status": "READY", "pid": 5}, {"id": "9001", "status": "UNLOADING", "pid": -1}],
        "jobQueueStatus": {"remainingCapacity": 93, "pendingRequests": 7},
    }
    state = parse_state(json.dumps([model]).encode())
    assert state.pending == 7
    assert state.workers == (Worker(9000, "READY", 5), Worker(9001, "UNLOADING", None))
    for nonsense in (b"", b"[]", b'[{"workers": []}]', b"<html>"):
        with pytest.raises(NoAnswer):
            parse_state(nonsense)


def _process(proc: Path, pid: int, argv: list[str], state: str = "S", component: str = "app", parent: int = 1) -> None:
    (proc / str(pid) / "cwd").mkdir(parents=True, exist_ok=True)
    (proc / str(pid) / "cwd" / COMPONENT_FILE).write_text(component + "\n")
    (proc / str(pid) / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in argv))
    (proc / str(pid) / "stat").write_text(f"{pid} (py (x) {state} {parent} 1")


def test_workers_are_found_by_their_sockets_and_kept_while_they_run(tmp_path: Path) -> None:
    argv = ["python", "model_service_worker.py", "--sock-type", "unix", "--sock-name"]
    _process(tmp_path, 10, [*argv, "/box/tmp/.ts.sock.9000"])
    _process(tmp_path, 11, [*argv, "/other/tmp/.ts.sock.9000"])
    _process(tmp_path, 12, ["java", "-jar"])
    _process(tmp_path, 13, [*argv, "/box/tmp/.ts.sock.9001"], component="readers")
    found = worker_processes("/box/tmp", "app", {}, tmp_path)
    assert found == {9000: 10}
    assert worker_processes("/box/tmp", "readers", {}, tmp_path) == {9001: 13}
    _process(tmp_path, 9, [*argv, "/box/tmp/.ts.sock.9000"], parent=10)
    _process(tmp_path, 14, [*argv, "/box/tmp/.ts.sock.9000"], parent=10)
    assert worker_processes("/box/tmp", "app", {}, tmp_path) == {9000: 10}, "what a wrapper forked is no worker"
    for pid in (9, 14):
        (tmp_path / str(pid) / "cmdline").unlink()
    _process(tmp_path, 10, [])  # in the midst of an exec
    assert worker_processes("/box/tmp", "app", found, tmp_path) == {9000: 10}
    _process(tmp_path, 10, [], state="Z")
    assert worker_processes("/box/tmp", "app", found, tmp_path) == {}
    assert worker_processes("/box/tmp", "app", {9000: 99}, tmp_path) == {}


def test_files_of_a_deployment(tmp_path: Path) -> None:
    layout = Layout(tmp_path / "serve")
    layout.create()
    component = Component("app", "json:loads")
    archive = build_archive(layout, Ports(), App("a", "1", (component,), "app"), component)
    with zipfile.ZipFile(archive) as file:
        manifest = json.loads(file.read("MAR-INF/MANIFEST.json"))
        assert manifest["model"]["handler"] in file.namelist()
        about = json.loads(file.read("mlscale.json"))
        assert (about["entry"], about["calls"]) == ("json:loads", {})
        assert file.read(COMPONENT_FILE) == b"app\n"
    settings = configuration(Ports(), {"app": TorchServeScaling(min_replicas=2, job_queue_size=9)})
    assert settings["job_queue_size"] == "9"
    assert settings["disable_token_authorization"] == "false"
    assert all("127.0.0.1" in value for name, value in settings.items() if name.endswith("address"))
    assert json.loads(settings["models"])["app"]["1.0"]["minWorkers"] == 2
    assert environment(layout, [component])["OMP_NUM_THREADS"] == "1"
    assert layout.root.stat().st_mode & 0o077 == 0


def test_a_key_file_counts_when_it_is_whole(tmp_path: Path) -> None:
    keys = tmp_path / "key_file.json"
    assert not has_tokens(keys)
    for text in ("", '{"management": {"key": "a"}', '{"management": {"key": "a"}, "inference": {"key": "b"}}'):
        keys.write_text(text)
        assert not has_tokens(keys)
    keys.write_text(json.dumps({name: {"key": "x"} for name in ("management", "inference", "API")}))
    assert has_tokens(keys)


def test_settings_shown_leave_places_out(tmp_path: Path) -> None:
    log = tmp_path / "ts_log.log"
    log.write_text("Torchserve version: 0.12.0\nTS Home: /somewhere\nNumber of CPUs: 2\nInference address: http://x\n")
    assert read_settings(log) == {"Torchserve version": "0.12.0", "Number of CPUs": "2"}


def test_arms() -> None:
    arms = {name: TorchServe().arm(name) for name in ("shipped", "matched", "static-min", "static-max")}
    assert arms["shipped"] == TorchServeScaling()
    assert (arms["matched"].target_ongoing, arms["matched"].upscale_delay_s, arms["matched"].max_replicas) == (1, 1, 4)
    assert (arms["static-min"].min_replicas, arms["static-min"].max_replicas) == (1, 1)
    assert (arms["static-max"].min_replicas, arms["static-max"].max_replicas) == (4, 4)
    with pytest.raises(MlscaleError, match="unknown arm"):
        TorchServe().arm("best")


@pytest.mark.parametrize("bad", [{"min_replicas": 5}, {"period_s": 0.1}, {"nonsense": 1}, {"target_ongoing": 0}])
def test_bad_settings_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        TorchServeScaling(**bad)


def test_preflight_names_every_problem(tmp_path: Path) -> None:
    missing = Component("app", "no_such_package.here:make", weights=(tmp_path / "none.safetensors",))
    problems = TorchServe().preflight(App("a", "1", (missing,), "app"), {"app": Scaling()}, "simulated")
    text = " | ".join(f"{p.what} {p.where}" for p in problems)
    for part in ("mode 'simulated'", "no_such_package", "none.safetensors", "settings: Scaling"):
        assert part in text
    good = App("a", "1", (Component("app", "json:loads"),), "app")
    assert TorchServe().preflight(good, {"app": TorchServeScaling()}, "live") == []


def test_a_start_waits_for_what_its_wrapper_records_but_not_longer_than_for_its_next_event() -> None:
    def event(t_s: float, kind: EventKind, subject: str) -> Event:
        return Event(t_s, "app", kind, subject, known_within_s=0.1)

    sample = ReplicaSample(0.3, "app", 2, 2, 0)
    seen = [
        event(0.2, "replica_started", "replica-7"),
        event(0.2, "replica_started", "replica-8"),
        event(0.2, "replica_started", "replica-9"),
        sample,
        event(0.4, "replica_failed", "replica-8"),
        sample,
    ]
    told = iter([(), (), (ReplicaStart("replica-7", 7, 0.002, math.nan),)])
    found = list(with_starts(seen, lambda: next(told, ()), RunClock()))
    assert [(one.subject, one.detail) for one in found if isinstance(one, Event) and one.kind == "replica_started"] == [
        ("replica-7", {"cpu_before_s": 0.002}),
        ("replica-8", {}),
        ("replica-9", {}),
    ]
    assert found.index(seen[4]) == found.index(seen[1]) + 1, "a start is told before the end of the same replica"
    assert len(found) == len(seen), "and nothing is told twice or lost"
