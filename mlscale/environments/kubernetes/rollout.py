"""Waits for a deployment's first pods, using watches, and diagnoses what keeps them from starting."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mlscale.environments.kubernetes.client import Api, Json, Query, Refused
from mlscale.environments.kubernetes.conditions import condition, is_true
from mlscale.environments.kubernetes.diagnosis import diagnose
from mlscale.environments.kubernetes.list_watch import Change, Lost, Reflector
from mlscale.environments.kubernetes.manifests import DeployedComponent, Deployment
from mlscale.environments.kubernetes.names import COMPONENT
from mlscale.environments.kubernetes.paths import path_of
from mlscale.runs import MlscaleError

SOURCES: Final[Mapping[str, str]] = {
    "pods": "Pod",
    "events": "Event",
    "deployments": "Deployment",
    "autoscalers": "HorizontalPodAutoscaler",
}
# A kubelet's answer, with status 200, for a container that is gone (kubernetes/kubernetes#142258).
_NO_LOG: Final = "unable to retrieve container logs for"


class Watches:
    """Watches of a run's namespace. Changes are read twice: while waiting for the start (`until`), and from the
    beginning by the observer (`kept`, then `changes`)."""

    def __init__(self, api: Api, namespace: str, more: Mapping[str, tuple[str, Query]] | None = None) -> None:
        """``more``: other lists to watch, source -> path and query."""
        lists: dict[str, tuple[str, Query]] = {
            source: (path_of(kind, namespace=namespace), {}) for source, kind in SOURCES.items()
        }
        lists |= more or {}
        self.changes: queue.SimpleQueue[Change | Lost] = queue.SimpleQueue()
        self.kept: list[Change] = []
        """Changes that `until` has read, for the observer."""
        self._now: dict[str, dict[str, Json]] = {source: {} for source in lists}
        self._reflectors = [
            Reflector(api, source, path, self.changes, query=query) for source, (path, query) in lists.items()
        ]

    def start(self) -> None:
        for reflector in self._reflectors:
            reflector.start()

    def stop(self) -> None:
        for reflector in self._reflectors:
            reflector.stop()

    def follows(self, source: str) -> bool:
        """Whether ``source`` is watched."""
        return source in self._now

    def now(self, source: str) -> list[Json]:
        """The objects of ``source`` after the changes that `until` has read."""
        return list(self._now[source].values())

    def until(self, done: Callable[[], bool], check: Callable[[], None], at_most_s: float) -> bool:
        """Read changes until ``done()``; ``check`` is called after each, and twice a second.

        Returns:
            False if ``at_most_s`` passed before.
        Raises:
            MlscaleError: a watch was given up, or from ``check``.
        """
        deadline = time.monotonic() + at_most_s
        while not done():
            check()
            if time.monotonic() > deadline:
                return False
            try:
                change = self.changes.get(timeout=0.5)
            except queue.Empty:
                continue
            if isinstance(change, Lost):
                raise change.error
            self.kept.append(change)
            self._take(change)
        return True

    def _take(self, change: Change) -> None:
        known, uid = self._now[change.source], str(change.thing["metadata"]["uid"])
        if change.kind == "DELETED":
            known.pop(uid, None)
        else:
            known[uid] = change.thing


class Rollout:
    """Waits until the applied objects serve requests. Whatever prevents that is raised as an error."""

    def __init__(self, api: Api, wanted: Deployment, watches: Watches, *, machines_scale: bool) -> None:
        self._api, self._wanted, self._watches = api, wanted, watches
        self._machines_scale = machines_scale
        self._since: dict[str, float] = {}

    def wait_ready(self, at_most_s: float) -> None:
        """Wait until min_replicas pods of every part, at least one, are ready.

        Raises:
            MlscaleError: what prevents them, with the last log lines if a container exits.
        """
        if self._watches.until(self._ready, self._check, at_most_s):
            return
        counts = ", ".join(
            f"{part.name}: {self._ready_pods(part.name)} of {_first(part)}" for part in self._wanted.parts
        )
        raise MlscaleError(
            f"pods not ready after {at_most_s:g} s ({counts})",
            f"namespace {self._wanted.namespace}",
            "give replicas more CPU (cpu_cores), or check whether the node is overloaded",
        )

    def wait_metrics(self, at_most_s: float) -> None:
        """Wait until every HPA has a measurement to act on.

        Raises:
            MlscaleError: with the HPA's reason.
        """
        if not self._watches.until(self._measured, self._check, at_most_s):
            messages = [condition(hpa, "ScalingActive").get("message", "not evaluated yet") for hpa in self._hpas()]
            raise MlscaleError(
                f"the HPA has no measurement after {at_most_s:g} s: {'; '.join(map(str, messages)) or 'no HPA'}",
                f"namespace {self._wanted.namespace}",
                "check metrics-server, or what serves external.metrics.k8s.io",
            )

    def _ready(self) -> bool:
        return all(self._ready_pods(part.name) >= _first(part) for part in self._wanted.parts)

    def _ready_pods(self, component: str) -> int:
        return sum(
            is_true(pod, "Ready")
            for pod in self._watches.now("pods")
            if pod["metadata"]["labels"].get(COMPONENT) == component
        )

    def _hpas(self) -> Sequence[Json]:
        return self._watches.now("autoscalers")

    def _measured(self) -> bool:
        wanted = sum(not part.scaling.fixed for part in self._wanted.parts)
        return sum(_evaluated(hpa) for hpa in self._hpas()) >= wanted

    def _check(self) -> None:
        trouble = diagnose(
            self._watches.now("pods"),
            self._watches.now("deployments"),
            self._watches.now("events"),
            self._log,
            machines_scale=self._machines_scale,
        )
        now = time.monotonic()
        key = "" if trouble is None else trouble.error.where
        self._since = {key: self._since.get(key, now)}
        if trouble is not None and now - self._since[key] >= trouble.patience_s:
            raise trouble.error

    def _log(self, pod: str, previous: bool) -> str:
        return read_log(self._api, self._wanted.namespace, pod, previous=previous)


def _first(part: DeployedComponent) -> int:
    return max(1, part.scaling.min_replicas)


def _evaluated(hpa: Json) -> bool:
    """Whether it acts on a measurement, or has nothing to do because KEDA has scaled to zero."""
    return is_true(hpa, "ScalingActive") or condition(hpa, "ScalingActive").get("reason") == "ScalingDisabled"


def read_log(api: Api, namespace: str, pod: str, *, previous: bool = False) -> str:
    """The last lines of a pod's log; empty if there is none (any more)."""
    path = path_of("Pod", pod, namespace) + "/log"
    try:
        text = api.text(path, {"tailLines": 60, "previous": "true" if previous else "false"})
    except (Refused, MlscaleError):
        return ""
    return "" if text.startswith(_NO_LOG) else text
