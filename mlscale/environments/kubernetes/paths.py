"""Where the API server keeps each kind of object (the kinds that are used here): pure."""

from __future__ import annotations

from typing import Any, Final

from mlscale.environments.kubernetes.client import Json

_PLACES: Final = {
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Secret": ("/api/v1", "secrets"),
    "Service": ("/api/v1", "services"),
    "Pod": ("/api/v1", "pods"),
    "Event": ("/api/v1", "events"),
    "ResourceQuota": ("/api/v1", "resourcequotas"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "ReplicaSet": ("/apis/apps/v1", "replicasets"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "PodMetrics": ("/apis/metrics.k8s.io/v1beta1", "pods"),
    "NodePool": ("/apis/karpenter.sh/v1", "nodepools"),
    "NodeClaim": ("/apis/karpenter.sh/v1", "nodeclaims"),
    "APIService": ("/apis/apiregistration.k8s.io/v1", "apiservices"),
}
METRICS: Final = "/apis/metrics.k8s.io/v1beta1"
EXTERNAL_METRICS: Final = "/apis/external.metrics.k8s.io/v1beta1"
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def path_of(kind: str, name: str = "", namespace: str = "") -> str:
    """The path of one object, or without ``name`` of the list; without ``namespace`` of all namespaces."""
    root, plural = _PLACES[kind]
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{inside}/{plural}" + (f"/{name}" if name else "")


def path_of_object(manifest: Json) -> str:
    """The path of what a manifest describes."""
    metadata = manifest["metadata"]
    return path_of(manifest["kind"], metadata["name"], metadata.get("namespace", ""))


def group_and_plural(kind: str) -> tuple[str, str]:
    """("apps", "deployments"); the core group is ""."""
    root, plural = _PLACES[kind]
    return (root.split("/")[2] if root.startswith("/apis/") else ""), plural


def name_of(thing: Any) -> str:
    """metadata.name of an object."""
    return str(thing["metadata"]["name"])
