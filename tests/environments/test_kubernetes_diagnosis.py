"""Everything that keeps pods from serving is named, with a remedy; and the facts of a cluster, read or documented."""

from __future__ import annotations

import socket
import time
from contextlib import closing
from typing import Any

import pytest
from kubernetes import client
from kubernetes_shapes import event, metadata, plain, pod, running, terminated, waiting

from mlscale.environments import App, Component
from mlscale.environments.kubernetes.client import KubeContext
from mlscale.environments.kubernetes.diagnosis import Trouble, diagnose
from mlscale.environments.kubernetes.endpoint_probe import candidates, reachable
from mlscale.environments.kubernetes.facts import (
    DOCUMENTED,
    distribution,
    flags,
    hpa_defaults,
    metric_resolution,
    quota_period_s,
)
from mlscale.environments.kubernetes.preflight import cluster_problems, room_problems
from mlscale.environments.kubernetes.rollout import read_log
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.runs.clock import go_duration_s

LOG = "loading\nTraceback\nRuntimeError: the weights are torn\n"


def found(*pods: dict[str, Any], events: tuple[dict[str, Any], ...] = (), machines: bool = False) -> Trouble | None:
    return diagnose(pods, (), events, lambda name, previous: LOG, machines_scale=machines)


def text(trouble: Trouble | None) -> str:
    assert trouble is not None
    return str(trouble.error)


def test_an_image_that_can_not_be_pulled_with_the_cause() -> None:
    said = event("Pod", "app-1", "Failed", 'Failed to pull image "registry.example/app:1": not found')
    trouble = found(pod(scheduled=True, state=waiting("ImagePullBackOff", "Back-off pulling")), events=(said,))
    assert "can't be pulled: Failed to pull image" in text(trouble)
    assert "containers/app/Dockerfile" in text(trouble)


@pytest.mark.parametrize("reason", ["ErrImagePull", "InvalidImageName", "ErrImageNeverPull"])
def test_other_words_for_it(reason: str) -> None:
    assert "can't be pulled: it is not there" in text(found(pod(state=waiting(reason, "it is not there"))))


def test_a_crash_with_the_last_log_lines() -> None:
    crashed = found(pod(scheduled=True, state=terminated(2)))
    assert "ends by itself: Error, exit code 2" in text(crashed)
    assert "RuntimeError: the weights are torn" in text(crashed)
    looping = pod(
        scheduled=True, state=waiting("CrashLoopBackOff"), last_state=terminated(137, "OOMKilled"), restarts=2
    )
    assert "OOMKilled, exit code 137" in text(found(looping))


def test_the_log_asked_for_is_that_of_the_container_that_ended() -> None:
    asked: list[tuple[str, bool]] = []

    def log(name: str, previous: bool) -> str:
        asked.append((name, previous))
        return LOG

    restarted = pod(scheduled=True, state=running(), last_state=terminated(2), restarts=1)
    diagnose([restarted], (), (), log, machines_scale=False)
    diagnose([pod(scheduled=True, state=terminated(2))], (), (), log, machines_scale=False)
    assert asked == [("app-1", True), ("app-1", False)]


def test_a_log_that_is_not_to_be_had_is_asked_for_again_before_the_crash_counts() -> None:
    crashed = pod(scheduled=True, state=terminated(2))
    silent = diagnose([crashed], (), (), lambda name, previous: "", machines_scale=False)
    told = found(crashed)
    assert told is not None
    assert silent is not None
    assert silent.patience_s > told.patience_s == 0
    assert "exit code 2; its log is not available" in text(silent)


def test_what_the_kubelet_answers_for_a_container_that_is_gone_is_no_log() -> None:
    """kubernetes/kubernetes#142258: its refusal comes with status 200."""

    class Gone:
        """Stands in for an API server whose kubelet has removed the container."""

        def text(self, path: str, query: Any) -> str:
            return "unable to retrieve container logs for containerd://0d5c"

    assert read_log(Gone(), "space", "app-1") == ""  # type: ignore[arg-type]


def test_no_room_counts_after_a_while_and_not_where_machines_scale() -> None:
    pending = pod(unschedulable="0/1 nodes are available: 1 Insufficient cpu. preemption: not helpful")
    trouble = found(pending)
    assert "no node has room for it (lacks cpu)" in text(trouble)
    assert trouble is not None
    assert trouble.patience_s > 0
    assert found(pending, machines=True) is None


def test_a_quota_and_other_refusals_to_create() -> None:
    def refused(message: str) -> Trouble | None:
        failure = client.V1DeploymentCondition(type="ReplicaFailure", status="True", message=message)
        deployment = plain({"metadata": metadata("app"), "status": client.V1DeploymentStatus(conditions=[failure])})
        return diagnose((), [deployment], (), lambda name, previous: "", machines_scale=False)

    assert "the quota leaves no room" in text(refused('pods "app-1" is forbidden: exceeded quota: small'))
    assert "pods can't be created" in text(refused("violates PodSecurity"))


def test_nothing_is_said_of_pods_that_come_up() -> None:
    assert found(pod(), pod(scheduled=True, state=waiting("ContainerCreating"))) is None
    assert found(pod(scheduled=True, ready=True, state=running())) is None


def test_a_pod_that_can_t_be_set_up_and_one_that_could_after_all() -> None:
    """Events stay when what they tell of is over."""
    said = event("Pod", "app-1", "FailedCreatePodSandBox", "no address is free")
    creating = pod(scheduled=True, state=waiting("ContainerCreating"))
    assert "can't be set up: no address is free" in text(found(creating, events=(said,)))
    assert found(pod(scheduled=True, ready=True, state=running()), events=(said,)) is None
    assert found(events=(said,)) is None, "it is gone"
    assert found(creating, events=(said, event("Pod", "app-1", "Pulling", "Pulling image"))) is None


def test_every_right_that_a_run_uses_is_asked_for() -> None:
    class Denying:
        """Stands in for an API server that allows nothing."""

        kube_context = KubeContext("/nowhere/kubeconfig", "x")

        def post(self, path: str, review: Any) -> dict[str, Any]:
            return {"status": {"allowed": False}}

    app = App("demo", "1", (Component("app", "m:f"),), "app", image="app:1")
    fixed = {"app": KubernetesScaling(min_replicas=1, max_replicas=1)}
    problems = cluster_problems(Denying(), app, fixed, None, None, lambda: 15.0)  # type: ignore[arg-type]
    said = {problem.what for problem in problems}
    applied = ("namespaces", "configmaps", "services", "deployments.apps", "horizontalpodautoscalers.autoscaling")
    followed = ("pods", "events", "deployments.apps", "horizontalpodautoscalers.autoscaling")
    assert {f"may not {verb} {what}" for what in applied for verb in ("create", "patch")} <= said
    assert {f"may not {verb} {what}" for what in followed for verb in ("list", "watch")} <= said
    assert {"may not delete namespaces", "may not delete configmaps", "may not get pods/log"} <= said


def node(provider: str = "", **labels: str) -> dict[str, Any]:
    address = [
        client.V1NodeAddress(type="InternalIP", address="10.0.0.7"),
        client.V1NodeAddress(type="ExternalIP", address="198.51.100.7"),
    ]
    return plain(
        client.V1Node(
            metadata=client.V1ObjectMeta(name="n", labels=labels),
            spec=client.V1NodeSpec(provider_id=provider or None),
            status=client.V1NodeStatus(addresses=address, allocatable={"cpu": "2"}),
        )
    )


@pytest.mark.parametrize(
    ("version", "nodes", "own", "name"),
    [
        ("v1.34.1+k3s1", [node()], False, "K3s"),
        ("v1.34.1+k0s", [node()], False, "k0s"),
        ("v1.33.5-eks-113cf36", [node()], False, "EKS"),
        ("v1.34.0", [node("kind://docker/kind/kind-control-plane")], False, "kind"),
        ("v1.34.0", [node(**{"minikube.k8s.io/name": "minikube"})], False, "minikube"),
        ("v1.34.4", [node()], True, "upstream Kubernetes (mlscale's one-node cluster)"),
        ("v1.34.4", [node()], False, "Kubernetes"),
    ],
)
def test_which_kubernetes_answered(version: str, nodes: list[dict[str, Any]], own: bool, name: str) -> None:
    assert distribution({"gitVersion": version}, nodes, own) == name


def test_defaults_are_read_or_named_as_documented() -> None:
    none = hpa_defaults([], "")
    assert (none["sync_period_s"]["value"], none["sync_period_s"]["from"]) == (15.0, DOCUMENTED)
    read = hpa_defaults(["--horizontal-pod-autoscaler-sync-period=5s", "--leader-elect=false"], "its process")
    assert read["sync_period_s"] == {"value": 5.0, "from": "--horizontal-pod-autoscaler-sync-period, its process"}
    assert "does not set" in read["tolerance"]["from"]
    k3s = ["server", "--kube-controller-manager-arg", "horizontal-pod-autoscaler-tolerance=0.2"]
    assert hpa_defaults(k3s, "node-args")["tolerance"]["value"] == 0.2
    assert metric_resolution(["--metric-resolution=10s"], "its Deployment")["value"] == 10.0


def test_flags_and_durations() -> None:
    assert flags(["--a=1", "--b", "2", "--c", "--d=x=y"]) == {"a": "1", "b": "2", "c": "", "d": "x=y"}
    assert [go_duration_s(text) for text in ("15s", "5m0s", "1h30m", "100ms")] == [15.0, 300.0, 5400.0, 0.1]
    assert quota_period_s({"cpuCFSQuotaPeriod": "10ms"}) == 0.01
    assert quota_period_s(None) is None
    with pytest.raises(ValueError, match="not a duration"):
        go_duration_s("soon")


def test_where_load_may_come_in() -> None:
    service = plain(
        client.V1Service(
            spec=client.V1ServiceSpec(type="NodePort", ports=[client.V1ServicePort(port=8080, node_port=30123)])
        )
    )
    assert candidates(service, [node()], ("10.213.0.2",)) == [
        "http://10.213.0.2:30123",
        "http://198.51.100.7:30123",
        "http://10.0.0.7:30123",
    ]
    service["status"] = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}
    assert candidates(service, [])[0] == "http://lb.example:8080"


def test_addresses_that_are_silent_share_the_time() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as silent:
        urls = [f"http://127.0.0.1:{silent.getsockname()[1]}"] * 4
        began = time.monotonic()
        assert reachable(urls, 0.4) is None
        assert time.monotonic() - began < 4


def test_room_is_counted_by_requests() -> None:
    used = pod(scheduled=True)
    used["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "900m"}}
    assert room_problems([node()], [], [KubernetesScaling()]) == []
    (problem,) = room_problems([node()], [used], [KubernetesScaling()])
    assert not problem.fatal
    assert "1.2 cores for 4 replicas, of which 1.10 are free" in problem.what
    (together,) = room_problems([node()], [], [KubernetesScaling()] * 2)
    assert "2.4 cores for 8 replicas, of which 2.00 are free" in together.what
