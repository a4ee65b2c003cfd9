"""One sync of the HorizontalPodAutoscaler: ``reconcileAutoscaler`` of horizontal.go (v1.34), without its I/O.

    decide(observation, settings, state) -> Decision

Times are seconds on any monotonic clock, the same in observation and state. A live autoscaler syncs every 15 s.
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
        ValueError: the metric type does not support the target type, or the target is below 1.
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
            raise ValueError(f"target {self.target} of {self.name}: must be at least 1")
        if bool(self.container) != (self.type == "ContainerResource"):
            raise ValueError(f"{self.name}: a container goes with ContainerResource, and only with it")

    @property
    def label(self) -> str:
        """The controller's name for it."""
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
    """``desired`` replicas from now on, also if nothing changes.

    ``able_to_scale``, ``scaling_active``, ``scaling_limited``: reasons of the HPA's conditions, empty where it sets
    none. ``reason``: in words. ``proposals``: per metric the proposed replicas, or the error.
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
    state = state.with_initial(current, now_s)
    behavior = _behavior(settings)
    if current == 0 and settings.min_replicas != 0:
        return Decision(0, _NO_CHANGE, "ScalingDisabled", "", "no replicas: autoscaling is off", state)
    low, high = settings.min_replicas, settings.max_replicas
    if not low <= current <= high:
        bound, words = (high, "at most") if current > high else (low, "at least")
        after = state.with_rescale(behavior, current, bound, now_s)
        return Decision(bound, _CHANGED, "", "", f"{current} replicas, {words} {bound} are set", after)
    proposals = tuple(
        _proposal_or_error(observation, settings, spec, reading)
        for spec, reading in zip(settings.metrics, observation.readings, strict=True)
    )
    chosen = _highest_proposal(proposals, current)
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
        normalized, state = normalize(state, current, proposed, bounds, window_s, now_s)
    else:
        normalized, state = normalize_with_behaviors(state, current, proposed, bounds, behavior, now_s)
    able, reasons = normalized.able_to_scale, [chosen.reason, f"{proposed} proposed"]
    if able != "ReadyForNewScale":
        reasons.append("recent recommendations hold it back")
    if normalized.is_limited:
        reasons.append(f"limited to {normalized.replicas} ({normalized.scaling_limited})")
    if normalized.replicas != current:
        able, state = _CHANGED, state.with_rescale(behavior, current, normalized.replicas, now_s)
    reason = "; ".join(reasons)
    return Decision(normalized.replicas, able, "ValidMetricFound", normalized.scaling_limited, reason, state, proposals)


def _behavior(settings: HpaSettings) -> Behavior | None:
    if settings.behavior is None:
        return None
    return with_defaults(settings.behavior, settings.downscale_stabilization_s)


def _highest_proposal(proposals: Sequence[Proposal | MetricError], current: int) -> Proposal | None:
    """``computeReplicasForMetrics``: the largest; None if all failed, or if any failed and the largest scales down."""
    best: Proposal | None = None
    for proposal in proposals:
        if isinstance(proposal, MetricError):
            continue
        if best is None or best.replicas == 0 or proposal.replicas > best.replicas:
            best = proposal
    failed = any(isinstance(proposal, MetricError) for proposal in proposals)
    return None if best is None or (failed and best.replicas < current) else best


def _first_failure(
    metrics: Sequence[MetricSpec], proposals: Sequence[Proposal | MetricError]
) -> tuple[MetricSpec, MetricError]:
    return next((spec, error) for spec, error in zip(metrics, proposals, strict=True) if isinstance(error, MetricError))


def _proposal_or_error(
    observation: Observation, settings: HpaSettings, spec: MetricSpec, reading: Reading
) -> Proposal | MetricError:
    """``computeReplicasForMetric``."""
    try:
        return _compute(observation, settings, spec, reading)
    except MetricError as error:
        return error


def _compute(observation: Observation, settings: HpaSettings, spec: MetricSpec, reading: Reading) -> Proposal:
    calculator = ReplicaCalculator(
        observation.t_s, settings.cpu_initialization_period_s, settings.initial_readiness_delay_s
    )
    current, counted, pods = observation.spec_replicas, observation.status_replicas, observation.pods
    tolerances, target = settings.tolerances, spec.target
    spec_arguments = (spec.name, tolerances)
    is_total = spec.target_type == "Value"
    if spec.type == "Object":
        value: int | None = _checked(reading, int)
        if is_total:
            return calculator.get_object_metric_replicas(current, target, *spec_arguments, pods, value)
        return calculator.get_object_per_pod_metric_replicas(counted, target, *spec_arguments, value)
    if spec.type == "External":
        values: Sequence[int] | None = _checked(reading, Sequence)
        if is_total:
            return calculator.get_external_metric_replicas(current, target, *spec_arguments, pods, values)
        return calculator.get_external_per_pod_metric_replicas(counted, target, *spec_arguments, values)
    metrics: PodMetrics | None = _checked(reading, Mapping)
    if spec.type == "Pods":
        return calculator.get_metric_replicas(current, target, *spec_arguments, pods, metrics)
    if spec.target_type == "AverageValue":
        return calculator.get_raw_resource_replicas(current, target, *spec_arguments, pods, metrics)
    return calculator.get_resource_replicas(current, target, *spec_arguments, pods, metrics, spec.container)


def _checked(reading: Reading, kind: type) -> Any:
    if reading is None or isinstance(reading, kind):
        return reading
    raise TypeError(f"the reading is {type(reading).__name__}, not {kind.__name__}")
