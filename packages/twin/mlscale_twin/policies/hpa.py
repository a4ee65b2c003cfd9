"""Kubernetes' HorizontalPodAutoscaler as a pure function: one sync of autoscaling/v2, ported from its source (v1.34).

    decide(observation, settings, state) -> Decision

For what the environments can set: one metric (utilisation of the CPU requested, or an external metric's average value
per pod), a stabilisation window for each direction, and the API server's default rates. Sources: horizontal.go
(``reconcileAutoscaler``), replica_calculator.go and autoscaling/v2/defaults.go. tests/hpa asks Kubernetes' own code the
same questions. Times are seconds on any monotonic clock. A live autoscaler syncs every 15 s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

# Default rates of scaling up: 4 pods or 100 % in 15 s, whichever is more. Scaling down may remove all pods in 15 s.
_MORE_PODS: Final = 4
_PERIOD_S: Final = 15.0
Timed = tuple[tuple[int, float], ...]
"""(replicas, t_s), oldest first."""


@dataclass(frozen=True, slots=True)
class Pod:
    """``running``: its phase, else Pending. ``start_s``: when the kubelet accepted it. ``ready``: its condition, since
    ``ready_changed_s``."""

    name: str
    running: bool
    start_s: float | None
    ready: bool
    ready_changed_s: float


@dataclass(frozen=True, slots=True)
class PodMetric:
    """CPU of one pod, milli-cores, over the ``window_s`` before ``timestamp_s``."""

    milli: int
    timestamp_s: float
    window_s: float


@dataclass(frozen=True, slots=True)
class Observation:
    """At ``t_s``: the scale's replicas as specified and as counted, the pods, and what the metrics API answered: the
    CPU of pods by name, or the external metric's total in milli-units."""

    t_s: float
    spec_replicas: int
    status_replicas: int
    pods: Sequence[Pod]
    reading: Mapping[str, PodMetric] | int


@dataclass(frozen=True, slots=True)
class HpaSettings:
    """The autoscaler's spec, and flags of kube-controller-manager with their defaults (v1alpha1/defaults.go).

    Args:
        metric: "cpu" (type Resource) or "external".
        target: percent of ``request_milli`` (Utilization), or milli-units per pod (AverageValue).
        request_milli: CPU that each pod requests, milli-cores; only for "cpu".
    """

    metric: Literal["cpu", "external"]
    target: int
    min_replicas: int = 1
    max_replicas: int = 4
    request_milli: int = 0
    upscale_stabilization_s: float = 0.0
    downscale_stabilization_s: float = 300.0
    tolerance: float = 0.1
    cpu_initialization_period_s: float = 300.0
    initial_readiness_delay_s: float = 30.0


@dataclass(frozen=True, slots=True)
class History:
    """What the controller keeps of an autoscaler between syncs: recommendations before limits (None before the first
    sync), and changes within the period of the rates."""

    recommendations: Timed | None = None
    scale_ups: Timed = ()
    scale_downs: Timed = ()


@dataclass(frozen=True, slots=True)
class Proposal:
    """What the metric asks for. ``usage``: percent of the request, or milli-units per pod. ``reason``: in words."""

    replicas: int
    usage: int
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """``desired`` replicas from now on, also if nothing changes. ``scaling_active``: the reason of the HPA's condition
    of that name; empty where it sets none. ``proposal``: None if no metric was read."""

    desired: int
    scaling_active: str
    reason: str
    state: History
    proposal: Proposal | None = None


class MetricError(Exception):
    """No replicas can be proposed; the text is the controller's."""


def within_tolerance(usage_ratio: float, tolerance: float = 0.1) -> bool:
    """Whether usage / target is near enough to 1 to change nothing."""
    return (1.0 - tolerance) <= usage_ratio <= (1.0 + tolerance)


def decide(observation: Observation, settings: HpaSettings, state: History) -> Decision:
    """One decision; every hold has a reason (``reconcileAutoscaler``)."""
    current, now_s = observation.spec_replicas, observation.t_s
    if state.recommendations is None:
        state = replace(state, recommendations=((current, now_s),))
    low, high = settings.min_replicas, settings.max_replicas
    if not low <= current <= high:
        bound, words = (high, "at most") if current > high else (low, "at least")
        after = _with_rescale(state, current, bound, now_s)
        return Decision(bound, "", f"{current} replicas, {words} {bound} are set", after)
    try:
        proposal = propose(observation, settings)
    except MetricError as error:
        return Decision(current, "FailedGetResourceMetric", str(error), state)
    proposed = proposal.replicas
    up_since_s, down_since_s = now_s - settings.upscale_stabilization_s, now_s - settings.downscale_stabilization_s
    stabilized = _stabilized(state.recommendations or (), current, proposed, up_since_s, down_since_s)
    desired, limit = _within_rates(state, current, stabilized, (low, high), now_s)
    reasons = [proposal.reason, f"{proposed} proposed"]
    if stabilized != proposed:
        reasons.append("recent recommendations hold it back")
    if desired != stabilized:
        reasons.append(f"limited to {desired} ({limit})")
    since_s = min(up_since_s, down_since_s)
    kept = tuple((number, t_s) for number, t_s in state.recommendations or () if t_s >= since_s)
    state = replace(state, recommendations=(*kept, (proposed, now_s)))
    if desired != current:
        state = _with_rescale(state, current, desired, now_s)
    return Decision(desired, "ValidMetricFound", "; ".join(reasons), state, proposal)


def propose(observation: Observation, settings: HpaSettings) -> Proposal:
    """How many replicas the metric asks for (``computeReplicasForMetric``).

    Raises:
        MetricError: there are no pods, or none has a metric that counts.
    """
    if isinstance(observation.reading, int):
        return _by_average(observation.spec_replicas, observation.status_replicas, observation.reading, settings)
    return _by_utilization(observation, observation.reading, settings)


def _by_average(current: int, counted: int, total: int, settings: HpaSettings) -> Proposal:
    """``GetExternalPerPodMetricReplicas``: in proportion to the metric; ``counted`` pods share it now."""
    average = math.ceil(total / counted) if counted else 0
    summary = f"{total / 1000:g} at target {settings.target / 1000:g} per pod"
    if counted and within_tolerance(total / (settings.target * float(counted)), settings.tolerance):
        return Proposal(counted, average, f"{summary}, within the tolerance")
    return Proposal(math.ceil(total / settings.target), average, summary)


def _by_utilization(observation: Observation, cpu: Mapping[str, PodMetric], settings: HpaSettings) -> Proposal:
    """``GetResourceReplicas``: in proportion to the pods whose metric counts, with conservative values assumed for
    those that have none or don't count yet."""
    if not observation.pods:
        raise MetricError("no pods returned by selector while calculating replica count")
    ready, unready, missing = _grouped(observation, cpu, settings)
    known = [metric.milli for name, metric in cpu.items() if name not in unready]
    if not known:
        raise MetricError("did not receive metrics for targeted pods (pods might be unready)")
    current, target, request = observation.spec_replicas, settings.target, settings.request_milli
    utilization = 100 * sum(known) // (len(known) * request)
    usage_ratio = utilization / target
    summary = f"{utilization} % of the request at target {target} %"
    if not missing and not (unready and usage_ratio > 1.0):
        if within_tolerance(usage_ratio, settings.tolerance):
            return Proposal(current, utilization, f"{summary}, within the tolerance")
        return Proposal(math.ceil(usage_ratio * ready), utilization, f"{summary}, {ready} pods ready")
    assumed = known
    if usage_ratio < 1.0:
        assumed = known + [request * max(100, target) // 100] * missing
    elif usage_ratio > 1.0:
        assumed = known + [0] * (missing + len(unready))
    new_ratio = (100 * sum(assumed) // (len(assumed) * request)) / target
    summary = f"{summary}, {new_ratio:.3g} times the target with what is assumed for pods that don't count yet"
    if within_tolerance(new_ratio, settings.tolerance):
        return Proposal(current, utilization, f"{summary}, within the tolerance")
    replicas = math.ceil(new_ratio * len(assumed))
    if (usage_ratio < 1.0 < new_ratio) or (new_ratio < 1.0 < usage_ratio) or (replicas - current) * (new_ratio - 1) < 0:
        return Proposal(current, utilization, f"{summary}, which would turn the direction")
    return Proposal(replicas, utilization, f"{summary}, {len(assumed)} pods counted")


def _grouped(
    observation: Observation, cpu: Mapping[str, PodMetric], settings: HpaSettings
) -> tuple[int, set[str], int]:
    """``groupPods``: how many pods count, the names of those that don't yet, and how many have no metric."""
    ready, missing = 0, 0
    unready: set[str] = set()
    for pod in observation.pods:
        if not pod.running:
            unready.add(pod.name)
        elif pod.name not in cpu:
            missing += 1
        elif _is_unready(pod, cpu[pod.name], observation.t_s, settings):
            unready.add(pod.name)
        else:
            ready += 1
    return ready, unready, missing


def _is_unready(pod: Pod, metric: PodMetric, now_s: float, settings: HpaSettings) -> bool:
    """Whether a running pod's CPU does not count yet."""
    if pod.start_s is None:
        return True
    if pod.start_s + settings.cpu_initialization_period_s > now_s:
        # still starting: no sample of a whole window since it became ready
        return not pod.ready or metric.timestamp_s < pod.ready_changed_s + metric.window_s
    # later: only if it has never been ready
    return not pod.ready and pod.start_s + settings.initial_readiness_delay_s > pod.ready_changed_s


def _stabilized(past: Timed, current: int, proposed: int, up_since_s: float, down_since_s: float) -> int:
    """``stabilizeRecommendationWithBehaviors``: the lowest recommendation of the window up, the highest of the window
    down."""
    up = min([proposed, *(number for number, t_s in past if t_s > up_since_s)])
    down = max([proposed, *(number for number, t_s in past if t_s > down_since_s)])
    return min(max(current, up), down)


def _within_rates(state: History, current: int, desired: int, bounds: tuple[int, int], now_s: float) -> tuple[int, str]:
    """``convertDesiredReplicasWithBehaviorRate`` with the default rates, and the name of the limit."""
    low, high = bounds
    if desired > current:
        recent = [sum(number for number, t_s in changes if t_s > now_s - _PERIOD_S) for changes in _changes(state)]
        start = current - recent[0] + recent[1]
        limit = max(current, start + _MORE_PODS, 2 * start)
        allowed, name = (limit, "ScaleUpLimit") if high > limit else (high, "TooManyReplicas")
        return (allowed, name) if desired > allowed else (desired, "DesiredWithinRange")
    return (low, "TooFewReplicas") if desired < low else (desired, "DesiredWithinRange")


def _changes(state: History) -> tuple[Timed, Timed]:
    return state.scale_ups, state.scale_downs


def _with_rescale(state: History, before: int, after: int, now_s: float) -> History:
    """With a change of replicas (``storeScaleEvent``); those that no rate looks back to are forgotten."""
    ups, downs = (tuple((n, t_s) for n, t_s in each if t_s >= now_s - _PERIOD_S) for each in _changes(state))
    if after > before:
        return replace(state, scale_ups=(*ups, (after - before, now_s)))
    return replace(state, scale_downs=(*downs, (before - after, now_s)))
