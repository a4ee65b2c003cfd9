"""A pod on a node of its own that sends the load of a run, and reports in its log."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from mlscale.environments.kubernetes.client import Api, Json, KubeContext, Refused, connect
from mlscale.environments.kubernetes.manifests import USER, Packaging
from mlscale.environments.kubernetes.names import MANAGED_BY, ROLE, RUN, TOOL
from mlscale.environments.kubernetes.paths import path_of
from mlscale.runs import MlscaleError
from mlscale.runs.info import ClockOffset

# From requesting the pod until it can send, s: its node (a minute or two on EKS), image, imports, every body twice.
LEAD_S: Final = 240.0
LOAD: Final = "load"
_POLL_S: Final = 2.0
_ENDED: Final = ("Succeeded", "Failed")
_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"


def load_pod(namespace: str, packaging: Packaging, never_on: Mapping[str, str], environment: Mapping[str, str]) -> Json:
    """The pod that sends the load.

    Args:
        packaging: of the application, whose interpreter and code it shares.
        never_on: labels of nodes that it avoids, as well as nodes with one of the run's pods; empty: it runs anywhere.
    """
    alone = {"labelSelector": {"matchLabels": {RUN: namespace}}, "topologyKey": "kubernetes.io/hostname"}
    elsewhere = [{"key": key, "operator": "NotIn", "values": [value]} for key, value in never_on.items()]
    affinity: dict[str, Any] = {
        "podAntiAffinity": {_REQUIRED: [alone]},
        "nodeAffinity": {_REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": elsewhere}]}},
    }
    mounts = [(f"host-{number}", path) for number, path in enumerate(packaging.mounts)]
    variables = {**packaging.environment, **environment}
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
            "volumes": [
                {"name": "tmp", "emptyDir": {}},
                *({"name": name, "hostPath": {"path": path}} for name, path in mounts),
            ],
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
    ) -> None:
        self._api: Api = connect(KubeContext(kubeconfig, context))
        self._namespace, self._packaging, self._never_on = namespace, Packaging(**packaging), never_on
        self._path = path_of("Pod", LOAD, namespace)

    def clock(self) -> ClockOffset:
        """The API server's, by the dates of its answers."""
        skew = self._api.skew()
        return ClockOffset(machine=self._api.server, ahead_s=skew.middle_s, within_s=skew.within_s)

    def start(self, environment: Mapping[str, str]) -> None:
        """Raises MlscaleError: the API server refuses it."""
        try:
            self._api.apply(self._path, load_pod(self._namespace, self._packaging, self._never_on, environment))
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
