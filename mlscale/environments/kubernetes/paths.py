"""Paths of objects at the API server, for the kinds that mlscale and the one-node cluster use. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_PLACES: Final = {
    "Namespace": ("/api/v1", "namespaces"),
    "Node": ("/api/v1", "nodes"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Service": ("/api/v1", "services"),
    "Pod": ("/api/v1", "pods"),
    "Event": ("/api/v1", "events"),
    "ResourceQuota": ("/api/v1", "resourcequotas"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "ScaledObject": ("/apis/keda.sh/v1alpha1", "scaledobjects"),
    "InterceptorRoute": ("/apis/http.keda.sh/v1beta1", "interceptorroutes"),
    "PodDisruptionBudget": ("/apis/policy/v1", "poddisruptionbudgets"),
    "PodMetrics": ("/apis/metrics.k8s.io/v1beta1", "pods"),
    "NodePool": ("/apis/karpenter.sh/v1", "nodepools"),
    "NodeClaim": ("/apis/karpenter.sh/v1", "nodeclaims"),
    "KWOKNodeClass": ("/apis/karpenter.kwok.sh/v1alpha1", "kwoknodeclasses"),
    "APIService": ("/apis/apiregistration.k8s.io/v1", "apiservices"),
    "CustomResourceDefinition": ("/apis/apiextensions.k8s.io/v1", "customresourcedefinitions"),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices"),
    "PriorityClass": ("/apis/scheduling.k8s.io/v1", "priorityclasses"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "ClusterRole": ("/apis/rbac.authorization.k8s.io/v1", "clusterroles"),
    "ClusterRoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "clusterrolebindings"),
}
METRICS: Final = "/apis/metrics.k8s.io/v1beta1"
EXTERNAL_METRICS: Final = "/apis/external.metrics.k8s.io/v1beta1"
KEDA: Final = "/apis/keda.sh/v1alpha1"
HTTP_ADD_ON: Final = "/apis/http.keda.sh/v1beta1"
ACCESS_REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def path_of(kind: str, name: str = "", namespace: str = "") -> str:
    """The path of an object; without ``name``, of the list; without ``namespace``, across namespaces."""
    root, plural = _PLACES[kind]
    inside = f"/namespaces/{namespace}" if namespace else ""
    return f"{root}{inside}/{plural}" + (f"/{name}" if name else "")


def path_of_object(manifest: Mapping[str, Any]) -> str:
    """The path of the object that a manifest describes."""
    metadata = manifest["metadata"]
    return path_of(manifest["kind"], metadata["name"], metadata.get("namespace", ""))


def group_and_plural(kind: str) -> tuple[str, str]:
    """("apps", "deployments"); the core group is ""."""
    root, plural = _PLACES[kind]
    return (root.split("/")[2] if root.startswith("/apis/") else ""), plural


def name_of(thing: Any) -> str:
    """metadata.name of an object."""
    return str(thing["metadata"]["name"])
