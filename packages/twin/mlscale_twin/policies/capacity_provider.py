"""Managed scaling of an ECS capacity provider: how many instances its Auto Scaling group should have.

The service's code is not public. This follows its developer guide ("Amazon ECS managed scaling behavior", looked up
2026-11-29 in awsdocs/amazon-ecs-developer-guide, doc_source/cluster-auto-scaling.md, and in the current pages), the API
reference (ManagedScaling) and AWS's "Deep Dive on Amazon ECS Cluster Auto Scaling". Where they are silent, our
interpretation is marked as such.

- CapacityProviderReservation = 100 * M / N: N instances run, M are needed. Instances with tasks count as needed, plus
  the instances that the waiting tasks fill when they are packed onto empty ones. N = 0: 100 when nothing is needed,
  else 200.
- Two alarms of one-minute datapoints watch it: 1 of 1 above the target, 15 of 15 below (containers-roadmap #638).
- Out: in proportion to the target. From zero instances it always goes to two (guide, scale-out considerations;
  containers-roadmap #1716).
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
from typing import Final

from mlscale_twin.policies.cloudwatch_alarm import is_on

_EPSILON: Final = 1e-9
# Size of an empty group after its first scale-out.
FROM_ZERO: Final = 2
PERIOD_S: Final = 60.0
_OUT_DATAPOINTS: Final = 1
_IN_DATAPOINTS: Final = 15


@dataclass(frozen=True, slots=True)
class ManagedScalingSettings:
    """Of API ManagedScaling, and the group's limits."""

    target_capacity: float = 100.0
    min_instances: int = 0
    max_instances: int = 4
    warmup_s: float = 300.0


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
    """``desired`` instances from now on."""

    desired: int
    state: ManagedScalingState


def needed(in_use: int, waiting_shares: Sequence[float]) -> int:
    """M: instances with tasks, and those that the waiting tasks take, packed first-fit by decreasing share. (A task
    that is larger than an instance never waits: `mlscale_twin.twin` refuses it.)"""
    free: list[float] = []
    for share in sorted(waiting_shares, reverse=True):
        for machine, room in enumerate(free):
            if share <= room + _EPSILON:
                free[machine] = room - share
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
    """One decision, at the end of a period."""
    current, target = observation.desired, settings.target_capacity
    wanted = needed(observation.in_use, observation.waiting_shares)
    percent = reservation(observation.running, wanted)
    state = replace(state, reservations=(*state.reservations, percent)[-_IN_DATAPOINTS:])
    if observation.t_s < state.warm_at_s:
        return InstancesDecision(current, state)
    proportional = math.ceil(100.0 * wanted / target - _EPSILON)
    if is_on(state.reservations, _OUT_DATAPOINTS, lambda value: value > target):
        more = max(proportional, observation.running + 1) if observation.running else FROM_ZERO
        desired = min(more, settings.max_instances)
        if desired > current:
            return InstancesDecision(desired, replace(state, warm_at_s=observation.t_s + settings.warmup_s))
    elif is_on(state.reservations, _IN_DATAPOINTS, lambda value: value < target):
        slowest = current - max(1, current // 2)
        fewer = max(proportional, observation.in_use, settings.min_instances, slowest)
        return InstancesDecision(min(fewer, current), state)
    return InstancesDecision(current, state)
