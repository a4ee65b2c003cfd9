"""Where a run's load is sent: a NodePort if a node can be reached from here, else a load balancer."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.endpoint_probe import candidates, reachable
from mlscale.environments.kubernetes.manifests import OWNER, Deployment, ServiceType, front_service, http_url
from mlscale.environments.kubernetes.names import INTERCEPTOR, KEDA_NAMESPACE
from mlscale.environments.kubernetes.paths import path_of, path_of_object
from mlscale.runs import MlscaleError

_REACH_S: Final = 15.0
_BALANCER_S: Final = 150.0
_LOOK_S: Final = 1.0


@dataclass(frozen=True)
class Endpoint:
    """``url`` has no path; ``kind`` goes into the run's facts."""

    url: str
    kind: ServiceType


def find_endpoint(
    api: Api, wanted: Deployment, nodes: Sequence[Json], preferred: Sequence[str], balancer_s: float = _BALANCER_S
) -> Endpoint:
    """An address of the front component that passes kube-proxy or a load balancer, and answers.

    Args:
        preferred: node addresses known to be reachable from here.
        balancer_s: how long to wait for a load balancer, s.
    Raises:
        MlscaleError: no address answers.
    """
    front = wanted.front.name
    path = path_of("Service", front, wanted.namespace)
    node_urls = candidates(api.get(path), nodes, preferred)
    url = reachable(node_urls, _REACH_S)
    if url is not None:
        return Endpoint(url, "NodePort")
    uid = str(api.get(path_of("ConfigMap", OWNER, wanted.namespace))["metadata"]["uid"])
    service = front_service(wanted, "LoadBalancer", uid)
    try:
        api.apply(path_of_object(service), service)
    except Refused as refused:
        raise refused.as_error(f"service {front}") from refused
    deadline = time.monotonic() + balancer_s
    balancer_urls: list[str] = []
    while time.monotonic() < deadline:
        balancer_urls = candidates({**api.get(path), "spec": service["spec"]}, ())
        url = reachable(balancer_urls, _LOOK_S) if balancer_urls else None
        if url is not None:
            return Endpoint(url, "LoadBalancer")
        time.sleep(_LOOK_S)
    tried = ", ".join([*node_urls, *balancer_urls]) or "it has none"
    balancer = "no load balancer was provisioned" if not balancer_urls else "the load balancer does not answer"
    raise MlscaleError(
        f"none of the service's addresses answers from here ({tried}), and {balancer} within {balancer_s:g} s",
        f"service {front}",
        "run mlscale where a node's address can be reached; a port-forward would pin one pod, so it is not used",
    )


def interceptor_endpoint(
    api: Api, headers: Mapping[str, str], nodes: Sequence[Json], preferred: Sequence[str]
) -> Endpoint:
    """An address of KEDA's interceptor that answers from here.

    Raises:
        MlscaleError: none does.
    """
    service = api.get(path_of("Service", INTERCEPTOR, KEDA_NAMESPACE))
    urls = candidates(service, nodes, preferred)
    url = reachable(urls, _REACH_S, headers)
    if url is None:
        tried = ", ".join(urls) or "it has none"
        raise MlscaleError(
            f"none of the interceptor's addresses answers from here ({tried})",
            f"service {KEDA_NAMESPACE}/{INTERCEPTOR}",
            "let an administrator give that Service the type NodePort or LoadBalancer",
        )
    return Endpoint(url, service["spec"]["type"])


def inner_endpoint(api: Api, wanted: Deployment) -> Endpoint:
    """The ClusterIP of the front component, or of KEDA's interceptor, for load from inside the cluster. Raises
    Refused."""
    where = (INTERCEPTOR, KEDA_NAMESPACE) if wanted.held else (wanted.front.name, wanted.namespace)
    spec = api.get(path_of("Service", *where))["spec"]
    return Endpoint(http_url(str(spec["clusterIP"]), int(spec["ports"][0]["port"])), "ClusterIP")
