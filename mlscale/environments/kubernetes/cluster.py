"""One look at a cluster: what it is, what can be seen of it, and the facts that go into run.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.facts import (
    behaviour,
    controller_arguments,
    distribution,
    hpa_defaults,
    kubelet_config,
    metric_resolution,
    metrics_arguments,
    quota_period_s,
)
from mlscale.environments.kubernetes.own_cluster import OwnNode, find_own
from mlscale.environments.kubernetes.paths import name_of, path_of
from mlscale.environments.kubernetes.usage import NodeUsage

_AUTOSCALERS = ("karpenter.sh/nodepool", "eks.amazonaws.com/nodegroup", "cloud.google.com/gke-nodepool")


@dataclass(frozen=True)
class Cluster:
    """``nodes``: the node objects, empty where they may not be listed. ``kubelet``: its running configuration."""

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
        """Whether a machine may come for a pod that finds no room."""
        return any(key in (node["metadata"].get("labels") or {}) for node in self.nodes for key in _AUTOSCALERS)

    @property
    def versions(self) -> Mapping[str, str]:
        """Of what runs there."""
        found = {"kubernetes": str(self.version.get("gitVersion", "unknown"))}
        for node in self.nodes[:1]:
            info = (node.get("status") or {}).get("nodeInfo") or {}
            found |= {
                name: str(info[key])
                for name, key in (("kubelet", "kubeletVersion"), ("container-runtime", "containerRuntimeVersion"))
                if key in info
            }
        return found

    def node_usage(self) -> NodeUsage | None:
        """The node's cgroups where they are this host's; else None."""
        return self.own.usage() if self.own is not None and self.own.here else None

    def hpa_sync_s(self, api: Api) -> float:
        """How often the HPA looks, s; the documented default where the cluster does not show it."""
        arguments, origin = self._arguments(api, "kube-controller-manager")
        return float(hpa_defaults(arguments, origin)["sync_period_s"]["value"])

    def facts(self, api: Api, applied: Sequence[Json]) -> dict[str, Any]:
        """What bears on the figures, for run.json; ``applied``: the run's objects as the API server holds them."""
        arguments, origin = self._arguments(api, "kube-controller-manager")
        metering, metering_origin = self._arguments(api, "metrics-server")
        hpas = [each for each in applied if each["kind"] == "HorizontalPodAutoscaler"]
        return {
            "distribution": self.distribution,
            "version": str(self.version.get("gitVersion", "unknown")),
            "nodes": [_node(node) for node in self.nodes],
            "hpa": hpa_defaults(arguments, origin),
            "behaviour": {name_of(hpa): behaviour(hpa) for hpa in hpas},
            "metric_resolution_s": metric_resolution(metering, metering_origin),
            "cfs_period_s": quota_period_s(self.kubelet),
            "resources_from": "cgroups" if self.node_usage() is not None else "metrics.k8s.io",
        }

    def _arguments(self, api: Api, program: str) -> tuple[list[str], str]:
        if self.own is not None and self.own.here:
            found = self.own.arguments(program)
            return found, "its process" if found else ""
        if program == "metrics-server":
            return metrics_arguments(api)
        return controller_arguments(api, self.nodes)


def look(api: Api) -> Cluster:
    """Ask the cluster what it is.

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
    return Cluster(version, nodes, find_own(api), kubelet)


def _node(node: Json) -> dict[str, Any]:
    """Of one node: no name and no address."""
    status = node.get("status") or {}
    info = status.get("nodeInfo") or {}
    kept = ("kernelVersion", "osImage", "containerRuntimeVersion", "kubeletVersion", "architecture")
    return {
        "capacity": {name: (status.get("capacity") or {}).get(name) for name in ("cpu", "memory")},
        **{name: info.get(name) for name in kept},
    }
