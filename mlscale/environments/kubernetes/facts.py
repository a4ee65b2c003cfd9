"""The distribution, and every setting that affects scaling: as read from the cluster, else the documented default,
labelled as such. Pure, apart from the functions that take an `Api`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.paths import path_of
from mlscale.runs import MlscaleError
from mlscale.runs.clock import go_duration_s

DOCUMENTED: Final = "documented default"
# Flags of kube-controller-manager and their defaults (pkg/controller/podautoscaler/config/v1alpha1/defaults.go).
_FLAGS: Final[Mapping[str, tuple[str, float]]] = {
    "sync_period_s": ("horizontal-pod-autoscaler-sync-period", 15.0),
    "tolerance": ("horizontal-pod-autoscaler-tolerance", 0.1),
    "downscale_stabilisation_s": ("horizontal-pod-autoscaler-downscale-stabilization", 300.0),
    "cpu_initialisation_period_s": ("horizontal-pod-autoscaler-cpu-initialization-period", 300.0),
    "initial_readiness_delay_s": ("horizontal-pod-autoscaler-initial-readiness-delay", 30.0),
}
# metrics-server's --metric-resolution in its manifest; the program's own default is 60 s.
_RESOLUTION_S: Final = 15.0
_SCALE_UP: Final = {"stabilizationWindowSeconds": 0, "policies": "the larger of 100 % and 4 pods in 15 s"}
# pkg/apis/autoscaling/v2/defaults.go, for an HPA without ``behavior``.
_SCALE_DOWN: Final = {"policies": "100 % in 15 s"}
_DISTRIBUTIONS: Final = (
    (r"\+k3s", "K3s"),
    (r"\+rke2", "RKE2"),
    (r"\+k0s", "k0s"),
    (r"-eks-", "EKS"),
    (r"-gke\.", "GKE"),
    (r"\+IKS", "IBM Cloud"),
)


def distribution(version: Json, nodes: Sequence[Json], own: bool) -> str:
    """The distribution's name, by the server's version and its nodes' labels and providers."""
    git = str(version.get("gitVersion", ""))
    for pattern, name in _DISTRIBUTIONS:
        if re.search(pattern, git):
            return name
    labels = {key for node in nodes for key in node["metadata"].get("labels") or {}}
    providers = {str((node.get("spec") or {}).get("providerID", "")).partition(":")[0] for node in nodes}
    if own:
        return "upstream Kubernetes (mlscale's one-node cluster)"
    if "minikube.k8s.io/name" in labels:
        return "minikube"
    if "kind" in providers:
        return "kind"
    if "azure" in providers:
        return "AKS"
    return "Kubernetes"


def hpa_defaults(arguments: Iterable[str], origin: str) -> dict[str, Any]:
    """The controller's settings: ``{"sync_period_s": {"value": 15.0, "from": ...}}``.

    Args:
        arguments: of kube-controller-manager, as far as known.
        origin: where they were read; empty: nowhere, so every value is the documented default.
    """
    given = flags(arguments)
    settings: dict[str, Any] = {}
    for name, (flag, default) in _FLAGS.items():
        if flag in given:
            value = float(given[flag]) if name == "tolerance" else go_duration_s(given[flag])
            settings[name] = {"value": value, "from": f"--{flag}, {origin}"}
        elif origin:
            settings[name] = {"value": default, "from": f"{DOCUMENTED}: {origin} does not set --{flag}"}
        else:
            settings[name] = {"value": default, "from": DOCUMENTED}
    return settings


def behaviour(hpa: Json) -> dict[str, Any]:
    """The HPA's behavior as the API server holds it, or the documented defaults."""
    given = (hpa.get("spec") or {}).get("behavior")
    if given:
        return {**given, "from": "the API server's object"}
    return {"scaleUp": _SCALE_UP, "scaleDown": _SCALE_DOWN, "from": DOCUMENTED}


def metric_resolution(arguments: Iterable[str], origin: str) -> dict[str, Any]:
    """How often metrics-server measures CPU."""
    given = flags(arguments).get("metric-resolution")
    if given is not None:
        return {"value": go_duration_s(given), "from": f"--metric-resolution, {origin}"}
    return {"value": _RESOLUTION_S, "from": f"{DOCUMENTED} (metrics-server's manifest)"}


def flags(arguments: Iterable[str]) -> dict[str, str]:
    """``["--a=1", "--b", "2"]`` to ``{"a": "1", "b": "2"}``; also K3s' "--kube-controller-manager-arg=a=1"."""
    values: dict[str, str] = {}
    words = list(arguments)
    for index, word in enumerate(words):
        name, equals, value = word.lstrip("-").partition("=")
        if not equals and word.startswith("--") and index + 1 < len(words) and not words[index + 1].startswith("-"):
            value = words[index + 1]
        if name in ("kube-controller-manager-arg", "kube-controller-arg"):
            name, _, value = value.lstrip("-").partition("=")
        if word.startswith("--"):
            values[name] = value
    return values


def controller_arguments(api: Api, nodes: Sequence[Json]) -> tuple[list[str], str]:
    """kube-controller-manager's arguments and where they were read, a static pod or K3s' node annotation; ([], "") if
    the cluster does not show them."""
    try:
        pods = api.get(path_of("Pod", namespace="kube-system"), {"labelSelector": "component=kube-controller-manager"})
    except (Refused, MlscaleError):
        pods = {}
    for pod in pods.get("items") or ():
        container = pod["spec"]["containers"][0]
        return [*container.get("command", ()), *container.get("args", ())], "its static pod"
    for node in nodes:
        text = str((node["metadata"].get("annotations") or {}).get("k3s.io/node-args", ""))
        if '"server"' in text:
            return [str(word) for word in json.loads(text)], "the annotation k3s.io/node-args"
    return [], ""


def metrics_arguments(api: Api) -> tuple[list[str], str]:
    """metrics-server's arguments and where they were read; ([], "") if the cluster does not show them."""
    try:
        deployment = api.find(path_of("Deployment", "metrics-server", "kube-system"))
    except (Refused, MlscaleError):
        return [], ""
    if deployment is None:
        return [], ""
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    return [*container.get("command", ()), *container.get("args", ())], "its Deployment"


def kubelet_config(api: Api, node: str) -> dict[str, Any] | None:
    """The kubelet's running configuration (configz); None if it can't be read."""
    try:
        answer = api.get(f"/api/v1/nodes/{node}/proxy/configz")
    except (Refused, MlscaleError):
        return None
    config: dict[str, Any] = answer.get("kubeletconfig") or {}
    return config


@dataclass(frozen=True)
class MetricsServer:
    """What serves external.metrics.k8s.io. ``name``: NAMESPACE/SERVICE, empty if unknown; ``version``: KEDA's."""

    name: str = ""
    version: str = ""

    @property
    def is_keda(self) -> bool:
        return "keda" in self.name


def external_metrics_server(api: Api) -> MetricsServer:
    """Read from its APIService, as far as the credentials allow."""
    try:
        registration = api.find(path_of("APIService", "v1beta1.external.metrics.k8s.io"))
    except (Refused, MlscaleError):
        registration = None
    if registration is None:
        return MetricsServer()
    service = registration["spec"].get("service") or {}
    version = (registration["metadata"].get("labels") or {}).get("app.kubernetes.io/version", "")
    return MetricsServer(f"{service.get('namespace')}/{service.get('name')}", str(version))


def quota_period_s(config: Json | None) -> float | None:
    """The CFS period of CPU limits, s; None if unknown."""
    text = (config or {}).get("cpuCFSQuotaPeriod")
    return go_duration_s(str(text)) if text else None
