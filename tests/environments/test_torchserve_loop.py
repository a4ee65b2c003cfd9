"""The control loop against a TorchServe made of lists: what it asks for, when, and what it reports."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from mlscale.environments.emit import Emitter
from mlscale.environments.torchserve.api import ModelState, Worker
from mlscale.environments.torchserve.control_loop import Loop, Spec
from mlscale.environments.torchserve.drain import DrainResult


class FakeDrain:
    """A drain that does nothing until the test says what came of it."""

    def __init__(self, worker: int) -> None:
        self.worker, self.cancelled = worker, False
        self.held_s: float | None = None
        self.outcome: DrainResult | None = None

    def cancel(self) -> None:
        self.cancelled = True

    def join(self, timeout_s: float | None = None) -> None:
        assert self.cancelled


class FakeServer:
    """Workers, their processes, the queue, and the clock that the loop reads."""

    def __init__(self) -> None:
        self.now_s, self.ongoing = 100.0, 0
        self.workers = [Worker(9000, "READY", 10)]
        self.processes = {9000: 10}
        self.told = 1
        self.drains: list[FakeDrain] = []

    def look(self) -> tuple[ModelState, dict[int, int], int]:
        return ModelState(tuple(self.workers), 0, {"minWorkers": self.told}), dict(self.processes), self.ongoing

    def scale(self, workers: int) -> None:
        for number in range(len(self.workers), workers):
            self.workers.append(Worker(9000 + number, "UNLOADING", None))
            self.processes[9000 + number] = 10 + number
        for row in self.workers[workers:]:
            self.processes.pop(row.id, None)
        self.workers, self.told = self.workers[:workers], workers

    def all_ready(self) -> None:
        self.workers = [Worker(row.id, "READY", self.processes[row.id]) for row in self.workers]

    def begin_drain(self, state: ModelState) -> FakeDrain:
        self.drains.append(FakeDrain(state.workers[-1].id))
        return self.drains[-1]

    def finish_drain(self, removed: bool, reason: str = "") -> None:
        drain = self.drains[-1]
        if removed:
            drain.held_s = self.now_s
            self.scale(self.told - 1)
        drain.outcome = DrainResult(removed, reason)


@pytest.fixture
def server() -> FakeServer:
    return FakeServer()


class Harness:
    def __init__(self, server: FakeServer) -> None:
        spec = Spec(
            component="app",
            inference_port=0,
            management_port=0,
            keys="",
            board="",
            sockets="",
            start_timeout_s=1,
            period_s=0.5,
            sample_interval_s=0.25,
            look_back_s=0.3,
            controller={"max_replicas": 4, "upscale_delay_s": 1.0, "downscale_delay_s": 2.0},
        )
        self.server, self._text = server, io.StringIO()

        def clock() -> float:
            return server.now_s

        self.loop = Loop(spec, Emitter(self._text, clock), server, server, server.begin_drain, clock)
        self.loop.controlling = True

    def run(self, for_s: float) -> None:
        """Ticks every 0.25 s, each a few ms late as in life."""
        for _ in range(round(for_s / 0.25)):
            self.server.now_s += 0.003
            self.loop.tick()
            self.server.now_s += 0.247

    def messages(self, kind: str) -> list[dict[str, Any]]:
        rows = [json.loads(line) for line in self._text.getvalue().splitlines()]
        return [row for row in rows if kind in (row["type"], row.get("kind"))]


def test_growth_is_asked_for_once_after_the_delay(server: FakeServer) -> None:
    harness = Harness(server)
    harness.run(1.0)
    server.ongoing = 8
    began = server.now_s
    harness.run(3.0)
    assert server.told == 4
    moves = [row for row in harness.messages("scale_decision") if row["detail"]["from"] != row["detail"]["to"]]
    assert [(row["detail"]["from"], row["detail"]["to"]) for row in moves] == [(1, 4)]
    assert began + 1.0 <= moves[0]["t"] < began + 1.5, "the delay and at most one period more"
    assert [row["subject"] for row in harness.messages("replica_created")] == [
        f"replica-{pid}" for pid in range(10, 14)
    ]
    last = harness.messages("replicas")[-1]
    assert (last["desired"], last["starting"], last["ready"]) == (4, 3, 1)


def test_holds_are_told_when_their_reason_changes_only(server: FakeServer) -> None:
    harness = Harness(server)
    harness.run(5.0)
    assert [row["detail"]["rule"] for row in harness.messages("scale_decision")] == ["at-min"]


def _grown(server: FakeServer) -> Harness:
    harness = Harness(server)
    server.ongoing = 8
    harness.run(3.0)
    server.all_ready()
    harness.run(0.5)
    return harness


def test_workers_are_drained_one_by_one(server: FakeServer) -> None:
    harness = _grown(server)
    server.ongoing = 2
    harness.run(4.0)
    assert [drain.worker for drain in server.drains] == [9003], "one at a time, the newest"
    assert server.told == 4, "nothing is removed before it is drained"
    server.finish_drain(removed=True)
    harness.run(0.5)
    assert [drain.worker for drain in server.drains] == [9003, 9002]
    server.finish_drain(removed=True)
    harness.run(3.0)
    assert len(server.drains) == 2, "two are wanted and two are there"
    assert [row["subject"] for row in harness.messages("replica_draining")] == ["replica-13", "replica-12"]
    assert [row["subject"] for row in harness.messages("replica_removed")] == ["replica-13", "replica-12"]
    assert harness.messages("replica_failed") == []


def test_a_drain_that_failed_is_postponed_with_its_reason_and_tried_again(server: FakeServer) -> None:
    harness = _grown(server)
    server.ongoing = 3
    harness.run(3.0)
    server.finish_drain(removed=False, reason="the queue did not move in time")
    harness.run(0.5)
    assert len(server.drains) == 1
    (postponed,) = [row for row in harness.messages("scale_decision") if row["detail"]["rule"] == "postponed"]
    assert "the queue did not move" in postponed["detail"]["reason"]
    harness.run(1.5)
    assert len(server.drains) == 2
    assert harness.messages("replica_failed") == []


def test_a_drain_is_called_off_when_the_worker_is_wanted_again(server: FakeServer) -> None:
    harness = _grown(server)
    server.ongoing = 3
    harness.run(3.0)
    server.ongoing = 8
    harness.run(2.5)
    assert server.drains[0].cancelled
    server.finish_drain(removed=False, reason="called off")
    harness.run(3.0)
    assert (server.told, len(server.drains)) == (4, 1)


def test_a_starting_worker_is_not_removed_but_a_dead_one_is(server: FakeServer) -> None:
    harness = Harness(server)
    server.ongoing = 2
    harness.run(3.0)
    server.ongoing = 1
    harness.run(4.0)
    assert (server.told, server.drains) == (2, []), "it might turn ready and take a request just then"
    del server.processes[9001]
    harness.run(1.5)
    assert server.told == 1


def test_nothing_is_done_before_control_is_given(server: FakeServer) -> None:
    harness = Harness(server)
    harness.loop.controlling = False
    server.ongoing = 8
    harness.run(5.0)
    assert server.told == 1
    assert harness.messages("scale_decision") == []
    assert len(harness.messages("replicas")) == 20, "but it is watched"
