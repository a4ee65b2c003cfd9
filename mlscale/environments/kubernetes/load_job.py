"""A pod on a node of its own that sends the load of a run, and reports in its log."""

from __future__ import annotations

import base64
import json
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from mlscale.environments.kubernetes.client import Api, Json, KubeContext, Refused, connect
from mlscale.environments.kubernetes.manifests import USER, Packaging
from mlscale.environments.kubernetes.names import MANAGED_BY, ROLE, RUN, TOOL
from mlscale.environments.kubernetes.paths import path_of
from mlscale.loadgen.bodies import LABELS, BodySet
from mlscale.loadgen.remote_job import BODIES
from mlscale.runs import MlscaleError
from mlscale.runs.info import ClockOffset

# From requesting the pod until it can send, s: its node (a minute or two on EKS), image, imports, every body twice.
LEAD_S: Final = 240.0
LOAD: Final = "load"
_POLL_S: Final = 2.0
_ENDED: Final = ("Succeeded", "Failed")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_BODIES_AT: Final = "/bodies"
# A ConfigMap holds up to 1 MiB, by keys of these characters (Kubernetes' documentation, "ConfigMaps").
_MAP_BYTES: Final = 1_000_000
_KEY: Final = re.compile(r"[-._a-zA-Z0-9]{1,253}")
# Most that is given to a cluster's database (assumed).
_BODIES_BYTES: Final = 16_000_000


def body_maps(namespace: str, bodies: BodySet) -> list[Json]:
    """ConfigMaps with the files to send, for the load's pod; none if they don't fit: then its image must hold them."""
    files = dict(zip(bodies.names, bodies.bodies, strict=True))
    if bodies.labels is not None:
        files[LABELS] = "".join(json.dumps(label) + "\n" for label in bodies.labels).encode()
    sizes = [len(content) for content in files.values()]
    if max(sizes) > _MAP_BYTES or sum(sizes) > _BODIES_BYTES or not all(map(_KEY.fullmatch, files)):
        return []
    packed: list[dict[str, str]] = []
    free = 0
    for name, content in files.items():
        if len(content) > free or not packed:
            packed.append({})
            free = _MAP_BYTES
        packed[-1][name] = base64.b64encode(content).decode()
        free -= len(content)
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": f"{LOAD}-{number}", "namespace": namespace, "labels": {MANAGED_BY: TOOL}},
            "binaryData": data,
        }
        for number, data in enumerate(packed)
    ]


def load_pod(
    namespace: str,
    packaging: Packaging,
    never_on: Mapping[str, str],
    environment: Mapping[str, str],
    maps: Sequence[str] = (),
) -> Json:
    """The pod that sends the load.

    Args:
        packaging: of the application, whose interpreter and code it shares.
        never_on: labels of nodes that it avoids, as well as nodes with one of the run's pods; empty: it runs anywhere.
        maps: names of the ConfigMaps with the files to send; empty: its image has them.
    """
    alone = {"labelSelector": {"matchLabels": {RUN: namespace}}, "topologyKey": "kubernetes.io/hostname"}
    elsewhere = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in never_on.items()]
    affinity: dict[str, Any] = {
        "podAntiAffinity": {_REQUIRED: [alone]},
        "nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": elsewhere}]}},
    }
    mounts = [(f"host-{number}", path) for number, path in enumerate(packaging.mounts)]
    volumes: list[Json] = [{"name": name, "hostPath": {"path": path}} for name, path in mounts]
    variables = {**packaging.environment, **environment}
    if maps:
        mounts.append(("bodies", _BODIES_AT))
        volumes.append({"name": "bodies", "projected": {"sources": [{"configMap": {"name": name}} for name in maps]}})
        variables[BODIES] = _BODIES_AT
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": LOAD, "namespace": namespace, "labels": {MANAGED_BY: TOOL, ROLE: LOAD}},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": False,
            "enableServiceLinks": False,
            **({"affinity": affinity} if never_on else {}),
            "securityContext": {"runAsNonRoot": True, "runAsUser": USER, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "tmp", "emptyDir": {}}, *volumes],
            "containers": [
                {
                    "name": LOAD,
                    "image": packaging.image,
                    "imagePullPolicy": packaging.pull_policy,
                    "command": [packaging.command[0], "-m", "mlscale.loadgen.remote_job"],
                    "env": [{"name": name, "value": value} for name, value in variables.items()],
                    "volumeMounts": [
                        {"name": "tmp", "mountPath": "/tmp"},
                        *({"name": name, "mountPath": path, "readOnly": True} for name, path in mounts),
                    ],
                    "resources": {"requests": {"cpu": "900m", "memory": "1Gi"}},
                    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
                }
            ],
        },
    }


class PodJob:
    """See `mlscale.loadgen.remote.RemoteJob`. The arguments are JSON data, since they come from a command line."""

    warms_up = True
    clock_within_s = math.inf

    def __init__(
        self,
        kubeconfig: str,
        context: str | None,
        namespace: str,
        packaging: Mapping[str, Any],
        never_on: Mapping[str, str],
        maps: Sequence[str],
    ) -> None:
        self._api: Api = connect(KubeContext(kubeconfig, context))
        self._namespace, self._packaging, self._never_on = namespace, Packaging(**packaging), never_on
        self._maps = maps
        self._path = path_of("Pod", LOAD, namespace)

    def clock(self) -> ClockOffset:
        """The API server's, by the dates of its answers."""
        skew = self._api.skew()
        return ClockOffset(machine=self._api.server, ahead_s=skew.middle_s, within_s=skew.within_s)

    def send_bodies(self, bodies: Path) -> None:
        """They are in the application's image, or mounted."""

    def start(self, environment: Mapping[str, str]) -> None:
        """Raises MlscaleError: the API server refuses it."""
        pod = load_pod(self._namespace, self._packaging, self._never_on, environment, self._maps)
        try:
            self._api.apply(self._path, pod)
        except Refused as refused:
            raise refused.as_error("the load's pod") from refused

    def lines(self) -> Iterator[str]:
        """Raises MlscaleError: the pod ended, or was deleted, without any output."""
        printed = 0
        while True:
            phase, reason = self._phase()
            text = self._log()
            whole = text[: text.rfind("\n") + 1].splitlines()
            yield from whole[printed:]
            printed = len(whole)
            if phase in _ENDED:
                break
            time.sleep(_POLL_S)
        if not printed:
            raise MlscaleError(f"the load's pod printed nothing: {reason}", self._namespace, "see the pod's events")

    def stop(self) -> None:
        """SIGTERM to the worker; it still reports what it sent."""
        try:
            self._api.delete(self._path, gracePeriodSeconds=20)
        except Refused as refused:
            raise refused.as_error("the load's pod") from refused

    def _phase(self) -> tuple[str, str]:
        try:
            pod = self._api.find(self._path)
        except Refused as refused:
            raise refused.as_error("the load's pod") from refused
        if pod is None:
            return "Failed", "it is gone"
        status = pod.get("status") or {}
        return str(status.get("phase", "")), str(status.get("message") or status.get("reason") or "no reason given")

    def _log(self) -> str:
        """The pod's output so far; empty until its container runs."""
        try:
            return self._api.text(f"{self._path}/log")
        except Refused as refused:
            if refused.status in (400, 404):
                return ""
            raise refused.as_error("the load's log") from refused
