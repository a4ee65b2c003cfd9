"""Two components on Kubernetes: each one's pods, replicas, decisions and CPU are told apart."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client
from kubernetes_shapes import change, metadata, plain, pod, running

from mlscale.environments.kubernetes.deployed import KubernetesDeployed
from mlscale.environments.kubernetes.list_watch import Change, Lost
from mlscale.environments.kubernetes.manifests import DeployedComponent, Deployment, Packaging
from mlscale.environments.kubernetes.names import COMPONENT
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.host.cgroups import CpuReading
from mlscale.host.proctable import Usage
from mlscale.runs import Event, ReplicaSample, ResourceSample, RunClock

PACKED = Packaging("app:1", ("python",))


@dataclass
class FakeWatches:
    """Stands in for `Watches`: what was seen, without an API server."""

    kept: list[Change]
    changes: queue.SimpleQueue[Change | Lost] = field(default_factory=queue.SimpleQueue)

    def follows(self, source: str) -> bool:
        return False


class FakeNode:
    """Stands in for a node's cgroups: every pod has used a second."""

    def parts(self) -> None:
        return None

    def pods(self, pods: Mapping[str, str]) -> dict[str, Usage]:
        return {name: Usage(CpuReading(1.0), 2.0**20) for name in pods}


class FakeLoadCgroup:
    """Stands in for the load generator's cgroup, in which nothing runs."""

    def usage(self) -> Mapping[str, Usage]:
        return {}


class FakeApi:
    """Stands in for an API server that has no logs."""

    def text(self, path: str, query: Any) -> str:
        return ""


def of(component: str, thing: dict[str, Any]) -> dict[str, Any]:
    thing["metadata"]["labels"][COMPONENT] = component
    return thing


def hpa(name: str, desired: int) -> dict[str, Any]:
    conditions = [client.V2HorizontalPodAutoscalerCondition(type="ScalingActive", status="True", reason="Valid")]
    return plain(
        client.V2HorizontalPodAutoscaler(
            metadata=metadata(name),
            spec=client.V2HorizontalPodAutoscalerSpec(
                max_replicas=4, scale_target_ref=client.V2CrossVersionObjectReference(kind="Deployment", name=name)
            ),
            status=client.V2HorizontalPodAutoscalerStatus(desired_replicas=desired, conditions=conditions),
        )
    )


def seen(*changes: Change) -> list[Any]:
    parts = tuple(
        DeployedComponent(name, "m:f", KubernetesScaling(), PACKED, name == "front") for name in ("back", "front")
    )
    wanted = Deployment("mlscale-0123abcd", "mlscale-0123abcd", "demo", parts)
    stand_ins: Any = (FakeApi(), wanted, FakeWatches(list(changes)), FakeLoadCgroup(), FakeNode())
    stop = threading.Event()
    found = KubernetesDeployed(*stand_ins, url="", facts={}, versions={}).observe(RunClock(), stop)
    return list(_one_round(found, stop))


def _one_round(found: Iterator[Any], stop: threading.Event) -> Iterator[Any]:
    for observation in found:
        if isinstance(observation, ResourceSample):
            stop.set()
        yield observation


def test_each_components_pods_decisions_and_cpu_carry_its_name() -> None:
    up = {"scheduled": True, "ready": True, "state": running()}
    found = seen(
        change("pods", of("back", pod("back-1", **up)), kind="ADDED"),
        change("pods", of("front", pod("front-1", **up)), kind="ADDED"),
        change("autoscalers", hpa("back", 3)),
    )
    events = [each for each in found if isinstance(each, Event)]
    assert {(e.component, e.subject) for e in events if e.kind == "replica_ready"} == {
        ("back", "back-1"),
        ("front", "front-1"),
    }
    (decision,) = [each for each in events if each.kind == "scale_decision"]
    assert (decision.component, decision.detail["from"], decision.detail["to"]) == ("back", 1, 3)
    last = {each.component: each for each in found if isinstance(each, ReplicaSample)}
    assert {name: (row.desired, row.starting, row.ready) for name, row in last.items()} == {
        "back": (3, 0, 1),
        "front": (1, 0, 1),
    }
    rows = [each for each in found if isinstance(each, ResourceSample)]
    assert {(row.component, row.subject) for row in rows if row.role == "replica"} == {
        ("back", "back-1"),
        ("front", "front-1"),
    }
    assert {row.component for row in rows if row.role != "replica"} == {""}, "the host is everybody's"
