"""Samples of pods' requests in flight, and the external metric that the HPA gets from them. Pure."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mlscale.environments.kubernetes.conditions import is_true
from mlscale.environments.kubernetes.names import IN_FLIGHT, WINDOW_LABEL

GROUP: Final = "external.metrics.k8s.io"
VERSION: Final = "v1beta1"
KEEP_S: Final = 60.0
DEFAULT_WINDOW_S: Final = 1.6
_GAUGE: Final = re.compile(rf"^{IN_FLIGHT} ([0-9.eE+-]+)$", re.MULTILINE)
_SELECTOR: Final = re.compile(r"([A-Za-z0-9_./-]+)\s*(?:=|==)\s*([A-Za-z0-9_.-]*)")


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod to sample. ``address``: URL of its /metrics."""

    namespace: str
    component: str
    name: str
    address: str


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """A query by label selector: a component's pods, averaged over a window."""

    component: str
    window_s: float


class InFlightSamples:
    """The gauges of all pods over the last `KEEP_S`."""

    def __init__(self) -> None:
        self._samples: dict[Pod, deque[tuple[float, float]]] = {}

    def add(self, pod: Pod, t: float, value: float) -> None:
        """``value`` requests were in flight at ``t``."""
        samples = self._samples.setdefault(pod, deque())
        samples.append((t, value))
        while samples[0][0] < t - KEEP_S:
            samples.popleft()

    def keep_only(self, pods: set[Pod]) -> None:
        """Drop pods that are not in ``pods``."""
        for pod in self._samples.keys() - pods:
            del self._samples[pod]

    def total(self, namespace: str, query: MetricQuery, t: float) -> float | None:
        """Sum over the pods of their means over the window before ``t``; None if no pod has a sample in it."""
        means = [
            sum(values) / len(values)
            for pod, samples in self._samples.items()
            if (pod.namespace, pod.component) == (namespace, query.component)
            and (values := [value for at, value in samples if at >= t - query.window_s])
        ]
        return sum(means) if means else None


def gauge(page: str) -> float | None:
    """Requests in flight from a page in Prometheus' text format; None if it lacks them."""
    match = _GAUGE.search(page)
    return float(match[1]) if match else None


def parse_selector(selector: str) -> MetricQuery:
    """ "component=app,window-ms=1600". Raises ValueError for anything else."""
    pairs: dict[str, str] = {}
    for text in filter(None, (part.strip() for part in selector.split(","))):
        match = _SELECTOR.fullmatch(text)
        if match is None or match[1] not in ("component", WINDOW_LABEL):
            raise ValueError(f"{text!r} is not component=NAME or {WINDOW_LABEL}=NUMBER")
        pairs[match[1]] = match[2]
    if not pairs.get("component"):
        raise ValueError("no component=NAME in the label selector")
    window_s = int(pairs[WINDOW_LABEL]) / 1000 if WINDOW_LABEL in pairs else DEFAULT_WINDOW_S
    if not 0 < window_s <= KEEP_S:
        raise ValueError(f"a window of {window_s:g} s; choose 0 to {KEEP_S:g} s")
    return MetricQuery(pairs["component"], window_s)


def value_list(query: MetricQuery, total: float | None, moment: str) -> dict[str, Any]:
    """ExternalMetricValueList; empty if the total is unknown: the HPA then holds and reports it."""
    item = {
        "metricName": IN_FLIGHT,
        "metricLabels": {"component": query.component},
        "timestamp": moment,
        "windowSeconds": max(1, round(query.window_s)),
        "value": f"{round(1000 * (total or 0.0))}m",
    }
    return {
        "kind": "ExternalMetricValueList",
        "apiVersion": f"{GROUP}/{VERSION}",
        "metadata": {},
        "items": [] if total is None else [item],
    }


def resource_list() -> dict[str, Any]:
    """The APIResourceList for discovery."""
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
    """The APIGroup for discovery."""
    version = {"groupVersion": f"{GROUP}/{VERSION}", "version": VERSION}
    return {"kind": "APIGroup", "apiVersion": "v1", "name": GROUP, "versions": [version], "preferredVersion": version}


def pod_of(thing: Mapping[str, Any], component_label: str, port: int) -> Pod | None:
    """A pod to sample; None if it is not ready, has no address or no component."""
    status, metadata = thing.get("status") or {}, thing["metadata"]
    component = (metadata.get("labels") or {}).get(component_label)
    if not (is_true(thing, "Ready") and status.get("podIP") and component):
        return None
    return Pod(metadata["namespace"], component, metadata["name"], f"http://{status['podIP']}:{port}/metrics")
