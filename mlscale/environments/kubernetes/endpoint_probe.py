"""Where load comes in: always past kube-proxy or a load balancer, never through a port-forward, which pins one pod."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import urlsplit

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.manifests import PATH
from mlscale.runs import MlscaleError

_ASK_S: Final = 5.0
_ANSWER_S: Final = 60.0
_PAUSE_S: Final = 0.1
# So long a component's address may refuse while kube-proxy has not heard of its ready pod.
_SETTLES_S: Final = 15.0


def candidates(service: Json, nodes: Iterable[Json], preferred: Sequence[str] = ()) -> list[str]:
    """Addresses ("http://10.0.0.7:30123") at which a Service may answer, the likeliest first.

    Args:
        preferred: node addresses that are known to be reachable from here.
    """
    spec, status = service["spec"], service.get("status") or {}
    port = int(spec["ports"][0]["port"])
    node_port = spec["ports"][0].get("nodePort")
    ingress = (status.get("loadBalancer") or {}).get("ingress") or ()
    found = [(str(each.get("hostname") or each.get("ip")), port) for each in ingress]
    if node_port:
        found += [(host, int(node_port)) for host in (*preferred, *_addresses(nodes))]
    return list(dict.fromkeys(f"http://{_bracketed(host)}:{number}" for host, number in found))


def reachable(urls: Sequence[str], at_most_s: float) -> str | None:
    """The first of ``urls`` whose /readyz answers 200; None where none does within ``at_most_s``.

    An endpoint answers a little after its pod is ready.
    """
    deadline = time.monotonic() + at_most_s
    while urls:
        for url in urls:
            if _ready(url):
                return url
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE_S)
    return None


def warm_up(url: str, bodies: Sequence[bytes], rounds: int) -> None:
    """POST every body ``rounds`` times, each on a connection of its own, so that kube-proxy spreads them.

    Raises:
        MlscaleError: one got no answer, or a server error (503 only where it lasts).
    """
    deadline = time.monotonic() + _SETTLES_S
    for _ in range(rounds):
        for number, body in enumerate(bodies):
            while (status := _post(url, body)) == 503 and time.monotonic() < deadline:
                time.sleep(_PAUSE_S)
            if status >= 500 or status < 200:
                raise MlscaleError(
                    f"warm-up body {number} was answered with {status}", url + PATH, "see the application's log"
                )


def _addresses(nodes: Iterable[Json]) -> list[str]:
    """Outer addresses before inner ones."""
    found: dict[str, list[str]] = {"ExternalIP": [], "InternalIP": []}
    for node in nodes:
        for address in (node.get("status") or {}).get("addresses") or ():
            if address.get("type") in found:
                found[address["type"]].append(str(address["address"]))
    return found["ExternalIP"] + found["InternalIP"]


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _ready(url: str) -> bool:
    connection = _connection(url, _ASK_S)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _post(url: str, body: bytes) -> int:
    connection = _connection(url, _ANSWER_S)
    try:
        connection.request("POST", PATH, body, {"Content-Type": "application/octet-stream"})
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
