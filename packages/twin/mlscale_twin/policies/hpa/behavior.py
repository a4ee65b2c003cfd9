"""How soon and how fast a proposal is followed: stabilisation windows and rate limits of horizontal.go (v1.34).

State is what upstream keeps of an autoscaler between syncs: recommendations before these limits, and past changes.
Upstream overwrites one outdated entry; this drops all of them, since none is read again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

from mlscale_twin.policies.hpa.integers import MAX_INT32, ceil, int32, int32_of

SelectPolicy = Literal["Max", "Min", "Disabled"]
Timed = tuple[tuple[int, float], ...]
"""(replicas, t_s), oldest first."""

_MIN_INT32: Final = -(2**31)


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """At most ``value`` pods, or percent of the pods, within ``period_s``."""

    type: Literal["Pods", "Percent"]
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class ScalingRules:
    """One direction of ``spec.behavior``; None means the default (`with_defaults`)."""

    stabilization_window_s: float | None = None
    select_policy: SelectPolicy | None = None
    policies: tuple[ScalingPolicy, ...] | None = None
    tolerance: float | None = None


@dataclass(frozen=True, slots=True)
class Behavior:
    """``spec.behavior`` of an autoscaler."""

    scale_up: ScalingRules = ScalingRules()
    scale_down: ScalingRules = ScalingRules()


_DEFAULT_UP: Final = ScalingRules(
    stabilization_window_s=0.0,
    select_policy="Max",
    policies=(ScalingPolicy("Pods", 4, 15.0), ScalingPolicy("Percent", 100, 15.0)),
)
_DEFAULT_DOWN: Final = ScalingRules(select_policy="Max", policies=(ScalingPolicy("Percent", 100, 15.0),))


def with_defaults(behavior: Behavior, downscale_stabilization_s: float) -> Behavior:
    """Defaults of the API server (autoscaling/v2/defaults.go), and the controller's window for scaling down."""
    down = _with_default(behavior.scale_down, _DEFAULT_DOWN)
    if down.stabilization_window_s is None:
        down = replace(down, stabilization_window_s=float(int(downscale_stabilization_s)))
    return Behavior(_with_default(behavior.scale_up, _DEFAULT_UP), down)


def _with_default(rules: ScalingRules, default: ScalingRules) -> ScalingRules:
    window, select, policies = rules.stabilization_window_s, rules.select_policy, rules.policies
    return ScalingRules(
        default.stabilization_window_s if window is None else window,
        default.select_policy if select is None else select,
        default.policies if policies is None else policies,
        rules.tolerance,
    )


@dataclass(frozen=True, slots=True)
class History:
    """Past recommendations and changes. ``recommendations`` is None before the first sync."""

    recommendations: Timed | None = None
    scale_ups: Timed = ()
    scale_downs: Timed = ()

    def with_initial(self, current_replicas: int, now_s: float) -> History:
        """With the initial replicas as the first recommendation."""
        if self.recommendations is not None:
            return self
        return replace(self, recommendations=((current_replicas, now_s),))

    def with_recommendation(self, replicas: int, now_s: float, since_s: float) -> History:
        """With a further recommendation; those before ``since_s`` are forgotten."""
        kept = tuple((number, t_s) for number, t_s in self.recommendations or () if t_s >= since_s)
        return replace(self, recommendations=(*kept, (replicas, now_s)))

    def with_rescale(self, behavior: Behavior | None, before: int, after: int, now_s: float) -> History:
        """With a change of replicas: ``storeScaleEvent``. Without behaviour none is needed."""
        if behavior is None:
            return self
        if after > before:
            return replace(self, scale_ups=_with_event(self.scale_ups, after - before, behavior.scale_up, now_s))
        return replace(self, scale_downs=_with_event(self.scale_downs, before - after, behavior.scale_down, now_s))


def _with_event(events: Timed, change: int, rules: ScalingRules, now_s: float) -> Timed:
    longest_s = max((policy.period_s for policy in rules.policies or ()), default=0.0)
    return (*((number, t_s) for number, t_s in events if t_s >= now_s - longest_s), (change, now_s))


@dataclass(frozen=True, slots=True)
class Normalized:
    """``able_to_scale`` and ``scaling_limited``: the reasons in the conditions of these names."""

    replicas: int
    able_to_scale: str
    scaling_limited: str
    is_limited: bool


def normalize(
    history: History,
    current: int,
    proposed: int,
    bounds: tuple[int, int],
    window_s: float,
    now_s: float,
) -> tuple[Normalized, History]:
    """Without behaviour (``normalizeDesiredReplicas``): the highest recommendation of the last ``window_s``, and at
    most twice the replicas, or 4."""
    cutoff_s = now_s - window_s
    past = [number for number, t_s in history.recommendations or () if t_s >= cutoff_s]
    stabilized = max([proposed, *past])
    able = "ScaleDownStabilized" if stabilized != proposed else "ReadyForNewScale"
    desired, limit = _within_rules(current, stabilized, bounds)
    normalized = Normalized(desired, able, limit, desired != stabilized)
    return normalized, history.with_recommendation(proposed, now_s, cutoff_s)


def _within_rules(current: int, desired: int, bounds: tuple[int, int]) -> tuple[int, str]:
    """``convertDesiredReplicasWithRules``."""
    low, high = bounds
    scale_up_limit = int32_of(max(2.0 * current, 4.0))
    allowed, limit = (scale_up_limit, "ScaleUpLimit") if high > scale_up_limit else (high, "TooManyReplicas")
    if desired < low:
        return low, "TooFewReplicas"
    if desired > allowed:
        return allowed, limit
    return desired, "DesiredWithinRange"


def normalize_with_behaviors(
    history: History, current: int, proposed: int, bounds: tuple[int, int], behavior: Behavior, now_s: float
) -> tuple[Normalized, History]:
    """With behaviour, all defaults filled in (``normalizeDesiredReplicasWithBehaviors``): the lowest recommendation
    of the window up, the highest of the window down, then the rates."""
    up_cutoff_s = now_s - (behavior.scale_up.stabilization_window_s or 0.0)
    down_cutoff_s = now_s - (behavior.scale_down.stabilization_window_s or 0.0)
    past = history.recommendations or ()
    up = min([proposed, *(number for number, t_s in past if t_s > up_cutoff_s)])
    down = max([proposed, *(number for number, t_s in past if t_s > down_cutoff_s)])
    stabilized = min(max(current, up), down)
    able = "ReadyForNewScale"
    if stabilized != proposed:
        able = "ScaleUpStabilized" if proposed >= current else "ScaleDownStabilized"
    desired, limit = _within_rates(history, current, stabilized, bounds, behavior, now_s)
    normalized = Normalized(desired, able, limit, desired != stabilized)
    return normalized, history.with_recommendation(proposed, now_s, min(up_cutoff_s, down_cutoff_s))


def _within_rates(
    history: History, current: int, desired: int, bounds: tuple[int, int], behavior: Behavior, now_s: float
) -> tuple[int, str]:
    """``convertDesiredReplicasWithBehaviorRate``."""
    low, high = bounds
    if desired > current:
        limit = max(current, _scale_up_limit(history, current, behavior.scale_up, now_s))
        allowed, reason = (limit, "ScaleUpLimit") if high > limit else (high, "TooManyReplicas")
        if desired > allowed:
            return allowed, reason
    elif desired < current:
        limit = min(current, _scale_down_limit(history, current, behavior.scale_down, now_s))
        allowed, reason = (limit, "ScaleDownLimit") if low < limit else (low, "TooFewReplicas")
        if desired < allowed:
            return allowed, reason
    return desired, "DesiredWithinRange"


def _scale_up_limit(history: History, current: int, rules: ScalingRules, now_s: float) -> int:
    """``calculateScaleUpLimitWithScalingRules``."""
    if rules.select_policy == "Disabled":
        return current
    proposals: list[int] = []
    for policy in rules.policies or ():
        start = _period_start(history, current, policy, now_s)
        more = start + policy.value
        if policy.type == "Percent":  # rounded up, or few replicas would never grow
            more = int32_of(ceil(float(start) * (1 + float(policy.value) / 100)))
        proposals.append(int32(more))
    return min([MAX_INT32, *proposals]) if rules.select_policy == "Min" else max([_MIN_INT32, *proposals])


def _scale_down_limit(history: History, current: int, rules: ScalingRules, now_s: float) -> int:
    """``calculateScaleDownLimitWithBehaviors``; the policy with the least change is the one with the most replicas."""
    if rules.select_policy == "Disabled":
        return current
    proposals: list[int] = []
    for policy in rules.policies or ():
        start = _period_start(history, current, policy, now_s)
        fewer = start - policy.value
        if policy.type == "Percent":
            fewer = int32_of(float(start) * (1 - float(policy.value) / 100))
        proposals.append(int32(fewer))
    return max([_MIN_INT32, *proposals]) if rules.select_policy == "Min" else min([MAX_INT32, *proposals])


def _period_start(history: History, current: int, policy: ScalingPolicy, now_s: float) -> int:
    """Replicas at the start of the policy's period."""
    since_s = now_s - policy.period_s
    return int32(current - _changes(history.scale_ups, since_s) + _changes(history.scale_downs, since_s))


def _changes(events: Iterable[tuple[int, float]], since_s: float) -> int:
    """``getReplicasChangePerPeriod``."""
    return sum(number for number, t_s in events if t_s > since_s)
