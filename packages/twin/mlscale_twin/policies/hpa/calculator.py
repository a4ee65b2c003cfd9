"""How many replicas one metric asks for: Kubernetes' replica_calculator.go (v1.34), function by function.

Upstream's methods read metrics and pods; here they are arguments. Names, order of steps and arithmetic (Go's) are
upstream's; every branch has a rule, and a reason with the numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from mlscale_twin.policies.hpa.integers import (
    MAX_INT32,
    MAX_INT64,
    ceil,
    int32,
    int32_of,
    int64,
    int64_of,
    quotient,
    ratio,
)
from mlscale_twin.policies.hpa.observed import MetricError, Pod, PodMetric, PodMetrics
from mlscale_twin.policies.hpa.requests import calculate_requests

Rule = Literal["within-tolerance", "direction-flips", "ready-pods", "counted-pods", "per-pod", "from-zero"]
"""The branch taken; the first two hold."""


@dataclass(frozen=True, slots=True)
class Tolerances:
    """By how much the ratio of usage to target may be off 1 without effect."""

    scale_down: float = 0.1
    scale_up: float = 0.1

    def is_within(self, usage_ratio: float) -> bool:
        return (1.0 - self.scale_down) <= usage_ratio <= (1.0 + self.scale_up)


@dataclass(frozen=True, slots=True)
class Proposal:
    """``usage`` as the HPA's status shows it: percent of the request, or milli-units."""

    replicas: int
    usage: int
    rule: Rule
    reason: str


@dataclass(frozen=True, slots=True)
class ReplicaCalculator:
    """The time, and the controller's settings for counting a pod's CPU metric."""

    now_s: float
    cpu_initialization_period_s: float = 300.0
    delay_of_initial_readiness_status_s: float = 30.0

    def get_resource_replicas(
        self,
        current_replicas: int,
        target_utilization: int,
        resource: str,
        tolerances: Tolerances,
        pods: Sequence[Pod] | None,
        metrics: PodMetrics | None,
        container: str = "",
    ) -> Proposal:
        """From a target for utilisation, in percent of what the pods request.

        Raises:
            MetricError: no metrics, no pods, a request is missing.
        """
        if metrics is None:
            raise MetricError(f"unable to get metrics for resource {resource}")
        groups, kept = self._considered(pods, metrics, resource)
        requests = calculate_requests(pods or (), container, resource)
        usage_ratio, utilization = _utilization_ratio(kept, requests, target_utilization)
        summary = f"{utilization} % of the request at target {target_utilization} %"
        if not groups.needs_assumptions(usage_ratio):
            return _without_assumptions(
                current_replicas, usage_ratio, tolerances, groups.ready_pod_count, utilization, summary
            )
        fallback = max(100, target_utilization)
        if_missing = {name: quotient(int64(requests[name] * fallback), 100) for name in groups.missing}
        assumed = groups.with_assumed_values(kept, usage_ratio, if_missing)
        new_usage_ratio, _ = _utilization_ratio(assumed, requests, target_utilization)
        return _with_assumptions(
            current_replicas, usage_ratio, new_usage_ratio, tolerances, len(assumed), utilization, summary
        )

    def get_raw_resource_replicas(
        self,
        current_replicas: int,
        target_usage: int,
        resource: str,
        tolerances: Tolerances,
        pods: Sequence[Pod] | None,
        metrics: PodMetrics | None,
    ) -> Proposal:
        """From a target for a resource's usage, in milli-units per pod."""
        if metrics is None:
            raise MetricError(f"unable to get metrics for resource {resource}")
        return self._calc_plain_metric_replicas(metrics, current_replicas, target_usage, tolerances, pods, resource)

    def get_metric_replicas(
        self,
        current_replicas: int,
        target_usage: int,
        metric_name: str,
        tolerances: Tolerances,
        pods: Sequence[Pod] | None,
        metrics: PodMetrics | None,
    ) -> Proposal:
        """From a target for a metric that each pod has, in milli-units."""
        if metrics is None:
            raise MetricError(f"unable to get metric {metric_name}")
        return self._calc_plain_metric_replicas(metrics, current_replicas, target_usage, tolerances, pods, "")

    def _calc_plain_metric_replicas(
        self,
        metrics: PodMetrics,
        current_replicas: int,
        target_usage: int,
        tolerances: Tolerances,
        pods: Sequence[Pod] | None,
        resource: str,
    ) -> Proposal:
        groups, kept = self._considered(pods, metrics, resource)
        usage_ratio, usage = _usage_ratio(kept, target_usage)
        summary = f"{_units(usage)} per pod at target {_units(target_usage)}"
        if not groups.needs_assumptions(usage_ratio):
            return _without_assumptions(
                current_replicas, usage_ratio, tolerances, groups.ready_pod_count, usage, summary
            )
        assumed = groups.with_assumed_values(kept, usage_ratio, dict.fromkeys(groups.missing, target_usage))
        new_usage_ratio, _ = _usage_ratio(assumed, target_usage)
        return _with_assumptions(
            current_replicas, usage_ratio, new_usage_ratio, tolerances, len(assumed), usage, summary
        )

    def get_object_metric_replicas(
        self,
        current_replicas: int,
        target_usage: int,
        metric_name: str,
        tolerances: Tolerances,
        pods: Sequence[Pod] | None,
        usage: int | None,
    ) -> Proposal:
        """From one value of an object, in milli-units, and a target for it."""
        if usage is None:
            raise MetricError(f"unable to get metric {metric_name}")
        return self._get_usage_ratio_replica_count(current_replicas, usage, target_usage, tolerances, pods)

    def get_external_metric_replicas(
        self,
        current_replicas: int,
        target_usage: int,
        metric_name: str,
        tolerances: Tolerances,
        pods: Sequence[Pod] | None,
        metrics: Sequence[int] | None,
    ) -> Proposal:
        """From the sum of an external metric's values, in milli-units, and a target for it."""
        if metrics is None:
            raise MetricError(f"unable to get external metric {metric_name}")
        usage = int64(sum(metrics))
        return self._get_usage_ratio_replica_count(current_replicas, usage, target_usage, tolerances, pods)

    def _get_usage_ratio_replica_count(
        self, current_replicas: int, usage: int, target_usage: int, tolerances: Tolerances, pods: Sequence[Pod] | None
    ) -> Proposal:
        usage_ratio = ratio(float(usage), float(target_usage))
        summary = f"{_units(usage)} at target {_units(target_usage)}"
        if current_replicas == 0:
            return Proposal(int32_of(ceil(usage_ratio)), usage, "from-zero", f"{summary}, from no replica")
        if tolerances.is_within(usage_ratio):
            return _hold(current_replicas, usage, summary)
        ready = get_ready_pods_count(pods)
        return _by_ready_pods(usage_ratio, ready, usage, summary)

    def get_object_per_pod_metric_replicas(
        self,
        status_replicas: int,
        target_average_usage: int,
        metric_name: str,
        tolerances: Tolerances,
        usage: int | None,
    ) -> Proposal:
        """From one value of an object, in milli-units, and a target for each pod's share of it."""
        if usage is None:
            raise MetricError(f"unable to get metric {metric_name}")
        usage_ratio = ratio(float(usage), float(target_average_usage) * float(status_replicas))
        average = int64_of(ceil(ratio(float(usage), float(status_replicas))))
        summary = f"{_units(usage)} at target {_units(target_average_usage)} per pod"
        if tolerances.is_within(usage_ratio):
            return _hold(status_replicas, average, summary)
        replicas = int32_of(ceil(ratio(float(usage), float(target_average_usage))))
        return Proposal(replicas, average, "per-pod", summary)

    def get_external_per_pod_metric_replicas(
        self,
        status_replicas: int,
        target_usage_per_pod: int,
        metric_name: str,
        tolerances: Tolerances,
        metrics: Sequence[int] | None,
    ) -> Proposal:
        """From the sum of an external metric's values, in milli-units, and a target for each pod's share of it."""
        if metrics is None:
            raise MetricError(f"unable to get external metric {metric_name}")
        usage = _saturating_sum(metrics)
        usage_ratio = ratio(float(usage), float(target_usage_per_pod) * float(status_replicas))
        average = MAX_INT64
        if float(usage) < float(MAX_INT64):
            average = int64_of(ceil(ratio(float(usage), float(status_replicas))))
        summary = f"{_units(usage)} at target {_units(target_usage_per_pod)} per pod"
        if tolerances.is_within(usage_ratio):
            return _hold(status_replicas, average, summary)
        result = ceil(ratio(float(usage), float(target_usage_per_pod)))
        return Proposal(MAX_INT32 if result > MAX_INT32 else int32_of(result), average, "per-pod", summary)

    def _considered(
        self, pods: Sequence[Pod] | None, metrics: PodMetrics, resource: str
    ) -> tuple[PodGroups, dict[str, int]]:
        """The pods in groups, and the values of those whose metric counts."""
        if not pods:
            raise MetricError(_no_pods(pods))
        groups = self._group_pods(pods, metrics, resource)
        excluded = groups.ignored | groups.unready
        kept = {name: metric.value for name, metric in metrics.items() if name not in excluded}
        if not kept:
            raise MetricError("did not receive metrics for targeted pods (pods might be unready)")
        return groups, kept

    def _group_pods(self, pods: Sequence[Pod], metrics: PodMetrics, resource: str) -> PodGroups:
        ready = 0
        unready: set[str] = set()
        missing: set[str] = set()
        ignored: set[str] = set()
        for pod in pods:
            if pod.deleted or pod.phase == "Failed":
                ignored.add(pod.name)
            elif pod.phase == "Pending":
                unready.add(pod.name)
            elif pod.name not in metrics:
                missing.add(pod.name)
            elif resource == "cpu" and self._is_unready(pod, metrics[pod.name]):
                unready.add(pod.name)
            else:
                ready += 1
        return PodGroups(ready, unready, missing, ignored)

    def _is_unready(self, pod: Pod, metric: PodMetric) -> bool:
        """Whether a running pod's CPU metric does not count yet."""
        condition = pod.ready
        if condition is None or pod.start_s is None:
            return True
        not_ready = condition.status == "False"
        if pod.start_s + self.cpu_initialization_period_s > self.now_s:
            # still starting: no sample of a whole window since it became ready
            return not_ready or metric.timestamp_s < condition.last_transition_s + metric.window_s
        # later: only if it has never been ready
        return not_ready and pod.start_s + self.delay_of_initial_readiness_status_s > condition.last_transition_s


@dataclass(frozen=True, slots=True)
class PodGroups:
    """``groupPods``: how many pods count, and the names of those that don't."""

    ready_pod_count: int
    unready: set[str]
    missing: set[str]
    ignored: set[str]

    def needs_assumptions(self, usage_ratio: float) -> bool:
        """Whether the ratio has to be computed again, with values assumed for pods that have none."""
        return self._scale_up_with_unready(usage_ratio) or bool(self.missing)

    def with_assumed_values(
        self, metrics: Mapping[str, int], usage_ratio: float, if_missing: Mapping[str, int]
    ) -> dict[str, int]:
        """Adds conservative values for pods that have none: ``if_missing`` when scaling down, 0 when scaling up."""
        assumed = dict(metrics)
        if usage_ratio < 1.0:
            assumed |= if_missing
        elif usage_ratio > 1.0:
            assumed |= dict.fromkeys(self.missing, 0)
        if self._scale_up_with_unready(usage_ratio):
            assumed |= dict.fromkeys(self.unready, 0)
        return assumed

    def _scale_up_with_unready(self, usage_ratio: float) -> bool:
        return bool(self.unready) and usage_ratio > 1.0


def get_ready_pods_count(pods: Collection[Pod] | None) -> int:
    """Of pods that run and are ready.

    Raises:
        MetricError: there are no pods.
    """
    if not pods:
        raise MetricError(f"unable to calculate ready pods: {_no_pods(pods)}")
    return sum(pod.phase == "Running" and pod.ready is not None and pod.ready.status == "True" for pod in pods)


def _no_pods(pods: Collection[Pod] | None) -> str:
    what = "unable to get pods" if pods is None else "no pods returned by selector"
    return f"{what} while calculating replica count"


def _hold(replicas: int, usage: int, summary: str) -> Proposal:
    """Within the tolerance: no change."""
    return Proposal(replicas, usage, "within-tolerance", f"{summary}, within the tolerance")


def _by_ready_pods(usage_ratio: float, ready: int, usage: int, summary: str) -> Proposal:
    """In proportion to the ready pods."""
    return Proposal(int32_of(ceil(usage_ratio * ready)), usage, "ready-pods", f"{summary}, {ready} pods ready")


def _without_assumptions(
    current_replicas: int, usage_ratio: float, tolerances: Tolerances, ready: int, usage: int, summary: str
) -> Proposal:
    """If every pod's metric is known."""
    if tolerances.is_within(usage_ratio):
        return _hold(current_replicas, usage, summary)
    return _by_ready_pods(usage_ratio, ready, usage, summary)


def _with_assumptions(
    current_replicas: int,
    usage_ratio: float,
    new_usage_ratio: float,
    tolerances: Tolerances,
    counted: int,
    usage: int,
    summary: str,
) -> Proposal:
    """If values had to be assumed for some pods."""
    summary = f"{summary}, {new_usage_ratio:.3g} times the target with what is assumed for pods that don't count yet"
    if tolerances.is_within(new_usage_ratio):
        return _hold(current_replicas, usage, summary)
    flips = (usage_ratio < 1.0 and new_usage_ratio > 1.0) or (usage_ratio > 1.0 and new_usage_ratio < 1.0)
    new_replicas = int32_of(ceil(new_usage_ratio * counted))
    flips = flips or (new_usage_ratio < 1.0 and new_replicas > current_replicas)
    flips = flips or (new_usage_ratio > 1.0 and new_replicas < current_replicas)
    if flips:
        return Proposal(current_replicas, usage, "direction-flips", f"{summary}, which would turn the direction")
    return Proposal(new_replicas, usage, "counted-pods", f"{summary}, {counted} pods counted")


def _utilization_ratio(
    metrics: Mapping[str, int], requests: Mapping[str, int], target_utilization: int
) -> tuple[float, int]:
    """``GetResourceUtilizationRatio``: to the target, and the utilisation in percent."""
    known = [name for name in metrics if name in requests]
    metrics_total = int64(sum(metrics[name] for name in known))
    requests_total = int64(sum(requests[name] for name in known))
    if requests_total == 0:
        raise MetricError("no metrics returned matched known pods")
    utilization = int32(quotient(int64(metrics_total * 100), requests_total))
    return ratio(float(utilization), float(target_utilization)), utilization


def _usage_ratio(metrics: Mapping[str, int], target_usage: int) -> tuple[float, int]:
    """``GetMetricUsageRatio``: to the target, and the usage per pod."""
    usage = quotient(int64(sum(metrics.values())), len(metrics))
    return ratio(float(usage), float(target_usage)), usage


def _saturating_sum(values: Sequence[int]) -> int:
    total = 0
    for value in values:
        total = int64(total + value)
        if total < 0:  # overflow, as upstream detects it
            return MAX_INT64
    return total


def _units(milli: int) -> str:
    return f"{milli / 1000:g}"
