"""A partitioned application on the real frameworks: components scale separately, and a killed one gives 503."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import load_clients
import psutil
import pytest
from load_clients import ask_once
from watched import Watched

from mlscale import environments
from mlscale.environments.base import App, Component, Deployed, Scaling
from mlscale.host.ledger import Ledger
from mlscale.host.sandbox import Sandbox
from mlscale.runs import Event, ReplicaSample, ResourceSample

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")]

PATIENCE_S = 120.0


def _app(front: str = "make_front") -> App:
    parts = (
        Component("front", f"two_components:{front}", calls=("back",)),
        Component("back", "two_components:make_back"),
    )
    return App("two", "1", parts, "front")


def _scalings(name: str, back: int = 2) -> dict[str, Scaling]:
    """A front fixed at two replicas, and a back of one that may grow to ``back``. The quota is generous, since no test
    depends on it and a start costs seconds of CPU."""
    matched = environments.get(name).arm("matched")
    quick = {"cpu_cores": 1.0, "upscale_delay_s": 0.5, "downscale_delay_s": 600.0}
    front = type(matched).model_validate({**matched.model_dump(), **quick, "min_replicas": 2, "max_replicas": 2})
    return {"front": front, "back": front.model_copy(update={"min_replicas": 1, "max_replicas": back})}


class ComponentsWatched(Watched):
    """A deployment's observations, by component."""

    def of(self, kind: type[Any], component: str | None = None) -> list[Any]:
        return [
            observation
            for observation in list(self.seen)
            if isinstance(observation, kind) and (component is None or observation.component == component)
        ]

    def ready(self, component: str) -> int:
        samples = self.of(ReplicaSample, component)
        return samples[-1].ready if samples else 0


@contextmanager
def _up(
    name: str, app: App, scalings: dict[str, Scaling], tmp_path: Path
) -> Iterator[tuple[Deployed, Sandbox, ComponentsWatched]]:
    environment = environments.get(name)
    problems = [problem for problem in environment.preflight(app, scalings, "live") if problem.fatal]
    if problems:
        pytest.skip(f"{name} can't run live here: {problems[0].what}")
    ledger = Ledger.create(f"test-{os.getpid()}")
    with environment.deploy(app, scalings, "live", ledger, [b"photo-1", b"photo-2"]) as deployed:
        box: Sandbox = deployed.box  # type: ignore[attr-defined]
        seen = ComponentsWatched(deployed, PATIENCE_S)
        try:
            yield deployed, box, seen
        finally:
            seen.close()
    folder = box.folder
    ledger.close()
    assert not folder.exists(), "nothing is left behind"
    assert not list((tmp_path / "state").rglob("*.jsonl")), "and the ledger agrees"


@pytest.fixture(autouse=True)
def own_ledgers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def _is_right(reply: dict[str, Any]) -> bool:
    return json.loads(reply["text"]) == {"echo": [reply["body"], reply["body"] + "+"]}


@pytest.mark.parametrize("name", ["torchserve", "rayserve"])
def test_components_scale_separately_and_a_killed_one_gives_503(name: str, tmp_path: Path) -> None:
    with _up(name, _app(), _scalings(name), tmp_path) as (deployed, box, seen):
        _check_hops(deployed, box)
        failed: list[dict[str, Any]] = []
        for attempt in range(3):  # a request may end in the moment before its replica is killed
            load = load_clients.start(deployed, 4, "slow")  # nearly always at the back
            seen.until(lambda: seen.ready("back") == 2, "the back has grown")
            if attempt == 0:
                _check_rows_by_component(seen)
            seen.until(lambda: _both_busy(seen), "both replicas of the back are busy")
            _kill_the_back(box, seen)
            replies = load_clients.replies(load)
            assert {reply["status"] for reply in replies} <= {200, 503}
            assert all(_is_right(reply) for reply in replies if reply["status"] == 200), "never a wrong answer"
            failed = [reply for reply in replies if reply["status"] == 503]
            if failed:
                break
        assert failed, "requests were at the back when it was killed"
        assert all("component 'back'" in json.loads(reply["text"])["error"] for reply in failed)
        assert _is_right(ask_once(deployed, "after")), "it has recovered"
        assert {event.component for event in seen.of(Event) if event.kind == "replica_failed"} == {"back"}


def _check_hops(deployed: Deployed, box: Sandbox) -> None:
    reply = ask_once(deployed, "photo")
    assert reply["status"] == 200
    assert _is_right(reply)
    hops = json.loads(reply["headers"]["x-mlscale-hops"])
    assert [hop[0] for hop in hops] == ["front", "back", "back"]
    assert {hop[1] for hop in hops} <= set(box.replicas())
    assert hops[0][1] == reply["headers"]["x-mlscale-replica"] != hops[1][1]
    assert hops[0][4] + hops[1][4] + hops[2][4] <= float(reply["headers"]["x-mlscale-inference-s"])
    assert all(hop[3] > 0 for hop in hops[1:])
    refused = ask_once(deployed, "not a photo")
    assert (refused["status"], json.loads(refused["text"])) == (400, {"error": "not a photo"})


def _check_rows_by_component(seen: ComponentsWatched) -> None:
    grown = [e for e in seen.of(Event) if e.kind == "scale_decision" and e.detail["to"] > e.detail["from"]]
    assert {event.component for event in grown} == {"back"}
    assert {sample.desired for sample in seen.of(ReplicaSample, "front")} == {2}, "the front is not scaled"
    owners = {sample.subject: sample.component for sample in seen.of(ResourceSample) if sample.role == "replica"}
    assert sorted(owners.values()) == ["back", "back", "front", "front"]
    started = {event.subject: event.component for event in seen.of(Event) if event.kind == "replica_started"}
    assert started == owners, "events and resources name the same replicas"
    assert {sample.component for sample in seen.of(ResourceSample) if sample.role != "replica"} == {""}


def _both_busy(seen: ComponentsWatched) -> bool:
    """Whether two of the back's replicas used CPU in both of their last samples (0.5 s each)."""
    last = [sample for sample in seen.of(ResourceSample, "back") if sample.role == "replica"][-4:]
    return len({sample.subject for sample in last}) == 2 and all(sample.cpu_cores > 0.2 for sample in last)


def _computes(pid: int) -> bool:
    """Whether the process computes now. Ray's router waits up to 1 s before it tries full replicas again, so a replica
    can be idle while requests wait for it."""
    process = psutil.Process(pid)
    before_s = process.cpu_times().user
    time.sleep(0.05)
    return process.cpu_times().user - before_s > 0.025


def _kill_the_back(box: Sandbox, seen: ComponentsWatched) -> None:
    """Kill both of its replicas while a request is there, and wait until there are two others."""
    started = {event.subject for event in seen.of(Event, "back") if event.kind == "replica_started"}
    killed = {subject: processes for subject, processes in box.replicas().items() if subject in started}
    assert len(killed) == 2, "the back has two replicas"
    pids = [processes[0].outside for processes in killed.values()]
    seen.until(lambda: any(map(_computes, pids)), "a request is at the back")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    failed = [event.subject for event in seen.of(Event, "back") if event.kind == "replica_failed"]
    seen.until(
        lambda: {e.subject for e in seen.of(Event, "back") if e.kind == "replica_failed"} >= killed.keys(),
        f"the failures of {sorted(killed)} are reported, so far of {failed}",
    )
    seen.until(lambda: seen.ready("back") == 2 and not killed.keys() & set(box.replicas()), "the back has recovered")


@pytest.mark.proof
def test_requests_of_disconnected_clients_are_cancelled(tmp_path: Path) -> None:
    """Ray Serve notifies a replica that its client has disconnected; the call it waits for is cancelled, too."""
    with _up("rayserve", _app("make_counting_front"), _scalings("rayserve", back=1), tmp_path) as (deployed, _, _seen):
        abandoned = load_clients.replies(load_clients.start(deployed, -3, "hold", timeout_s=0.7))
        assert [reply["status"] for reply in abandoned] == [0] * 4
        served = json.loads(ask_once(deployed, "photo")["text"])["held"]
        assert served < 4, "of four requests, those still waiting were never served"
