"""Ray Serve's REST API (``ray.serve.schema``) on a cluster that runs already: one application more, then one less.

A PUT deploys the applications that it lists and removes every other that came by this API. So each change here reads
what is there, adds or leaves out one application, and puts the rest back as it was given. Ray leaves alone what has not
changed, and applications of ``serve.run``; only their time of deployment is set anew.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mlscale.runs import MlscaleError

Json = Mapping[str, Any]

_PATH: Final = "/api/serve/applications/"
_TIMEOUT_S: Final = 30.0
# Of all applications together; a PUT without one of them would set its default.
_SHARED: Final = ("proxy_location", "http_options", "grpc_options", "target_capacity")


class Unreachable(MlscaleError):  # noqa: N818
    """The cluster does not answer now."""


class ServeApi:
    """``address``: of the cluster's dashboard, such as "http://10.0.0.7:8265"."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def details(self, timeout_s: float = _TIMEOUT_S) -> Json:
        """Everything that runs there (``ServeInstanceDetails``).

        Raises:
            Unreachable: no answer.
            MlscaleError: an error is answered.
        """
        found: Json = json.loads(self._ask("GET", None, timeout_s))
        return found

    def put(self, configuration: Json) -> None:
        """Deploy a ``ServeDeploySchema``; returns before anything has started. Raises as `details`."""
        self._ask("PUT", json.dumps(configuration).encode(), _TIMEOUT_S)

    def shut_down(self) -> None:
        """End Serve with all its applications. Raises as `details`."""
        self._ask("DELETE", None, _TIMEOUT_S)

    def version(self) -> str:
        """The cluster's version of Ray. Raises as `details`."""
        return str(json.loads(self._ask("GET", None, _TIMEOUT_S, "/api/ray/version"))["ray_version"])

    def nodes(self, timeout_s: float = _TIMEOUT_S) -> Sequence[Json]:
        """The cluster's nodes, with ``node_id``, ``node_ip``, ``is_head_node``, ``state``, ``start_time_ms`` and
        ``resources_total`` (``ray.util.state``'s ``NodeState``). Raises as `details`."""
        answer = json.loads(self._ask("GET", None, timeout_s, "/api/v0/nodes?detail=1&limit=10000"))
        found: Sequence[Json] = answer["data"]["result"]["result"]
        return found

    def metrics_targets(self, timeout_s: float = _TIMEOUT_S) -> list[str]:
        """Where the nodes export Prometheus metrics, as "host:port". Raises as `details`."""
        groups = json.loads(self._ask("GET", None, timeout_s, "/api/prometheus/sd"))
        return [str(target) for group in groups for target in group["targets"]]

    def _ask(self, method: str, body: bytes | None, timeout_s: float, path: str = _PATH) -> bytes:
        request = urllib.request.Request(self.address + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=timeout_s) as response:
                content: bytes = response.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace").strip()[-600:]
            raise MlscaleError(f"{method} is answered {error.code}: {text}", self.address, "see the message") from error
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Unreachable(
                f"no answer: {reason}",
                f"Ray at {self.address}",
                "give the address of the cluster's dashboard, such as http://HEAD:8265 (ray start --dashboard-host)",
            ) from error
        return content


def runs_serve(details: Json) -> bool:
    """Whether Serve runs on the cluster."""
    return bool(details.get("controller_info"))


def with_application(details: Json, application: Json) -> Json:
    """What to PUT so that ``application`` runs beside what is there. Raises MlscaleError as `without_application`."""
    rest = without_application(details, str(application["name"]))
    return {**rest, "applications": [*rest["applications"], application]}


def without_application(details: Json, name: str) -> Json:
    """What to PUT so that everything but the application ``name`` stays.

    Raises:
        MlscaleError: another application is being deployed, so that its configuration is not known yet.
    """
    shared = {key: details[key] for key in _SHARED if details.get(key) is not None}
    others = (each for other, each in details["applications"].items() if other != name)
    return {**shared, "applications": [config for each in others if (config := _configuration(each)) is not None]}


def _configuration(application: Json) -> Json | None:
    """As it was given by this API; None if a PUT does not concern it, because of ``serve.run`` or since it ends."""
    config: Json | None = application.get("deployed_app_config")
    if config is not None or application.get("source") == "imperative" or application.get("status") == "DELETING":
        return config
    raise MlscaleError(
        f"its configuration is not known ({application.get('status')}), and would be lost",
        f"application {application.get('name')}",
        "wait until it is deployed, and repeat",
    )


def deployments_of(details: Json, name: str) -> Mapping[str, Json]:
    """The deployments of the application ``name``, by name; empty if it isn't there (any more)."""
    found: Mapping[str, Json] = (details["applications"].get(name) or {}).get("deployments") or {}
    return found


def running(deployment: Json) -> int:
    """Replicas that run."""
    replicas: Sequence[Json] = deployment["replicas"]
    return sum(replica["state"] == "RUNNING" for replica in replicas)
