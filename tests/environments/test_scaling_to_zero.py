"""min_replicas 0: who scales to zero and who says why not, what is applied for it, and what a cluster may lack."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from mlscale import environments
from mlscale.environments.base import App, Component
from mlscale.environments.kubernetes import preflight
from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.manifests import (
    DeployedComponent,
    Deployment,
    Packaging,
    autoscaler,
    objects,
)
from mlscale.environments.kubernetes.settings import KedaScaling, KubernetesScaling

APP = App("a", "1", (Component("app", "m:f"),), "app")
TWO = App("a", "1", (Component("front", "m:f", calls=("back",)), Component("back", "m:g")), "front")


@pytest.mark.parametrize(
    ("name", "reason"),
    [("torchserve", "503 while no worker runs"), ("k3s", "the environment keda holds them"), ("ecs", "would be lost")],
)
def test_who_does_not_scale_to_zero_says_why(name: str, reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        environments.get(name).settings(min_replicas=0)


@pytest.mark.parametrize("name", ["rayserve", "keda", "eks"])
def test_who_scales_to_zero(name: str) -> None:
    matched = environments.get(name).arm("matched").model_dump()
    assert environments.get(name).settings(**matched | {"min_replicas": 0}).min_replicas == 0


@pytest.mark.parametrize(
    ("changes", "reason"), [({"metric": "cpu"}, "no CPU to measure"), ({"target_in_flight": 1.5}, "a whole number")]
)
def test_only_the_interceptor_wakes_it(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        KedaScaling.model_validate({"min_replicas": 0, **changes})


def test_requests_pass_the_interceptor_which_counts_them() -> None:
    scaling = KedaScaling.model_validate(KedaScaling.matched().model_dump() | {"min_replicas": 0})
    part = DeployedComponent("app", "m:f", scaling, Packaging("image", ("python",)))
    made = Deployment("mlscale-1", "mlscale-1", "a", (part,), http_scaler="10.0.0.1:9090")
    by_kind = {each["kind"]: each for each in objects(made, "uid", {})}
    assert by_kind["Deployment"]["spec"]["replicas"] == 1, "one starts for the warm-up"
    spec = by_kind["InterceptorRoute"]["spec"]
    assert spec["target"] == {"service": "app", "port": 8080}
    assert spec["rules"] == [{"hosts": ["*"], "headers": [{"name": "X-Mlscale-Run", "value": "mlscale-1"}]}]
    assert spec["scalingMetric"] == {"concurrency": {"targetValue": 1}}
    scaled = by_kind["ScaledObject"]["spec"]
    assert scaled["triggers"] == [
        {"type": "external-push", "metadata": {"scalerAddress": "10.0.0.1:9090", "interceptorRoute": "app"}}
    ]
    assert (scaled["minReplicaCount"], scaled["pollingInterval"], scaled["cooldownPeriod"]) == (0, 1, 30)
    assert scaled["initialCooldownPeriod"] == 240, "else it ends before it has started"


def test_with_a_replica_at_least_keda_reads_the_pods_gauge() -> None:
    spec = autoscaler("app", KedaScaling.of_arm("shipped"), "ns")["spec"]
    (trigger,) = spec["triggers"]
    assert (trigger["type"], trigger["metadata"]["valueLocation"]) == ("metrics-api", "mlscale_in_flight")
    assert (spec["pollingInterval"], spec["cooldownPeriod"]) == (30, 300), "KEDA's defaults"
    assert "initialCooldownPeriod" not in spec
    assert "pollingInterval" not in autoscaler("app", KubernetesScaling.of_arm("matched"), "ns")["spec"]


class Bare:
    """Stands in for the API server of a cluster without KEDA, where everything is allowed."""

    kube_context = "stand-in"

    def __init__(self, served: dict[str, Json]) -> None:
        self._served = served

    def find(self, path: str) -> Json | None:
        return self._served.get(path)

    def post(self, path: str, body: Json) -> Json:
        return {"status": {"allowed": True}}


def problems(app: App, scalings: dict[str, KedaScaling], **served: Json) -> dict[str, str]:
    paths = {
        "keda": "/apis/keda.sh/v1alpha1",
        "metrics": "/apis/external.metrics.k8s.io/v1beta1",
        "add_on": "/apis/http.keda.sh/v1beta1",
        "interceptor": "/api/v1/namespaces/keda/services/keda-add-ons-http-interceptor-proxy",
        "registration": "/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.external.metrics.k8s.io",
    }
    api: Any = Bare({paths[name]: answer for name, answer in served.items()})
    with_image = App(app.name, app.version, app.components, app.front, "registry.example/app:1")
    found = preflight.cluster_problems(api, with_image, dict(scalings), None, None, lambda: 15.0)
    return {problem.what: problem.remedy for problem in found}


KEDA: dict[str, Json] = {
    "keda": {},
    "metrics": {},
    "registration": {
        "spec": {"service": {"namespace": "keda", "name": "keda-operator-metrics-apiserver"}},
        "metadata": {},
    },
}


def test_a_cluster_without_keda_is_told_how_to_get_it() -> None:
    ((what, remedy),) = problems(APP, {"app": KedaScaling.matched()}).items()
    assert "no KEDA" in what
    assert "helm repo add kedacore" in remedy
    assert "helm install keda" in remedy
    assert not problems(APP, {"app": KedaScaling.matched()}, **KEDA)


def test_another_adapter_is_named() -> None:
    other = {"spec": {"service": {"namespace": "monitoring", "name": "prometheus-adapter"}}, "metadata": {}}
    ((what, _),) = problems(APP, {"app": KedaScaling.matched()}, **KEDA | {"registration": other}).items()
    assert "monitoring/prometheus-adapter" in what


def test_zero_needs_the_add_on_and_a_front() -> None:
    zero = KedaScaling.matched().model_copy(update={"min_replicas": 0})
    ((what, remedy),) = problems(APP, {"app": zero}, **KEDA).items()
    assert "no HTTP add-on" in what
    assert "helm install http-add-on kedacore/keda-add-ons-http" in remedy
    whole = KEDA | {"add_on": {}, "interceptor": {}}
    assert not problems(APP, {"app": zero}, **whole)
    ((what, remedy),) = problems(TWO, {"front": zero, "back": zero}, **whole).items()
    assert "nothing would wake it" in what
    assert remedy == "--scaling back.min_replicas=1"
