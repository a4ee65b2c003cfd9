"""Readings and lists of replicas become events and samples."""

from __future__ import annotations

import io
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

from mlscale.environments.emit import Emitter
from mlscale.environments.rayserve.agent import alive, process_started
from mlscale.environments.rayserve.watch import DecisionWatch, ReplicaView, ReplicaWatch


def _messages(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def _reading(t: float, total: float, target: int, wanted: int, current: int = 1) -> dict[str, float]:
    raw = total / 1.0
    return {
        "t": t,
        "total": total,
        "queued": total / 2,
        "current": current,
        "target": target,
        "raw": raw,
        "wanted": wanted,
    }


def _decisions() -> tuple[DecisionWatch, io.StringIO]:
    stream = io.StringIO()
    watch = DecisionWatch("app", Emitter(stream), target_per_replica=1.0, upscale_delay_s=1.0, downscale_delay_s=30.0)
    return watch, stream


def test_a_decision_lies_between_two_readings_and_rests_on_the_first() -> None:
    watch, stream = _decisions()
    for reading in (_reading(10.0, 1.0, 1, 1), _reading(10.1, 3.2, 1, 4), _reading(10.25, 2.0, 4, 2)):
        watch.read(reading)
    decided = [message for message in _messages(stream) if message["detail"]["from"] != message["detail"]["to"]]
    assert len(decided) == 1
    event = decided[0]
    assert event["kind"] == "scale_decision"
    assert event["t"] == 10.25
    assert abs(event["known_within_s"] - 0.15) < 1e-9
    assert (event["detail"]["from"], event["detail"]["to"], event["detail"]["total"]) == (1, 4, 3.2)
    assert "3.20 requests queued or in service (1.60 queued) / 1 a replica" in event["detail"]["reason"]
    assert "for 1 s without a break" in event["detail"]["reason"]


def test_holds_are_reported_when_their_kind_changes() -> None:
    watch, stream = _decisions()
    for t, wanted in enumerate([1, 1, 3, 4, 4, 1, 1, 0, 0]):
        watch.read(_reading(float(t), float(wanted), 1, wanted))
    reasons = [message["detail"]["reason"] for message in _messages(stream)]
    assert len(reasons) == 3, reasons
    assert "more are wanted" in reasons[0]
    assert "as many as wanted" in reasons[1]
    assert "fewer are wanted" in reasons[2]


def test_a_change_of_numbers_is_said_so_that_replicas_are_looked_at() -> None:
    watch, _ = _decisions()
    assert watch.read(_reading(0.0, 1.0, 1, 1))
    assert not watch.read(_reading(0.1, 5.0, 1, 4))
    assert watch.read(_reading(0.2, 5.0, 4, 4))
    assert watch.read(_reading(0.3, 5.0, 4, 4, current=2))


class _Replicas:
    def __init__(self) -> None:
        self.stream = io.StringIO()
        self.started = {7: 11.25}
        self.watch = ReplicaWatch("app", Emitter(self.stream), self.started.get)
        self.t = 10.0

    def poll(self, *views: ReplicaView, desired: int = 1) -> None:
        before, self.t = self.t, self.t + 0.5
        self.watch.poll(self.t, before, views, desired)

    @property
    def events(self) -> list[tuple[str, str]]:
        return [(m["kind"], m["subject"]) for m in _messages(self.stream) if m["type"] == "event"]

    @property
    def samples(self) -> list[tuple[int, int, int]]:
        return [(m["desired"], m["starting"], m["ready"]) for m in _messages(self.stream) if m["type"] == "replicas"]


def test_a_whole_life() -> None:
    replicas = _Replicas()
    replicas.poll(ReplicaView("abc", "STARTING", None, 1700.0))
    assert replicas.events == [], "its creation waits for the name that everything else calls it by"
    replicas.poll(ReplicaView("abc", "STARTING", 7, 1700.0))
    replicas.poll(ReplicaView("abc", "RUNNING", 7, 1700.0))
    replicas.poll(ReplicaView("abc", "RUNNING", 7, 1700.0))
    replicas.poll(ReplicaView("abc", "STOPPING", 7, 1700.0), desired=0)
    replicas.poll(desired=0)
    kinds = ["replica_created", "replica_started", "replica_ready", "replica_draining", "replica_removed"]
    assert replicas.events == [(kind, "replica-7") for kind in kinds]
    assert replicas.samples == [(1, 1, 0), (1, 1, 0), (1, 0, 1), (1, 0, 1), (0, 0, 0), (0, 0, 0)]
    created, started, ready = [m for m in _messages(replicas.stream) if m["type"] == "event"][:3]
    assert (created["t"], created["known_within_s"], created["source_time"]) == (10.5, 0.5, "1700.000")
    assert (started["t"], started["known_within_s"]) == (11.25, 0.02), "the kernel knows when the process began"
    assert (ready["t"], ready["known_within_s"]) == (11.5, 0.5)


def test_a_process_that_ends_in_mid_life_has_failed() -> None:
    replicas = _Replicas()
    replicas.poll(ReplicaView("abc", "RUNNING", 7))
    assert replicas.watch.pids == {7: "abc"}
    replicas.watch.process_ended("abc", 10.7, 10.6)
    replicas.watch.process_ended("abc", 10.8, 10.7)
    assert replicas.watch.pids == {}
    replicas.poll(ReplicaView("abc", "RUNNING", 7), ReplicaView("new", "STARTING", None))
    replicas.poll(ReplicaView("abc", "STOPPING", 7), ReplicaView("new", "STARTING", 8))
    replicas.poll(ReplicaView("new", "STARTING", 8))
    ends = [event for event in replicas.events if event[1] == "replica-7"]
    assert [kind for kind, _ in ends][-2:] == ["replica_failed", "replica_removed"]
    assert [kind for kind, _ in ends].count("replica_failed") == 1
    assert "replica_draining" not in [kind for kind, _ in ends]
    assert replicas.samples[1] == (1, 1, 0), "a dead replica is not ready, whatever Ray still believes"


def test_a_draining_process_that_ends_has_not_failed() -> None:
    replicas = _Replicas()
    replicas.poll(ReplicaView("abc", "RUNNING", 7))
    replicas.poll(ReplicaView("abc", "STOPPING", 7))
    assert replicas.watch.pids == {}
    replicas.watch.process_ended("abc", 11.2, 11.1)
    replicas.poll()
    assert "replica_failed" not in [kind for kind, _ in replicas.events]


def test_a_replica_that_vanishes_unseen_has_failed() -> None:
    replicas = _Replicas()
    replicas.poll(ReplicaView("abc", "STARTING", None))
    replicas.poll()
    assert replicas.events == [("replica_created", "abc"), ("replica_failed", "abc"), ("replica_removed", "abc")]


def test_the_agent_knows_the_living_and_when_they_began() -> None:
    before = time.monotonic()
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    try:
        assert alive(child.pid)
        started = process_started(child.pid)
        if started is not None:  # no /proc: nobody can tell
            assert before - 0.05 <= started <= time.monotonic() + 0.05
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, not yet reaped
    if Path("/proc/self").exists():
        assert not alive(child.pid), "a zombie does not live"
    child.communicate()
    assert not alive(child.pid)
    assert process_started(child.pid) is None
