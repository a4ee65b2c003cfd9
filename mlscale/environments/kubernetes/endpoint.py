"""Finding the way in for a run's load: NodePort where a node can be reached from here, else a load balancer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.endpoint_probe import candidates, reachable
from mlscale.environments.kubernetes.manifests import OWNER, Deployment, ServiceType, front_service
from mlscale.environments.kubernetes.paths import path_of, path_of_object
from mlscale.runs import MlscaleError

_REACH_S: Final = 15.0
_BALANCER_S: Final = 150.0
_LOOK_S: Final = 1.0


@dataclass(frozen=True)
class WayIn:
    """``url`` has no path; ``kind`` goes into the run's facts."""

    url: str
    kind: ServiceType


def find_way_in(
    api: Api, wanted: Deployment, nodes: Sequence[Json], preferred: Sequence[str], balancer_s: float = _BALANCER_S
) -> WayIn:
    """A way to the front's pods that passes kube-proxy or a load balancer, tried out.

    Args:
        preferred: addresses of nodes that are known to be reachable from here.
        balancer_s: how long a load balancer may take to come, s.
    Raises:
        MlscaleError: there is none.
    """
    front = next(part.name for part in wanted.parts if part.front)
    path = path_of("Service", front, wanted.namespace)
    by_node = candidates(api.get(path), nodes, preferred)
    url = reachable(by_node, _REACH_S)
    if url is not None:
        return WayIn(url, "NodePort")
    uid = str(api.get(path_of("ConfigMap", OWNER, wanted.namespace))["metadata"]["uid"])
    service = front_service(wanted, "LoadBalancer", uid)
    try:
        api.apply(path_of_object(service), service)
    except Refused as refused:
        raise refused.as_error(f"service {front}") from refused
    deadline = time.monotonic() + balancer_s
    by_balancer: list[str] = []
    while time.monotonic() < deadline:
        by_balancer = candidates({**api.get(path), "spec": service["spec"]}, ())
        url = reachable(by_balancer, _LOOK_S) if by_balancer else None
        if url is not None:
            return WayIn(url, "LoadBalancer")
        time.sleep(_LOOK_S)
    tried = ", ".join([*by_node, *by_balancer]) or "it has none"
    balancer = "no load balancer came" if not by_balancer else "the load balancer does not answer"
    raise MlscaleError(
        f"none of the service's addresses answers from here ({tried}), and {balancer} within {balancer_s:g} s",
        f"service {front}",
        "run mlscale where a node's address can be reached; a port-forward would pin one pod, so it is not used",
    )


def inner_way(api: Api, wanted: Deployment) -> WayIn:
    """The front's own address on the cluster, for load that comes from inside. Raises Refused."""
    front = next(part.name for part in wanted.parts if part.front)
    spec = api.get(path_of("Service", front, wanted.namespace))["spec"]
    host = str(spec["clusterIP"])
    return WayIn(f"http://{f'[{host}]' if ':' in host else host}:{int(spec['ports'][0]['port'])}", "ClusterIP")
