"""A cluster's distribution and nodes, what its credentials allow to be observed, and its facts for run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.facts import (
    behaviour,
    controller_arguments,
    distribution,
    external_metrics_server,
    hpa_defaults,
    kubelet_config,
    metric_resolution,
    metrics_arguments,
    quota_period_s,
)
from mlscale.environments.kubernetes.names import NODE_GROUP_LABEL
from mlscale.environments.kubernetes.own_cluster import OwnNode, find_own_node
from mlscale.environments.kubernetes.paths import name_of, path_of
from mlscale.environments.kubernetes.usage import NodeUsage

_AUTOSCALERS = ("karpenter.sh/nodepool", NODE_GROUP_LABEL, "cloud.google.com/gke-nodepool")


@dataclass(frozen=True)
class Cluster:
    """``nodes``: node objects, empty if listing them is forbidden. ``kubelet``: the first node's configuration."""

    version: Json
    nodes: tuple[Json, ...]
    own: OwnNode | None
    kubelet: Json | None

    @property
    def distribution(self) -> str:
        """Its name; "upstream Kubernetes (mlscale's one-node cluster)" for our own."""
        return distribution(self.version, self.nodes, self.own is not None)

    @property
    def machines_scale(self) -> bool:
        """Whether an autoscaler may add a machine for a pod that finds no room."""
        return any(key in (node["metadata"].get("labels") or {}) for node in self.nodes for key in _AUTOSCALERS)

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of the cluster's programs."""
        versions = {"kubernetes": str(self.version.get("gitVersion", "unknown"))}
        for node in self.nodes[:1]:
            info = (node.get("status") or {}).get("nodeInfo") or {}
            versions |= {
                name: str(info[key])
                for name, key in (("kubelet", "kubeletVersion"), ("container-runtime", "containerRuntimeVersion"))
                if key in info
            }
        return versions

    def node_usage(self) -> NodeUsage | None:
        """The node's cgroups if it runs on this host; else None."""
        return self.own.usage() if self.own is not None and self.own.here else None

    def hpa_sync_s(self, api: Api) -> float:
        """The HPA's sync period, s; the documented default if the cluster does not show it."""
        arguments, origin = self._arguments(api, "kube-controller-manager")
        return float(hpa_defaults(arguments, origin)["sync_period_s"]["value"])

    def facts(self, api: Api, hpas: Sequence[Json]) -> dict[str, Any]:
        """What affects scaling, for run.json. ``hpas``: the run's HPAs as the API server returned them."""
        arguments, origin = self._arguments(api, "kube-controller-manager")
        metering, metering_origin = self._arguments(api, "metrics-server")
        keda = external_metrics_server(api)
        return {
            "distribution": self.distribution,
            "version": str(self.version.get("gitVersion", "unknown")),
            "nodes": [_node(node) for node in self.nodes],
            "hpa": hpa_defaults(arguments, origin),
            "behaviour": {name_of(hpa): behaviour(hpa) for hpa in hpas},
            "metric_resolution_s": metric_resolution(metering, metering_origin),
            "cfs_period_s": quota_period_s(self.kubelet),
            "keda": keda.version or "unknown" if keda.is_keda else None,
            "resources_from": "cgroups" if self.node_usage() is not None else "metrics.k8s.io",
        }

    def _arguments(self, api: Api, program: str) -> tuple[list[str], str]:
        if self.own is not None and self.own.here:
            arguments = self.own.arguments(program)
            return arguments, "its process" if arguments else ""
        if program == "metrics-server":
            return metrics_arguments(api)
        return controller_arguments(api, self.nodes)


def look(api: Api) -> Cluster:
    """Query the cluster.

    Raises:
        Refused: the credentials are not accepted.
        Unreachable: it does not answer.
    """
    version = api.get("/version")
    try:
        nodes = tuple(api.get(path_of("Node"))["items"])
    except Refused as refused:
        if refused.status == 401:
            raise
        nodes = ()
    kubelet = kubelet_config(api, name_of(nodes[0])) if nodes else None
    return Cluster(version, nodes, find_own_node(api), kubelet)


def _node(node: Json) -> dict[str, Any]:
    """Facts of one node, without its name and address."""
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    names = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "architecture")
    return {
        "capacity": {name: (status.get("capacity") or {}).get(name) for name in ("cpu", "memory")},
        **{name: info.get(name) for name in names},
    }
