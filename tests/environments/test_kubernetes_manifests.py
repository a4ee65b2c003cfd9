"""What is rendered: owned, labelled, limited as METHOD asks; and settings that can't be."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes import client
from pydantic import ValidationError

from mlscale.environments.kubernetes.manifests import (
    OWNER,
    DeployedComponent,
    Deployment,
    Packaging,
    addresses,
    front_service,
    namespace,
    objects,
    owner,
    services,
)
from mlscale.environments.kubernetes.names import COMPONENT, MANAGED_BY, RUN
from mlscale.environments.kubernetes.paths import path_of, path_of_object
from mlscale.environments.kubernetes.settings import KubernetesScaling
from mlscale.runs import MlscaleError

PACKED = Packaging("registry.example/app:1", ("python", "-m", "mlscale.serving.container"))


def wanted(scaling: KubernetesScaling, packaging: Packaging = PACKED) -> Deployment:
    part = DeployedComponent("app", "pkg.mod:factory", scaling, packaging)
    return Deployment("mlscale-0123abcd", "mlscale-0123abcd", "code-reader", (part,))


def rendered(scaling: KubernetesScaling, packaging: Packaging = PACKED) -> dict[str, dict[str, Any]]:
    made = wanted(scaling, packaging)
    return {each["kind"]: dict(each) for each in (*services(made, "uid-of-owner"), *objects(made, "uid-of-owner", {}))}


def split() -> Deployment:
    """Localiser and readers, each with settings of its own."""
    back = DeployedComponent("readers", "pkg.mod:readers", KubernetesScaling.of_arm("matched"), PACKED, front=False)
    front = DeployedComponent(
        "localiser", "pkg.mod:localiser", KubernetesScaling(max_replicas=2), PACKED, calls=("readers",)
    )
    return Deployment("mlscale-0123abcd", "mlscale-0123abcd", "code-reader", (back, front))


REACHED = {"readers": "http://10.43.0.9:8080/decode"}


def keys(model: Any) -> set[str]:
    """The JSON names that the official client knows for a model."""
    return set(model.attribute_map.values()) if hasattr(model, "attribute_map") else set()


def test_everything_lies_in_one_namespace_and_is_owned_and_labelled() -> None:
    made = split()
    for each in (*services(made, "uid-of-owner"), *objects(made, "uid-of-owner", REACHED)):
        metadata = each["metadata"]
        assert metadata["namespace"] == "mlscale-0123abcd"
        assert (metadata["labels"][MANAGED_BY], metadata["labels"][RUN]) == ("mlscale", "mlscale-0123abcd")
        assert [(one["name"], one["uid"]) for one in metadata["ownerReferences"]] == [(OWNER, "uid-of-owner")]
    assert namespace(made)["metadata"]["labels"][MANAGED_BY] == "mlscale"
    assert path_of_object(owner(made)) == "/api/v1/namespaces/mlscale-0123abcd/configmaps/mlscale-run"


def test_each_component_has_its_own_deployment_service_and_autoscaler() -> None:
    made = split()
    ways = {each["metadata"]["name"]: each["spec"] for each in services(made, "uid")}
    assert {name: spec["type"] for name, spec in ways.items()} == {"readers": "ClusterIP", "localiser": "NodePort"}
    assert {name: spec["selector"][COMPONENT] for name, spec in ways.items()} == {name: name for name in ways}
    found = objects(made, "uid", REACHED)
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [
        ("Deployment", "readers"),
        ("Deployment", "localiser"),
        ("ScaledObject", "readers"),
        ("HorizontalPodAutoscaler", "localiser"),
    ]
    pods = [each["spec"]["template"]["metadata"]["labels"][COMPONENT] for each in found[:2]]
    assert pods == ["readers", "localiser"]
    readers, localiser = (each["spec"] for each in found[2:])
    assert readers["scaleTargetRef"]["name"] == "readers"
    assert readers["triggers"][0]["metadata"]["url"] == "http://readers.mlscale-0123abcd.svc:8080/metrics"
    assert localiser["metrics"][0]["resource"]["name"] == "cpu"
    assert (readers["maxReplicaCount"], localiser["maxReplicas"]) == (4, 2)
    assert front_service(made, "LoadBalancer", "uid")["metadata"]["name"] == "localiser"


def test_a_front_is_told_where_its_components_answer() -> None:
    held = [dict(each) for each in services(split(), "uid")]
    for each, ip in zip(held, ("10.43.0.9", "fd00::9"), strict=True):
        each["spec"] = {**each["spec"], "clusterIP": ip}  # as the API server fills it in
    assert addresses(held) == {**REACHED, "localiser": "http://[fd00::9]:8080/decode"}
    commands = {
        each["metadata"]["name"]: each["spec"]["template"]["spec"]["containers"][0]["command"]
        for each in objects(split(), "uid", addresses(held))
        if each["kind"] == "Deployment"
    }
    told = ["--component", "localiser", "--call", f"readers={REACHED['readers']}"]
    assert commands["localiser"][-4:] == told
    assert commands["readers"][-2:] == ["--max-bytes", "12000000"], "a job is larger than the photo in it"


def test_matched_scales_on_requests_in_flight_over_its_window() -> None:
    made = rendered(KubernetesScaling.of_arm("matched"))
    assert "HorizontalPodAutoscaler" not in made, "KEDA makes it"
    spec = made["ScaledObject"]["spec"]
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metricType"]) == ("metrics-api", "AverageValue")
    asked = {name: trigger["metadata"][name] for name in ("valueLocation", "aggregationType", "targetValue")}
    assert asked == {"valueLocation": "mlscale_in_flight_mean", "aggregationType": "sum", "targetValue": "1"}
    made_by_keda = spec["advanced"]["horizontalPodAutoscalerConfig"]
    assert made_by_keda["name"] == "app"
    assert made_by_keda["behavior"]["scaleDown"] == {"stabilizationWindowSeconds": 30}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (1, 4)
    (container,) = made["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][-2:] == ["--in-flight-window", "1.6"]


def test_a_gauge_of_ones_own_is_what_scales() -> None:
    scaling = KubernetesScaling.of_arm("matched").model_copy(update={"in_flight_metric": "vllm:num_requests_waiting"})
    (trigger,) = rendered(scaling)["ScaledObject"]["spec"]["triggers"]
    assert trigger["metadata"]["valueLocation"] == "vllm:num_requests_waiting"
    with pytest.raises(ValidationError):
        KubernetesScaling(in_flight_metric="requests in flight")


def test_shipped_leaves_the_behaviour_to_the_cluster() -> None:
    spec = rendered(KubernetesScaling.of_arm("shipped"))["HorizontalPodAutoscaler"]["spec"]
    assert spec["metrics"][0]["resource"]["target"] == {"type": "Utilization", "averageUtilization": 50}
    assert "behavior" not in spec


@pytest.mark.parametrize(("arm", "replicas"), [("static-min", 1), ("static-max", 4)])
def test_a_fixed_number_has_no_autoscaler(arm: str, replicas: int) -> None:
    made = rendered(KubernetesScaling.of_arm(arm))
    assert not {"HorizontalPodAutoscaler", "ScaledObject"} & made.keys()
    assert made["Deployment"]["spec"]["replicas"] == replicas


def test_the_quota_is_request_and_limit_and_the_container_can_do_little() -> None:
    pod = rendered(KubernetesScaling.of_arm("matched"))["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["resources"]["limits"] == {"cpu": "300m"}
    assert container["resources"]["requests"]["cpu"] == "300m"
    assert container["readinessProbe"]["periodSeconds"] == 1
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["automountServiceAccountToken"] is False
    assert {"name": "MLSCALE_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}} in container["env"]
    assert container["command"][3:9] == ["--entry", "pkg.mod:factory", "--port", "8080", "--waiting", "100"]


def test_the_hosts_folders_are_mounted_read_only_where_they_lie() -> None:
    packaging = Packaging("localhost/thin:1", ("/opt/python",), "Never", ("/usr", "/opt"), {"PYTHONPATH": "/opt/x"})
    pod = rendered(KubernetesScaling.of_arm("matched"), packaging)["Deployment"]["spec"]["template"]["spec"]
    mounts = {mount["mountPath"]: mount.get("readOnly") for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts == {"/tmp": None, "/usr": True, "/opt": True}
    assert {volume["hostPath"]["path"] for volume in pod["volumes"] if "hostPath" in volume} == {"/usr", "/opt"}
    assert pod["containers"][0]["imagePullPolicy"] == "Never"


def test_a_disruption_budget_is_made_where_it_is_asked_for() -> None:
    assert "PodDisruptionBudget" not in rendered(KubernetesScaling())
    budget = rendered(KubernetesScaling(min_available=1))["PodDisruptionBudget"]
    assert budget["spec"]["minAvailable"] == 1
    assert path_of_object(budget).startswith("/apis/policy/v1/namespaces/")


def test_every_field_is_one_that_the_official_client_knows() -> None:
    made = rendered(KubernetesScaling(min_available=1), Packaging("thin", ("python",), "Never", ("/usr",)))
    pod = made["Deployment"]["spec"]["template"]["spec"]
    known = {
        "V1DeploymentSpec": made["Deployment"]["spec"],
        "V1PodSpec": pod,
        "V1Container": pod["containers"][0],
        "V1Probe": pod["containers"][0]["readinessProbe"],
        "V1SecurityContext": pod["containers"][0]["securityContext"],
        "V1PodSecurityContext": pod["securityContext"],
        "V1ServiceSpec": made["Service"]["spec"],
        "V2HorizontalPodAutoscalerSpec": made["HorizontalPodAutoscaler"]["spec"],
        "V1PodDisruptionBudgetSpec": made["PodDisruptionBudget"]["spec"],
    }
    for name, part in known.items():
        assert set(part) <= keys(getattr(client, name)), name


def test_paths() -> None:
    assert path_of("Deployment", "app", "ns") == "/apis/apps/v1/namespaces/ns/deployments/app"
    assert path_of("Pod") == "/api/v1/pods"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"drain_delay_s": 30}, "drain_delay_s"),
        ({"cpu_cores": 0.0001}, "cpu_cores"),
        ({"target_cpu_percent": 0}, "target_cpu_percent"),
        ({"metric": "memory"}, "metric"),
        ({"min_replicas": 5}, "min_replicas"),
    ],
)
def test_settings_that_can_not_be(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        KubernetesScaling(**changes)


def test_an_unknown_arm() -> None:
    with pytest.raises(MlscaleError, match="unknown arm 'best'"):
        KubernetesScaling.of_arm("best")
