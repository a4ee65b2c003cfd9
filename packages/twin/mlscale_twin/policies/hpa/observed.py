"""What the HorizontalPodAutoscaler sees: pods, their metrics, the scale of what it scales."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Phase = Literal["Pending", "Running", "Succeeded", "Failed", "Unknown"]
Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class ReadyCondition:
    """A pod's condition Ready; ``last_transition_s`` on the clock of the observation."""

    status: Status
    last_transition_s: float


@dataclass(frozen=True, slots=True)
class Container:
    """``requests``: resource to milli-units. An init container counts where it restarts (a sidecar)."""

    name: str
    requests: Mapping[str, int] = field(default_factory=dict)
    init: bool = False
    restarts: bool = False


@dataclass(frozen=True, slots=True)
class Pod:
    """``start_s``: when the kubelet accepted it. ``requests``: pod-level ones; empty: none."""

    name: str
    phase: Phase = "Running"
    deleted: bool = False
    start_s: float | None = None
    ready: ReadyCondition | None = None
    containers: tuple[Container, ...] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    overhead: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PodMetric:
    """One pod's value in milli-units, taken over the ``window_s`` before ``timestamp_s``."""

    value: int
    timestamp_s: float = 0.0
    window_s: float = 60.0


PodMetrics = Mapping[str, PodMetric]
Reading = PodMetrics | Sequence[int] | int | None
"""Response of a metrics API: values of pods by name, of an external metric, or of an object; None: unavailable."""


@dataclass(frozen=True, slots=True)
class Observation:
    """At ``t_s``: the scale's replicas as specified and as counted, the pods (None: unavailable), and for each of the
    settings' metrics its reading."""

    t_s: float
    spec_replicas: int
    status_replicas: int
    pods: tuple[Pod, ...] | None
    readings: tuple[Reading, ...]


class MetricError(Exception):
    """A replica count can't be computed from a metric; the text is the controller's."""
