"""Requests in flight of pods, as samples over time, and what the HPA is told of them: pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlscale.environments.kubernetes_names import IN_FLIGHT, WINDOW_LABEL
from onenode.conditions import condition

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
KEEP_S: Final = 60.0
DEFAULT_WINDOW_S: Final = 1.6
_GAUGE: Final = re.compile(rf"^{IN_FLIGHT} ([0-9.eE+-]+)$", re.MULTILINE)
_SELECTOR: Final = re.compile(r"([A-Za-z0-9_./-]+)\s*(?:=|==)\s*([A-Za-z0-9_.-]*)")


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod that is asked: where it lies, and at which address its /metrics answers."""

    namespace: str
    component: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class Asked:
    """What a label selector asks for: a component's pods, averaged over a window."""

    component: str
    window_s: float


class Flights:
    """The gauges of all pods over the last minute."""

    def __init__(self) -> None:
        self._samples: dict[Pod, deque[tuple[float, float]]] = {}

    def add(self, pod: Pod, t: float, value: float) -> None:
        """``value`` requests were in flight at ``t``."""
        samples = self._samples.setdefault(pod, deque())
        samples.append((t, value))
        while samples[0][0] < t - KEEP_S:
            samples.popleft()

    def forget(self, kept: set[Pod]) -> None:
        """Pods that are gone."""
        for pod in self._samples.keys() - kept:
            del self._samples[pod]

    def total(self, namespace: str, asked: Asked, t: float) -> float | None:
        """The sum over the pods of each one's mean over the window before ``t``; None where no pod has a sample."""
        means = [
            sum(values) / len(values)
            for pod, samples in self._samples.items()
            if (pod.namespace, pod.component) == (namespace, asked.component)
            and (values := [value for at, value in samples if at >= t - asked.window_s])
        ]
        return sum(means) if means else None


def gauge(page: str) -> float | None:
    """Requests in flight in Prometheus' text; None where they don't stand there."""
    found = _GAUGE.search(page)
    return float(found[1]) if found else None


def asked_for(selector: str) -> Asked:
    """ "component=app,window-ms=1600". Raises ValueError for anything else."""
    pairs: dict[str, str] = {}
    for text in filter(None, (part.strip() for part in selector.split(","))):
        found = _SELECTOR.fullmatch(text)
        if found is None or found[1] not in ("component", WINDOW_LABEL):
            raise ValueError(f"{text!r} is not component=NAME or {WINDOW_LABEL}=NUMBER")
        pairs[found[1]] = found[2]
    if not pairs.get("component"):
        raise ValueError("no component=NAME in the label selector")
    window_s = int(pairs[WINDOW_LABEL]) / 1000 if WINDOW_LABEL in pairs else DEFAULT_WINDOW_S
    if not 0 < window_s <= KEEP_S:
        raise ValueError(f"a window of {window_s:g} s: 0 to {KEEP_S:g} s are kept")
    return Asked(pairs["component"], window_s)


def value_list(asked: Asked, total: float | None, moment: str) -> dict[str, Any]:
    """ExternalMetricValueList; empty where nothing is known: the HPA then holds and says so."""
    item = {
        "metricName": IN_FLIGHT,
        "metricLabels": {"component": asked.component},
        "timestamp": moment,
        "windowSeconds": max(1, round(asked.window_s)),
        "value": f"{round(1000 * (total or 0.0))}m",
    }
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {},
        "items": [] if total is None else [item],
    }


def resource_list() -> dict[str, Any]:
    """What discovery says."""
    resource = {
        "name": IN_FLIGHT,
        "singularName": "",
        "namespaced": True,
        "kind": "ExternalMetricValueList",
        "verbs": ["get"],
    }
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{GROUP}/{VERSION}",
        "resources": [resource],
    }


def api_group() -> dict[str, Any]:
    """The group, for discovery."""
    version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def pod_of(thing: Mapping[str, Any], component_label: str, port: int) -> Pod | None:
    """A pod that is ready and has an address, as one to ask; None for any other."""
    status, metadata = thing.get("status") or {}, thing["metadata"]
    component = (metadata.get("labels") or {}).get(component_label)
    if not (condition(thing, "Ready") and status.get("podIP") and component):
        return None
    return Pod(metadata["namespace"], component, metadata["name"], f"http://{status['podIP']}:{port}/metrics")
