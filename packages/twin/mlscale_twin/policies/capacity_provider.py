"""Managed scaling of an ECS capacity provider: how many instances its Auto Scaling group should have.

The service's code is not public. This follows its developer guide ("Amazon ECS managed scaling behavior", looked up
2026-11-29 in awsdocs/amazon-ecs-developer-guide, doc_source/cluster-auto-scaling.md, and in the current pages), the API
reference (ManagedScaling) and AWS's "Deep Dive on Amazon ECS Cluster Auto Scaling". Where they are silent, our
interpretation is marked as such.

- CapacityProviderReservation = 100 * M / N: N instances run, M are needed. Instances with tasks count as needed, plus
  the instances that the waiting tasks fill when they are packed onto empty ones. N = 0: 100 when nothing is needed,
  else 200.
- Two alarms of one-minute datapoints watch it: 1 of 1 above the target, 15 of 15 below (containers-roadmap #638).
- Out: in proportion to the target, at least `min_step` and at most `max_step` instances more. From zero instances it
  always goes to two (guide, scale-out considerations; containers-roadmap #1716).
- "The second scale-out step needs to wait until the instanceWarmupPeriod expires" (guide): no scale-out while an
  instance is younger than `warmup_s`.
- In: in proportion, between one instance and half of them each minute (guide, scale-in considerations), and only
  instances without tasks (managed termination protection).
- Our interpretation: no scale-in while an instance warms up; tasks are packed first-fit by decreasing share, on one
  instance type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from mlscale_twin.policies.cloudwatch_alarm import is_on

Rule = Literal["out", "in", "quiet", "warming-up", "at-max", "in-use", "too-few-datapoints"]

_EPSILON: Final = 1e-9
# Size of an empty group after its first scale-out.
FROM_ZERO: Final = 2


@dataclass(frozen=True, slots=True)
class ManagedScalingSettings:
    """API ManagedScaling with its defaults, and the group's limits."""

    target_capacity: float = 100.0
    min_step: int = 1
    max_step: int = 10_000
    warmup_s: float = 300.0
    min_instances: int = 0
    max_instances: int = 4
    period_s: float = 60.0
    out_datapoints: int = 1
    in_datapoints: int = 15

    def __post_init__(self) -> None:
        if not 0 < self.target_capacity <= 100:
            raise ValueError(f"target_capacity {self.target_capacity:g}: more than 0, at most 100")
        if not 1 <= self.min_step <= self.max_step <= 10_000:
            raise ValueError(f"steps from {self.min_step} to {self.max_step}: 1 to 10000")


@dataclass(frozen=True, slots=True)
class InstancesObservation:
    """At ``t_s``, the end of a period: desired and running instances, running instances with tasks, and the share of an
    instance that each waiting task needs."""

    t_s: float
    desired: int
    running: int
    in_use: int
    waiting_shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ManagedScalingState:
    """The last reservations, oldest first, and the end of the last scale-out's warm-up."""

    reservations: tuple[float, ...] = ()
    warm_at_s: float = -math.inf


@dataclass(frozen=True, slots=True)
class InstancesDecision:
    """``desired`` instances from now on, and the ``reservation`` in percent that led to it."""

    desired: int
    reservation: float
    rule: Rule
    reason: str
    state: ManagedScalingState


def needed(in_use: int, waiting_shares: Sequence[float]) -> int:
    """M: instances with tasks, and those that the waiting tasks take, packed first-fit by decreasing share.

    Raises:
        ValueError: a task is larger than an instance.
    """
    free: list[float] = []
    for share in sorted(waiting_shares, reverse=True):
        if share > 1 + _EPSILON:
            raise ValueError(f"a task needs {share:.2f} instances")
        for place, room in enumerate(free):
            if share <= room + _EPSILON:
                free[place] = room - share
                break
        else:
            free.append(1.0 - share)
    return in_use + len(free)


def reservation(running: int, wanted: int) -> float:
    """CapacityProviderReservation, percent."""
    if running == 0:
        return 200.0 if wanted else 100.0
    return 100.0 * wanted / running


def decide(
    observation: InstancesObservation, settings: ManagedScalingSettings, state: ManagedScalingState
) -> InstancesDecision:
    """One decision, at the end of a period; the reason for every hold is given."""
    wanted = needed(observation.in_use, observation.waiting_shares)
    percent = reservation(observation.running, wanted)
    history_length = max(settings.out_datapoints, settings.in_datapoints)
    state = replace(state, reservations=(*state.reservations, percent)[-history_length:])
    summary = f"{wanted} instances needed, {observation.running} run: {percent:.0f} % at {settings.target_capacity:g} %"
    target = settings.target_capacity
    proportional = math.ceil(100.0 * wanted / target - _EPSILON)
    if is_on(state.reservations, settings.out_datapoints, lambda value: value > target):
        return _scale_out(observation, settings, state, proportional, percent, summary)
    if is_on(state.reservations, settings.in_datapoints, lambda value: value < target):
        return _scale_in(observation, settings, state, proportional, percent, summary)
    rule: Rule = "quiet" if percent == target else "too-few-datapoints"
    return InstancesDecision(observation.desired, percent, rule, summary, state)


def _scale_out(
    observation: InstancesObservation,
    settings: ManagedScalingSettings,
    state: ManagedScalingState,
    proportional: int,
    percent: float,
    summary: str,
) -> InstancesDecision:
    current = observation.desired
    if observation.t_s < state.warm_at_s:
        wait_s = state.warm_at_s - observation.t_s
        return InstancesDecision(
            current, percent, "warming-up", f"{summary}, instances warm up for {wait_s:g} s more", state
        )
    if current >= settings.max_instances:
        return InstancesDecision(current, percent, "at-max", f"{summary}, at most {current} are set", state)
    step = min(max(proportional - observation.running, settings.min_step), settings.max_step)
    desired = min(observation.running + step if observation.running else FROM_ZERO, settings.max_instances)
    if desired <= current:
        return InstancesDecision(current, percent, "quiet", f"{summary}, {current} are asked for", state)
    after = replace(state, warm_at_s=observation.t_s + settings.warmup_s)
    return InstancesDecision(desired, percent, "out", f"{summary}, {desired - current} more", after)


def _scale_in(
    observation: InstancesObservation,
    settings: ManagedScalingSettings,
    state: ManagedScalingState,
    proportional: int,
    percent: float,
    summary: str,
) -> InstancesDecision:
    current = observation.desired
    if observation.t_s < state.warm_at_s:
        return InstancesDecision(current, percent, "warming-up", f"{summary}, instances are warming up", state)
    slowest = current - max(1, current // 2)
    desired = max(proportional, observation.in_use, settings.min_instances, slowest)
    if desired >= current:
        return InstancesDecision(current, percent, "in-use", f"{summary}, none of {current} may go", state)
    return InstancesDecision(desired, percent, "in", f"{summary}, {current - desired} go", state)
