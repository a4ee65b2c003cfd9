"""Kubernetes' HorizontalPodAutoscaler (autoscaling/v2) as a pure function, ported from its source (v1.34)."""

from mlscale_twin.policies.hpa.behavior import Behavior, History, ScalingPolicy, ScalingRules
from mlscale_twin.policies.hpa.calculator import Proposal, Tolerances
from mlscale_twin.policies.hpa.controller import Decision, HpaSettings, MetricSpec, decide
from mlscale_twin.policies.hpa.observed import (
    Container,
    MetricError,
    Observation,
    Phase,
    Pod,
    PodMetric,
    Reading,
    ReadyCondition,
)

__all__ = [
    "Behavior",
    "Container",
    "Decision",
    "History",
    "HpaSettings",
    "MetricError",
    "MetricSpec",
    "Observation",
    "Phase",
    "Pod",
    "PodMetric",
    "Proposal",
    "Reading",
    "ReadyCondition",
    "ScalingPolicy",
    "ScalingRules",
    "Tolerances",
    "decide",
]
