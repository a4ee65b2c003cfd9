"""Machines' lives, off NodeClaims and Nodes as Karpenter 1.9 writes them; the pool that a run asks for."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes_shapes import ORIGIN_T, change, pod

from mlscale.environments.base import own_model
from mlscale.environments.kubernetes.client import KubeContext
from mlscale.environments.kubernetes.cluster import Cluster
from mlscale.environments.kubernetes.eks import Eks
from mlscale.environments.kubernetes.environment import Room
from mlscale.environments.kubernetes.load_job import PodJob, body_maps, load_pod
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.machines import MachineWatch
from mlscale.environments.kubernetes.manifests import DeployedComponent, Deployment, Packaging
from mlscale.environments.kubernetes.node_pool import NODE_CLASS, POOL, class_path, node_pool, nodes
from mlscale.environments.kubernetes.pods import PodWatch
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.remote_job import BODIES
from mlscale.runs import Event, OpenLoop
from mlscale.runs.schedule import Constant, Trace

BOOTED = "mlscale/booted"
AT = "2026-11-25T12:00:00Z"


def claim(*true: str, provider: str = "kwok://m", booted: bool = False, ending: bool = False) -> dict[str, Any]:
    metadata: dict[str, Any] = {"name": "run-x1", "uid": "u", "creationTimestamp": AT}
    metadata["labels"] = {"node.kubernetes.io/instance-type": "rehearsal.small"}
    metadata |= {"annotations": {BOOTED: AT}} if booted else {}
    metadata |= {"deletionTimestamp": AT} if ending else {}
    conditions = [
        {"type": kind, "status": "True" if kind in true else "Unknown", "lastTransitionTime": AT}
        for kind in ("Launched", "Registered", "Initialized")
    ]
    return {"metadata": metadata, "status": {"providerID": provider, "conditions": conditions}}


def node(ready: str, provider: str = "kwok://m") -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "reason": "NodeStatusUnknown", "lastTransitionTime": AT}]
    return {
        "metadata": {"name": "m", "uid": "n"},
        "spec": {"providerID": provider},
        "status": {"conditions": conditions},
    }


def kinds(events: list[Event]) -> list[str]:
    return [one.kind for one in events]


@pytest.fixture
def watch() -> MachineWatch:
    return MachineWatch("app", ORIGIN_T, BOOTED)


def up(watch: MachineWatch) -> None:
    watch.claim(change("claims", claim(booted=True), 0.1, "ADDED"))
    watch.claim(change("claims", claim("Registered", "Initialized", booted=True), 0.2))


def test_a_machines_life(watch: MachineWatch) -> None:
    (asked,) = watch.claim(change("claims", claim(provider=""), 0.1, "ADDED"))
    assert (asked.kind, asked.subject, asked.component) == ("machine_requested", "run-x1", "app")
    assert (watch.desired, watch.ready) == (1, 0)
    assert kinds(watch.claim(change("claims", claim(booted=True), 3.0))) == ["machine_booted"]
    assert kinds(watch.claim(change("claims", claim("Registered", booted=True), 4.0))) == ["machine_registered"]
    (ready,) = watch.claim(change("claims", claim("Registered", "Initialized", booted=True), 5.0))
    assert (ready.kind, ready.detail) == ("machine_ready", {"type": "rehearsal.small"})
    assert (watch.desired, watch.ready) == (1, 1)
    assert watch.node(change("nodes", node("True"), 6.0)) == []
    ending = claim("Registered", "Initialized", booted=True, ending=True)
    assert watch.claim(change("claims", ending, 7.0)) == []
    assert (watch.desired, watch.ready) == (0, 0), "one that goes is not counted"
    assert kinds(watch.claim(change("claims", ending, 8.0, "DELETED"))) == ["machine_removed"]


def test_one_that_goes_before_it_came_has_failed(watch: MachineWatch) -> None:
    watch.claim(change("claims", claim(), 0.1, "ADDED"))
    failed, removed = watch.claim(change("claims", claim(ending=True), 2.0, "DELETED"))
    assert (failed.kind, failed.detail["reason"]) == ("machine_failed", "gone before it was registered")
    assert removed.kind == "machine_removed"
    assert (watch.desired, watch.ready) == (0, 0)


def test_one_that_is_not_heard_of_any_more_has_failed(watch: MachineWatch) -> None:
    up(watch)
    assert watch.node(change("nodes", node("Unknown", "kwok://another"), 50.0)) == []
    (failed,) = watch.node(change("nodes", node("Unknown"), 50.0))
    assert (failed.kind, failed.subject, failed.detail["reason"]) == ("machine_failed", "run-x1", "NodeStatusUnknown")
    assert (watch.desired, watch.ready) == (1, 0)
    assert watch.node(change("nodes", node("Unknown"), 51.0)) == [], "once"


def test_a_pod_without_room_says_so_once() -> None:
    waits = pod()
    waits["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes are available"}
    ]
    watch = PodWatch(ORIGIN_T)
    created, unschedulable = watch.take(change("pods", waits, 0.1, "ADDED"))
    assert created.kind == "replica_created"
    assert (unschedulable.kind, unschedulable.detail["reason"]) == ("replica_unschedulable", "0/1 nodes are available")
    assert watch.take(change("pods", waits, 0.2)) == []


def test_a_pool_asks_for_what_the_settings_say() -> None:
    scaling = MachineScaling.of_arm("matched").model_copy(update={"max_machines": 3, "consolidate_after_s": 30})
    made = node_pool("mlscale-0123abcd", scaling, {"rehearsal.small": 1024}, NODE_CLASS, "10s")
    assert made["metadata"]["annotations"] == {"mlscale/boot": "10s"}
    assert made["spec"]["limits"] == {"memory": "3072Mi"}
    assert made["spec"]["disruption"]["consolidateAfter"] == "30s"
    (types,) = [
        each["values"] for each in made["spec"]["template"]["spec"]["requirements"] if each["key"].endswith("type")
    ][:1]
    assert types == list(scaling.machine_types)


@pytest.mark.parametrize("given", ["c7i.large, m7i.large", '["c7i.large", "m7i.large"]', ["c7i.large", "m7i.large"]])
def test_types_are_given_as_text_too(given: object) -> None:
    assert MachineScaling.model_validate({"machine_types": given}).machine_types == ("c7i.large", "m7i.large")


class FakeApi:
    """Stands in for an API server that has a node class, and nothing else."""

    def find(self, path: str) -> dict[str, Any] | None:
        return {} if "/nodeclasses/" in path or "/ec2nodeclasses/" in path else None


def live_problems(**settings: Any) -> list[str]:
    scaling = MachineScaling.model_validate(settings)
    cluster = Cluster({}, (), None, None)
    return [each.what for each in Eks().no_room(FakeApi(), cluster, {"app": scaling}, "live")]  # type: ignore[arg-type]


def test_auto_mode_starts_no_machine_of_one_core() -> None:
    (problem,) = live_problems(machine_types="c7a.medium,c7i.large")
    assert "EKS Auto Mode never starts c7a.medium:" in problem
    assert live_problems(machine_types="c7a.medium", node_class="karpenter.k8s.aws/EC2NodeClass/default") == []
    (shown,) = re.findall(r"machine_types=(\S+) --out", (Path(__file__).parents[2] / "docs" / "aws.md").read_text())
    assert live_problems(machine_types=shown) == []


def test_room_is_kept_free_where_its_pods_priority_exists() -> None:
    (problem,) = live_problems(machine_types="c7i.large", buffer_replicas=1)
    assert "no PriorityClass mlscale-buffer" in problem


def test_live_and_rehearsed_pools_differ_in_what_makes_machines_and_in_their_types() -> None:
    rehearsed = MachineScaling.of_arm("matched")
    live = rehearsed.model_copy(update={"machine_types": ("c7a.medium",)})
    one = node_pool("run", rehearsed, {"rehearsal.small": 2048}, NODE_CLASS, "ec2")
    other = node_pool("run", live, {"c7a.medium": 2048}, live.node_class, None)
    assert _differing(one, other) == {
        "metadata.annotations",
        "spec.template.spec.nodeClassRef.group",
        "spec.template.spec.nodeClassRef.kind",
        "spec.template.spec.nodeClassRef.name",
        "spec.template.spec.requirements.0.values.0",
    }
    assert class_path(live.node_class) == "/apis/eks.amazonaws.com/v1/nodeclasses/default"
    assert class_path(NODE_CLASS) == "/apis/karpenter.kwok.sh/v1alpha1/kwoknodeclasses/mlscale"


def _differing(one: Any, other: Any, where: str = "") -> set[str]:
    """Places in which two objects differ."""
    if isinstance(one, dict) and isinstance(other, dict):
        return {
            found
            for key in one.keys() | other.keys()
            for found in (
                _differing(one[key], other[key], f"{where}.{key}".lstrip("."))
                if key in one and key in other
                else {f"{where}.{key}".lstrip(".")}
            )
        }
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return {found for number, pair in pairs for found in _differing(*pair, f"{where}.{number}")}
    return set() if one == other else {where}


def test_the_load_is_on_no_machine_of_the_run() -> None:
    packaging = Packaging(image="registry/app:1", command=("python", "-m", "mlscale.serving.container"))
    made = load_pod("mlscale-0123abcd", packaging, {POOL: "mlscale-0123abcd"}, {"MLSCALE_LOAD": "x"})
    affinity = made["spec"]["affinity"]
    (terms,) = affinity["nodeAffinity"].values()
    assert terms["nodeSelectorTerms"][0]["matchExpressions"] == [
        {"key": POOL, "operator": "NotIn", "values": ["mlscale-0123abcd"]}
    ]
    (away,) = affinity["podAntiAffinity"].values()
    assert away[0]["labelSelector"]["matchLabels"] == {"mlscale/run": "mlscale-0123abcd"}
    assert "mlscale/run" not in made["metadata"]["labels"], "or it would be away from itself"
    container = made["spec"]["containers"][0]
    assert container["command"] == ["python", "-m", "mlscale.loadgen.remote_job"]
    assert {"name": "MLSCALE_LOAD", "value": "x"} in container["env"]
    assert "affinity" not in load_pod("mlscale-0123abcd", packaging, {}, {})["spec"]


def test_the_files_to_send_reach_the_load_s_pod(tmp_path: Path) -> None:
    """Their folder in the pod, as the kubelet makes it of the ConfigMaps, holds what was read here: same digest."""
    source, mounted = tmp_path / "source", tmp_path / "mounted"
    for folder in (source, mounted):
        folder.mkdir()
    for number in range(5):
        (source / f"photo-{number}.jpg").write_bytes(bytes([number]) * 300_000)
    lines = [{"file": f"photo-{number}.jpg", "answer": "\u00e4"} for number in range(5)]
    (source / "labels.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    bodies = BodySet.read(source)
    maps = body_maps("mlscale-0123abcd", bodies)
    assert len(maps) == 2
    for each in maps:
        files = {name: base64.b64decode(content) for name, content in each["binaryData"].items()}
        assert sum(map(len, files.values())) <= 1024 * 1024
        for name, content in files.items():
            (mounted / name).write_bytes(content)
    assert BodySet.read(mounted).facts == bodies.facts
    names = [each["metadata"]["name"] for each in maps]
    made = load_pod("mlscale-0123abcd", Packaging(image="registry/app:1", command=("python",)), {}, {}, names)["spec"]
    (volume,) = [each for each in made["volumes"] if "projected" in each]
    assert [each["configMap"]["name"] for each in volume["projected"]["sources"]] == names
    (container,) = made["containers"]
    (mount,) = [each for each in container["volumeMounts"] if each["name"] == volume["name"]]
    assert {"name": BODIES, "value": mount["mountPath"]} in container["env"]


def test_the_load_s_pod_mounts_what_the_run_put_on_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    applied: list[dict[str, Any]] = []
    api: Any = SimpleNamespace(kube_context=KubeContext("config", "there"), apply=lambda _, each: applied.append(each))
    bodies = BodySet(("a.txt",), (b"a",), ("text/plain",), None, {})
    sending = Eks().for_load(OpenLoop(duration_s=60, rate=Constant(rate_rps=1)), bodies)
    part = DeployedComponent(
        "app", "my:model", MachineScaling(), Packaging(image="registry/app:1", command=("python",))
    )
    argv = sending._remote_prefix(Deployment("mlscale-0123abcd", "mlscale-0123abcd", "app", (part,)), api, Room())
    monkeypatch.setattr("mlscale.environments.kubernetes.load_job.connect", lambda context: api)
    PodJob(**json.loads(argv[-1])["arguments"]).start({})
    (held, sender) = applied
    (volume,) = [each for each in sender["spec"]["volumes"] if "projected" in each]
    assert volume["projected"]["sources"] == [{"configMap": {"name": held["metadata"]["name"]}}]
    assert held["metadata"]["namespace"] == sender["metadata"]["namespace"] == "mlscale-0123abcd"
    assert base64.b64decode(held["binaryData"]["a.txt"]) == b"a"


@pytest.mark.parametrize(("name", "size", "count"), [("a.jpg", 1_100_000, 1), ("a b.jpg", 10, 1), ("a", 900_000, 20)])
def test_files_that_the_load_s_pod_can_t_mount_are_named(name: str, size: int, count: int) -> None:
    bodies = BodySet(tuple(f"{number}{name}" for number in range(count)), (b"x" * size,) * count, (), None, {})
    assert body_maps("mlscale-0123abcd", bodies) == []
    sending = Eks().for_load(OpenLoop(duration_s=60, rate=Constant(rate_rps=1)), bodies)
    app, scalings = own_model("my:model"), {"app": MachineScaling(image="registry/app:1")}
    (problem,) = [each for each in sending.preflight(app, scalings, "live") if "don't fit" in each.what]
    assert not problem.fatal, "its image may hold them"


def test_a_machine_of_a_node_group_is_seen_by_its_node_alone() -> None:
    watch = MachineWatch("app", ORIGIN_T, BOOTED, claims=False)
    (registered,) = watch.node(change("nodes", group_node("False"), 1.0, "ADDED"))
    assert (registered.kind, registered.subject, registered.source_time) == ("machine_registered", "m", AT)
    assert (watch.desired, watch.ready) == (1, 0)
    (ready,) = watch.node(change("nodes", group_node("True"), 2.0))
    assert (ready.kind, ready.detail) == ("machine_ready", {"type": "c7a.medium"})
    assert (watch.desired, watch.ready) == (1, 1)
    (failed,) = watch.node(change("nodes", group_node("Unknown"), 3.0))
    assert (failed.kind, watch.ready) == ("machine_failed", 0)
    assert kinds(watch.node(change("nodes", group_node("Unknown"), 4.0, "DELETED"))) == ["machine_removed"]
    assert (watch.desired, watch.ready) == (0, 0)


def group_node(ready: str) -> dict[str, Any]:
    found = node(ready, "aws:///eu-west-1a/i-0")
    found["metadata"] |= {"creationTimestamp": AT, "labels": {"node.kubernetes.io/instance-type": "c7a.medium"}}
    return found


def test_nodes_are_found_by_their_labels() -> None:
    _, query = nodes({"eks.amazonaws.com/nodegroup": "workers"})
    assert query == {"labelSelector": "eks.amazonaws.com/nodegroup=workers"}


def test_a_recorded_trace_is_refused_where_a_pod_sends_the_load(tmp_path: Path) -> None:
    """Before a cluster is asked for anything: the trace's file is on this machine."""
    bodies = BodySet(("a",), (b"a",), ("text/plain",), None, {})
    recorded = OpenLoop(duration_s=60, rate=Trace(file=str(tmp_path / "trace.csv")))
    sending = Eks().for_load(recorded, bodies)
    app, scalings = own_model("my:model"), {"app": MachineScaling(image="registry/app:1")}
    assert any("recorded trace" in problem.what for problem in sending.preflight(app, scalings, "live"))
    assert not any("recorded trace" in problem.what for problem in sending.preflight(app, scalings, "rehearsal"))
