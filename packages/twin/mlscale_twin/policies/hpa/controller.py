"""One look of the HorizontalPodAutoscaler: ``reconcileAutoscaler`` of horizontal.go (v1.34), without its I/O.

    decide(observation, settings, state) -> Decision

Times are seconds on any monotonic clock, the same in observation and state. A live autoscaler looks every 15 s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mlscale_twin.policies.hpa.behavior import Behavior, History, normalize, normalize_with_behaviors, with_defaults
from mlscale_twin.policies.hpa.calculator import Proposal, ReplicaCalculator, Tolerances
from mlscale_twin.policies.hpa.observed import MetricError, Observation, PodMetrics, Reading

MetricType = Literal["Resource", "ContainerResource", "Pods", "Object", "External"]
TargetType = Literal["Utilization", "AverageValue", "Value"]
_NO_CHANGE: Final = "SucceededGetScale"
_CHANGED: Final = "SucceededRescale"
_TARGETS: Mapping[MetricType, tuple[TargetType, ...]] = {
    "Resource": ("Utilization", "AverageValue"),
    "ContainerResource": ("Utilization", "AverageValue"),
    "Pods": ("AverageValue",),
    "Object": ("Value", "AverageValue"),
    "External": ("Value", "AverageValue"),
}


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """One of ``spec.metrics``. ``target`` is in percent of the request (Utilization) or in milli-units.

    Raises:
        ValueError: a target that this type of metric has not, or one below 1.
    """

    type: MetricType
    name: str
    target_type: TargetType
    target: int
    container: str = ""

    def __post_init__(self) -> None:
        if self.target_type not in _TARGETS[self.type]:
            raise ValueError(f"{self.type} metrics take {' or '.join(_TARGETS[self.type])}, not {self.target_type}")
        if self.target < 1:
            raise ValueError(f"target {self.target} of {self.name}: at least 1")
        if bool(self.container) != (self.type == "ContainerResource"):
            raise ValueError(f"{self.name}: a container goes with ContainerResource, and only with it")

    @property
    def label(self) -> str:
        """As the controller names it in its reasons."""
        if self.type == "Pods":
            return f"pods metric {self.name}"
        if self.type in ("External", "Object"):
            return f"external metric {self.name}"
        if self.target_type == "AverageValue":
            return f"{self.name} resource"
        kind = "container resource" if self.type == "ContainerResource" else "resource"
        return f"{self.name} {kind} utilization (percentage of request)"


@dataclass(frozen=True, slots=True)
class HpaSettings:
    """The autoscaler's spec, and the flags of kube-controller-manager with their defaults (v1alpha1/defaults.go).

    ``configurable_tolerance``: the feature gate HPAConfigurableTolerance, off in v1.34.
    """

    metrics: tuple[MetricSpec, ...]
    min_replicas: int = 1
    max_replicas: int = 4
    behavior: Behavior | None = None
    tolerance: float = 0.1
    downscale_stabilization_s: float = 300.0
    cpu_initialization_period_s: float = 300.0
    initial_readiness_delay_s: float = 30.0
    configurable_tolerance: bool = False

    @property
    def tolerances(self) -> Tolerances:
        """``tolerancesForHpa``."""
        if self.behavior is None or not self.configurable_tolerance:
            return Tolerances(self.tolerance, self.tolerance)
        down, up = self.behavior.scale_down.tolerance, self.behavior.scale_up.tolerance
        return Tolerances(self.tolerance if down is None else down, self.tolerance if up is None else up)


@dataclass(frozen=True, slots=True)
class Decision:
    """``desired`` replicas from now on; the scale's own where nothing changes.

    ``able_to_scale``, ``scaling_active``, ``scaling_limited``: reasons of the HPA's conditions, empty where it sets
    none. ``reason``: all of it in words. ``proposals``: per metric what it asked for, or why it could not.
    """

    desired: int
    able_to_scale: str
    scaling_active: str
    scaling_limited: str
    reason: str
    state: History
    proposals: tuple[Proposal | MetricError, ...] = ()


def decide(observation: Observation, settings: HpaSettings, state: History) -> Decision:
    """One decision; the reason for every hold is given.

    Raises:
        ValueError: the readings don't match the settings' metrics.
    """
    if len(observation.readings) != len(settings.metrics):
        raise ValueError(f"{len(observation.readings)} readings for {len(settings.metrics)} metrics")
    current, now_s = observation.spec_replicas, observation.t_s
    state = state.first_looked(current, now_s)
    behavior = _behavior(settings)
    if current == 0 and settings.min_replicas != 0:
        return Decision(0, _NO_CHANGE, "ScalingDisabled", "", "no replicas: autoscaling is off", state)
    low, high = settings.min_replicas, settings.max_replicas
    if not low <= current <= high:
        bound, words = (high, "at most") if current > high else (low, "at least")
        after = state.rescaled(behavior, current, bound, now_s)
        return Decision(bound, _CHANGED, "", "", f"{current} replicas, {words} {bound} are set", after)
    proposals = tuple(
        _proposal(observation, settings, spec, reading)
        for spec, reading in zip(settings.metrics, observation.readings, strict=True)
    )
    chosen = _chosen(proposals, current)
    if chosen is None:
        first, failed = _first_failure(settings.metrics, proposals)
        return Decision(current, _NO_CHANGE, f"FailedGet{first.type}Metric", "", str(failed), state, proposals)
    return _normalized(observation, settings, behavior, state, proposals, chosen)


def _normalized(
    observation: Observation,
    settings: HpaSettings,
    behavior: Behavior | None,
    state: History,
    proposals: tuple[Proposal | MetricError, ...],
    chosen: Proposal,
) -> Decision:
    current, now_s = observation.spec_replicas, observation.t_s
    bounds = (settings.min_replicas, settings.max_replicas)
    proposed = max(0, chosen.replicas)
    if behavior is None:
        window_s = settings.downscale_stabilization_s
        done, state = normalize(state, current, proposed, bounds, window_s, now_s)
    else:
        done, state = normalize_with_behaviors(state, current, proposed, bounds, behavior, now_s)
    able, words = done.able_to_scale, [chosen.reason, f"{proposed} proposed"]
    if able != "ReadyForNewScale":
        words.append("recent recommendations hold it back")
    if done.is_limited:
        words.append(f"limited to {done.replicas} ({done.scaling_limited})")
    if done.replicas != current:
        able, state = _CHANGED, state.rescaled(behavior, current, done.replicas, now_s)
    reason = "; ".join(words)
    return Decision(done.replicas, able, "ValidMetricFound", done.scaling_limited, reason, state, proposals)


def _behavior(settings: HpaSettings) -> Behavior | None:
    if settings.behavior is None:
        return None
    return with_defaults(settings.behavior, settings.downscale_stabilization_s)


def _chosen(proposals: Sequence[Proposal | MetricError], current: int) -> Proposal | None:
    """``computeReplicasForMetrics``: the largest; none where all failed, or one did and it would be fewer replicas."""
    best: Proposal | None = None
    for each in proposals:
        if isinstance(each, Proposal) and (best is None or best.replicas == 0 or each.replicas > best.replicas):
            best = each
    failed = any(isinstance(each, MetricError) for each in proposals)
    return None if best is None or (failed and best.replicas < current) else best


def _first_failure(
    metrics: Sequence[MetricSpec], proposals: Sequence[Proposal | MetricError]
) -> tuple[MetricSpec, MetricError]:
    return next((spec, each) for spec, each in zip(metrics, proposals, strict=True) if isinstance(each, MetricError))


def _proposal(
    observation: Observation, settings: HpaSettings, spec: MetricSpec, reading: Reading
) -> Proposal | MetricError:
    """``computeReplicasForMetric``: to the calculation for this type of metric and target."""
    try:
        return _computed(observation, settings, spec, reading)
    except MetricError as error:
        return error


def _computed(observation: Observation, settings: HpaSettings, spec: MetricSpec, reading: Reading) -> Proposal:
    calculator = ReplicaCalculator(
        observation.t_s, settings.cpu_initialization_period_s, settings.initial_readiness_delay_s
    )
    current, counted, pods = observation.spec_replicas, observation.status_replicas, observation.pods
    tolerances, target = settings.tolerances, spec.target
    asked = (spec.name, tolerances)
    whole = spec.target_type == "Value"
    if spec.type == "Object":
        value: int | None = _checked(reading, int)
        if whole:
            return calculator.get_object_metric_replicas(current, target, *asked, pods, value)
        return calculator.get_object_per_pod_metric_replicas(counted, target, *asked, value)
    if spec.type == "External":
        values: Sequence[int] | None = _checked(reading, Sequence)
        if whole:
            return calculator.get_external_metric_replicas(current, target, *asked, pods, values)
        return calculator.get_external_per_pod_metric_replicas(counted, target, *asked, values)
    metrics: PodMetrics | None = _checked(reading, Mapping)
    if spec.type == "Pods":
        return calculator.get_metric_replicas(current, target, *asked, pods, metrics)
    if spec.target_type == "AverageValue":
        return calculator.get_raw_resource_replicas(current, target, *asked, pods, metrics)
    return calculator.get_resource_replicas(current, target, *asked, pods, metrics, spec.container)


def _checked(reading: Reading, kind: type) -> Any:
    if reading is None or isinstance(reading, kind):
        return reading
    raise TypeError(f"a reading of {type(reading).__name__}, not {kind.__name__}")
