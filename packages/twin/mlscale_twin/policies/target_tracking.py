"""Target tracking as AWS Application Auto Scaling does it for an ECS service: two alarms and a proportion.

The service's code is not public. This follows its guide; where that is silent, our interpretation is marked as such.

- AlarmHigh: every one of the last `out_datapoints` above the target; AlarmLow: every one of the last `in_datapoints`
  below the target less 10 %. Periods and datapoints as observed: 3 and 15 of one minute (aws/containers-roadmap #1208);
  since June 2026 also metrics of 20 s, of CPU and memory only (#2113). A missing datapoint scales nothing.
- An alarm that stays on acts again at each period (CloudWatch guide, alarm actions for Auto Scaling).
- Capacity in proportion to metric and target; rounded so that too little is never added nor too much removed.
- Scale-out cooldown: what the scale-out that started it added counts towards the next one, so only a larger one adds
  more. Scale-in cooldown: no further scale-in; a scale-out ends it (API TargetTrackingScalingPolicyConfiguration).
- Our interpretation: in the scale-out cooldown the proportion refers to the capacity before it, since the metric does
  not show the new tasks yet; a larger scale-out restarts the cooldown.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal

from mlscale_twin.policies.cloudwatch_alarm import is_on

Rule = Literal[
    "out",
    "in",
    "quiet",
    "too-few-datapoints",
    "missing-data",
    "out-cooldown",
    "in-cooldown",
    "at-max",
    "at-min",
    "rounds-to-nothing",
]

# AlarmLow's threshold as a share of the target.
_LOW_MARGIN: Final = 0.9
_EPSILON: Final = 1e-9  # 3 tasks at 100 % of target 50 % are 6 tasks, despite rounding errors


@dataclass(frozen=True, slots=True)
class TargetTrackingSettings:
    """Of a scaling policy; the defaults are those of ECS with one-minute metrics.

    ``period_s``: of datapoints and decisions.
    """

    target: float
    min_capacity: int = 1
    max_capacity: int = 4
    period_s: float = 60.0
    out_datapoints: int = 3
    in_datapoints: int = 15
    out_cooldown_s: float = 300.0
    in_cooldown_s: float = 300.0


@dataclass(frozen=True, slots=True)
class TrackedMetric:
    """At ``t_s``, the end of a period: its datapoint (the metric per task; None: missing) and the desired capacity."""

    t_s: float
    value: float | None
    capacity: int


@dataclass(frozen=True, slots=True)
class TrackingState:
    """The last datapoints, oldest first, and the cooldowns: until when, and the capacity before the scale-out."""

    datapoints: tuple[float | None, ...] = ()
    out_until_s: float = -math.inf
    in_until_s: float = -math.inf
    before_out: int = 0


@dataclass(frozen=True, slots=True)
class TrackingDecision:
    """``desired`` capacity from now on; ``rule`` names the branch taken, ``reason`` explains it with numbers."""

    desired: int
    rule: Rule
    reason: str
    state: TrackingState


def decide(observation: TrackedMetric, settings: TargetTrackingSettings, state: TrackingState) -> TrackingDecision:
    """One decision, at the end of a period; the reason for every hold is given."""
    history_length = max(settings.out_datapoints, settings.in_datapoints)
    state = replace(state, datapoints=(*state.datapoints, observation.value)[-history_length:])
    capacity = observation.capacity
    if observation.value is None:
        return TrackingDecision(capacity, "missing-data", "no datapoint for this period", state)
    value, low = observation.value, settings.target * _LOW_MARGIN
    summary = f"{value:g} at target {settings.target:g}"
    if is_on(state.datapoints, settings.out_datapoints, lambda value: value > settings.target):
        return _scale_out(observation.t_s, value, capacity, settings, state, summary)
    if is_on(state.datapoints, settings.in_datapoints, lambda value: value < low):
        return _scale_in(observation.t_s, value, capacity, settings, state, summary)
    if value > settings.target or value < low:
        needed = settings.out_datapoints if value > settings.target else settings.in_datapoints
        return TrackingDecision(capacity, "too-few-datapoints", f"{summary}, not for {needed} datapoints yet", state)
    return TrackingDecision(capacity, "quiet", f"{summary}, no alarm is on", state)


def _scale_out(
    t_s: float, value: float, capacity: int, settings: TargetTrackingSettings, state: TrackingState, summary: str
) -> TrackingDecision:
    cooling = t_s < state.out_until_s
    base = min(state.before_out, capacity) if cooling else capacity
    proportional = math.ceil(base * value / settings.target - _EPSILON)
    desired = min(settings.max_capacity, proportional)
    summary = f"{summary} for {settings.out_datapoints} datapoints, {proportional} tasks of {base}"
    if desired <= capacity:
        if capacity == settings.max_capacity:
            return TrackingDecision(capacity, "at-max", f"{summary}, at most {capacity} are set", state)
        return TrackingDecision(capacity, "out-cooldown", f"{summary}, {capacity} are there or on their way", state)
    after = replace(state, out_until_s=t_s + settings.out_cooldown_s, in_until_s=-math.inf, before_out=base)
    return TrackingDecision(desired, "out", summary, after)


def _scale_in(
    t_s: float, value: float, capacity: int, settings: TargetTrackingSettings, state: TrackingState, summary: str
) -> TrackingDecision:
    summary = f"{summary} for {settings.in_datapoints} datapoints"
    if t_s < state.in_until_s:
        wait_s = state.in_until_s - t_s
        return TrackingDecision(capacity, "in-cooldown", f"{summary}, {wait_s:g} s of the cooldown are left", state)
    proportional = math.ceil(capacity * value / settings.target - _EPSILON)
    desired = max(settings.min_capacity, proportional)
    if desired >= capacity:
        rule: Rule = "at-min" if capacity == settings.min_capacity else "rounds-to-nothing"
        return TrackingDecision(capacity, rule, f"{summary}, {proportional} tasks of {capacity}", state)
    after = replace(state, in_until_s=t_s + settings.in_cooldown_s)
    return TrackingDecision(desired, "in", f"{summary}, {proportional} tasks of {capacity}", after)
