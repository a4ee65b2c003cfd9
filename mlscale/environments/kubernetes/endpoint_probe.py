"""Addresses for load: always through kube-proxy or a load balancer, since a port-forward pins one pod."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final
from urllib.parse import urlsplit

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.manifests import PATH, http_url
from mlscale.runs import MlscaleError

_NONE: Final[Mapping[str, str]] = {}
_ASK_S: Final = 5.0
_ANSWER_S: Final = 60.0
_PAUSE_S: Final = 0.1
# How long a Service may answer 503 until kube-proxy knows of its ready pod.
_SETTLES_S: Final = 15.0


def candidates(service: Json, nodes: Iterable[Json], preferred: Sequence[str] = ()) -> list[str]:
    """Addresses ("http://10.0.0.7:30123") at which a Service may answer, most likely first.

    Args:
        preferred: node addresses known to be reachable from here.
    """
    spec, status = service["spec"], service.get("status") or {}
    port = int(spec["ports"][0]["port"])
    node_port = spec["ports"][0].get("nodePort")
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    addresses = [(str(each.get("hostname") or each.get("ip")), port) for each in ingress]
    if node_port:
        addresses += [(host, int(node_port)) for host in (*preferred, *_addresses(nodes))]
    return list(dict.fromkeys(http_url(host, number) for host, number in addresses))


def reachable(urls: Sequence[str], at_most_s: float, headers: Mapping[str, str] = _NONE) -> str | None:
    """The first of ``urls`` whose /readyz answers 200; None where none does within about ``at_most_s``.

    URLs are retried, since a Service starts to answer shortly after its pod is ready. They share the time limit, and
    each is tried at least once.
    """
    deadline = time.monotonic() + at_most_s
    while urls:
        for url in urls:
            if _ready(url, min(_ASK_S, at_most_s / len(urls)), headers):
                return url
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE_S)
    return None


def warm_up(url: str, bodies: Sequence[bytes], rounds: int, headers: Mapping[str, str] = _NONE) -> None:
    """POST every body ``rounds`` times, each on a new connection, so that kube-proxy spreads them over the pods.

    Raises:
        MlscaleError: a request failed, or got a server error (503 only if it persists).
    """
    deadline = time.monotonic() + _SETTLES_S
    for _ in range(rounds):
        for number, body in enumerate(bodies):
            while (status := _post(url, body, headers)) == 503 and time.monotonic() < deadline:
                time.sleep(_PAUSE_S)
            if status >= 500 or status < 200:
                raise MlscaleError(
                    f"warm-up body {number} was answered with {status}", url + PATH, "see the application's log"
                )


def _addresses(nodes: Iterable[Json]) -> list[str]:
    """External addresses before internal ones."""
    addresses: dict[str, list[str]] = {"ExternalIP": [], "InternalIP": []}
    for node in nodes:
        for address in (node.get("status") or {}).get("addresses") or ():
            if address.get("type") in addresses:
                addresses[address["type"]].append(str(address["address"]))
    return addresses["ExternalIP"] + addresses["InternalIP"]


def _ready(url: str, at_most_s: float, headers: Mapping[str, str]) -> bool:
    connection = _connection(url, at_most_s)
    try:
        connection.request("GET", "/readyz", headers=dict(headers))
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _post(url: str, body: bytes, headers: Mapping[str, str]) -> int:
    connection = _connection(url, _ANSWER_S)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/octet-stream", **headers})
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException) as error:
        raise MlscaleError(f"no answer: {error}", url + PATH, "see whether the pods still run") from error
    finally:
        connection.close()


def _connection(url: str, timeout_s: float) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    return http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
