"""Parts of Ray Serve's rehearsal on machines: settings, Ray's configuration, boot times, machines as events."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray")

from mlscale import environments
from mlscale.cost import paid_by
from mlscale.environments.base import App, Component
from mlscale.environments.emit import Emitter
from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.environments.rayserve.machines import MachineWatch
from mlscale.environments.rayserve.node_provider import BootingProvider
from mlscale.environments.rayserve.rehearsal import autoscaling, with_machines
from mlscale.environments.rayserve.settings import RayMachineScaling
from mlscale.measurement.settings import settings_of
from mlscale.runs import Event, EventKind, MlscaleError, ReplicaSample

APP = App("any", "1", (Component("app", "builtins:len"),), "app")


def problems(**changes: Any) -> list[str]:
    rehearsal = environments.get("rayserve").in_mode("rehearsal")  # type: ignore[attr-defined]
    scalings = settings_of(rehearsal, APP, "matched", changes)
    return [problem.what for problem in rehearsal.preflight(APP, scalings, "rehearsal") if problem.fatal]


def test_a_rehearsal_has_its_own_level_settings_and_problems() -> None:
    rayserve: Any = environments.get("rayserve")
    assert rayserve.in_mode("live") is rayserve
    assert (rayserve.level, rayserve.in_mode("rehearsal").level) == ("application", "application+machine")
    assert problems(boot="10s", machine_types="rehearsal.medium,rehearsal.large") == []
    assert "unknown boot times 'soon'" in problems(boot="soon")[0]
    assert "unknown machine type huge" in problems(machine_types="huge")[0]
    assert "the largest machine has 0.3" in problems(cpu_cores=0.5)[0]
    assert "rehearsed here only" in " ".join(problems(address="http://127.0.0.1:1"))
    with pytest.raises(MlscaleError, match="head node of a rehearsal always runs"):
        problems(min_replicas=0)
    with pytest.raises(MlscaleError, match="boot"):
        settings_of(rayserve, APP, "matched", {"boot": "10s"})


def test_machines_are_paid_for_where_ray_adds_them() -> None:
    rayserve: Any = environments.get("rayserve")
    assert paid_by("rayserve", rayserve.arm("matched").model_dump()) == "own machines"
    assert paid_by("rayserve", rayserve.in_mode("rehearsal").arm("matched").model_dump()) == "instances"


def test_the_head_has_room_for_the_least_replicas_and_a_machine_for_what_its_type_has() -> None:
    scaling = RayMachineScaling(cpu_cores=0.25, min_replicas=2, max_machines=3, idle_timeout_s=90.0)
    made = autoscaling([scaling, scaling])
    types = made["available_node_types"]
    assert types[made["head_node_type"]]["resources"] == {"millicores": 1000}
    room = catalogue().types["rehearsal.small"].cpu_cores - RESERVED_CORES
    assert types["rehearsal.small"] == {
        "resources": {"millicores": round(room * 1000)},
        "node_config": {},
        "max_workers": 3,
    }
    assert (made["max_workers"], made["idle_timeout_minutes"], made["upscaling_speed"]) == (3, 1.5, 1.0)


class Node:
    """Stands in for a node of Ray."""

    ended = False

    def kill_all_processes(self, **_: bool) -> None:
        self.ended = True


class Provider(BootingProvider):
    """Starts no node; ``broken``: it can't."""

    broken = False

    def start_node(self, name: str, machine_type: str, resources: dict[str, float]) -> Node:
        if self.broken:
            raise OSError("no memory")
        return Node()


Provide = Callable[[str], Provider]


@pytest.fixture
def reports(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "reports"))
        bound.settimeout(20.0)
        yield bound


@pytest.fixture
def provide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Provide:
    """A provider whose machines take so long to boot."""
    monkeypatch.setenv("RAY_FAKE_CLUSTER", "1")
    config = {"reports": str(tmp_path / "reports"), "launch_multiple": True, "head_node_id": "head"}
    return lambda boot: Provider({**config, "boot": boot}, "any")


def create(provider: Provider, count: int = 1) -> None:
    tags = {"ray-node-type": "worker", "ray-user-node-type": "rehearsal.small"}
    provider.create_node_with_resources_and_labels({}, tags, count, {}, {})


def next_report(reports: socket.socket) -> tuple[str, str, float]:
    message = json.loads(reports.recv(4096))
    return message["kind"], message["subject"], message["t"]


def test_a_machine_is_there_at_once_and_runs_once_it_has_booted(provide: Provide, reports: socket.socket) -> None:
    machines = provide("300ms")
    create(machines, 2)
    assert machines.non_terminated_nodes({"ray-node-type": "worker"}) == ["machine-1", "machine-2"]
    told = [next_report(reports) for _ in range(4)]
    assert [kind for kind, *_ in told] == ["machine_requested"] * 2 + ["machine_booted"] * 2
    for name in ("machine-1", "machine-2"):
        requested_s, booted_s = [t for _, subject, t in told if subject == name]
        assert booted_s - requested_s >= 0.3
    until(lambda: all(machines._nodes[name]["node"] for name in ("machine-1", "machine-2")))
    node = machines._nodes["machine-1"]["node"]
    machines.terminate_node("machine-1")
    assert node.ended
    assert next_report(reports)[:2] == ("machine_removed", "machine-1")
    assert machines.non_terminated_nodes({}) == ["head", "machine-2"]


def test_a_machine_that_is_terminated_while_it_boots_never_starts(provide: Provide, reports: socket.socket) -> None:
    machines = provide("3600s")
    create(machines)
    boot = machines._nodes["machine-1"]["boot"]
    machines.terminate_node("machine-1")
    assert boot.finished.is_set(), "its start is called off"
    assert [next_report(reports)[0] for _ in range(2)] == ["machine_requested", "machine_removed"]


def test_a_machine_whose_raylet_does_not_start_has_failed(provide: Provide, reports: socket.socket) -> None:
    machines = provide("none")
    machines.broken = True
    create(machines)
    assert [next_report(reports)[0] for _ in range(3)] == ["machine_requested", "machine_booted", "machine_failed"]
    assert machines.is_terminated("machine-1"), "Ray then requests another"


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


class Told(Emitter):
    def __init__(self) -> None:
        super().__init__()
        self.messages: list[dict[str, Any]] = []

    def send(self, kind: str, /, **fields: Any) -> None:
        self.messages.append(fields)


def test_a_machine_has_joined_when_ray_lists_it() -> None:
    told = Told()
    watch = MachineWatch("app", told)
    assert watch.awaited, "the head is not known yet"
    head = {"NodeID": "aa", "NodeName": "head", "Alive": True}
    watch.listed([head], 1.0, 0.5)
    assert (watch.awaited, watch.name("aa"), watch.name(None)) == (False, "head", None)
    watch.reported({"kind": "machine_requested", "subject": "machine-1", "t": 2.0, "detail": {}})
    assert watch.awaited
    watch.reported({"kind": "machine_booted", "subject": "machine-1", "t": 3.0, "detail": {}})
    watch.listed([head, {"NodeID": "bb", "NodeName": "machine-1", "Alive": False}], 4.0, 3.5)
    assert watch.awaited
    for t in (5.0, 6.0):
        watch.listed([head, {"NodeID": "bb", "NodeName": "machine-1", "Alive": True}], t, t - 0.5)
    assert not watch.awaited
    seen = [(message["kind"], message["t"], message["known_within_s"]) for message in told.messages]
    assert seen[2:] == [("machine_registered", 5.0, 0.5), ("machine_ready", 5.0, 0.5)]


def test_samples_count_machines() -> None:
    sample = ReplicaSample(0.0, "app", 1, 0, 1)
    kinds: tuple[EventKind, ...] = ("machine_requested", "machine_booted", "machine_ready", "machine_removed")
    events = [Event(0.0, "app", kind, "machine-1") for kind in kinds]
    observations = [each for event in events for each in (event, sample)]
    counts = [
        (each.machines_desired, each.machines_ready)
        for each in with_machines([sample, *observations])
        if isinstance(each, ReplicaSample)
    ]
    assert counts == [(0, 0), (1, 0), (1, 0), (1, 1), (0, 0)]
