"""Waiting for a deployment's first pods, and what keeps them: all by watches."""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from mlscale.environments.kubernetes.client import Api, Json, Query, Refused
from mlscale.environments.kubernetes.diagnosis import diagnose
from mlscale.environments.kubernetes.list_watch import Change, Lost, Reflector
from mlscale.environments.kubernetes.manifests import Deployment
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.pods import condition
from mlscale.environments.kubernetes_names import COMPONENT
from mlscale.runs import MlscaleError

SOURCES: Final[Mapping[str, str]] = {
    "pods": "Pod",
    "events": "Event",
    "deployments": "Deployment",
    "autoscalers": "HorizontalPodAutoscaler",
}
# What a kubelet answers, with status 200, for a container that is gone (kubernetes/kubernetes#142258).
_NO_LOG: Final = "unable to retrieve container logs for"


class Watches:
    """Everything in a run's namespace, followed; changes can be read twice: once waiting for the start (`until`),
    and from the beginning by the observer (`kept`, then `changes`)."""

    def __init__(self, api: Api, namespace: str, more: Mapping[str, tuple[str, Query]] | None = None) -> None:
        """``more``: what else is followed, source -> path and query of its list."""
        lists: dict[str, tuple[str, Query]] = {
            source: (path_of(kind, namespace=namespace), {}) for source, kind in SOURCES.items()
        }
        lists |= more or {}
        self.changes: queue.SimpleQueue[Change | Lost] = queue.SimpleQueue()
        self.kept: list[Change] = []
        """What `until` has taken, for the observer."""
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
        """Whether a source of that name is among those that are followed."""
        return source in self._now

    def now(self, source: str) -> list[Json]:
        """The objects of one kind, as far as `until` has read."""
        return list(self._now[source].values())

    def until(self, done: Callable[[], bool], check: Callable[[], None], at_most_s: float) -> bool:
        """Take changes in until ``done()``; ``check`` is called after each, and twice a second.

        Returns:
            False where ``at_most_s`` passed before.
        Raises:
            MlscaleError: a watch was lost, or what ``check`` raises.
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
    """Waits for what was applied to serve; every obstacle becomes one error."""

    def __init__(self, api: Api, wanted: Deployment, watches: Watches, *, machines_scale: bool) -> None:
        self._api, self._wanted, self._watches = api, wanted, watches
        self._machines_scale = machines_scale
        self._since: dict[str, float] = {}

    def wait_ready(self, at_most_s: float) -> None:
        """Until every part's min_replicas pods are ready.

        Raises:
            MlscaleError: what keeps them, with the last log lines where a container ends by itself.
        """
        if self._watches.until(self._ready, self._check, at_most_s):
            return
        found = ", ".join(
            f"{part.name}: {self._ready_pods(part.name)} of {part.scaling.min_replicas}" for part in self._wanted.parts
        )
        raise MlscaleError(
            f"pods not ready after {at_most_s:g} s ({found})",
            f"namespace {self._wanted.namespace}",
            "give replicas more CPU (cpu_cores), or see whether the node is overloaded",
        )

    def wait_metrics(self, at_most_s: float) -> None:
        """Until every HPA has a measurement that it acts on.

        Raises:
            MlscaleError: with the reason that the HPA gives.
        """
        if not self._watches.until(self._measured, self._check, at_most_s):
            said = [condition(hpa, "ScalingActive").get("message", "it has not looked yet") for hpa in self._hpas()]
            raise MlscaleError(
                f"the HPA has no measurement after {at_most_s:g} s: {'; '.join(map(str, said)) or 'no HPA is there'}",
                f"namespace {self._wanted.namespace}",
                "see whether metrics-server, or what serves external.metrics.k8s.io, works",
            )

    def _ready(self) -> bool:
        return all(self._ready_pods(part.name) >= part.scaling.min_replicas for part in self._wanted.parts)

    def _ready_pods(self, component: str) -> int:
        return sum(
            condition(pod, "Ready").get("status") == "True"
            for pod in self._watches.now("pods")
            if pod["metadata"]["labels"].get(COMPONENT) == component
        )

    def _hpas(self) -> Sequence[Json]:
        return self._watches.now("autoscalers")

    def _measured(self) -> bool:
        wanted = sum(not part.scaling.fixed for part in self._wanted.parts)
        active: int = sum(condition(hpa, "ScalingActive").get("status") == "True" for hpa in self._hpas())
        return active >= wanted

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


def read_log(api: Api, namespace: str, pod: str, *, previous: bool = False, lines: int = 60) -> str:
    """The last lines of a pod's log; empty where it has none (any more)."""
    path = path_of("Pod", pod, namespace) + "/log"
    try:
        text = api.text(path, {"tailLines": lines, "previous": "true" if previous else "false"})
    except (Refused, MlscaleError):
        return ""
    return "" if text.startswith(_NO_LOG) else text
