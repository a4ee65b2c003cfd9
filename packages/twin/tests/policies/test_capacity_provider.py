"""Managed scaling of an ECS capacity provider, one decision at a time."""

from __future__ import annotations

import pytest

from mlscale_twin.policies.capacity_provider import (
    InstancesObservation,
    ManagedScalingSettings,
    ManagedScalingState,
    decide,
    needed,
    reservation,
)

SETTINGS = ManagedScalingSettings(max_instances=10)


def test_waiting_tasks_are_packed_onto_new_instances() -> None:
    assert needed(2, ()) == 2
    assert needed(2, (0.5, 0.5, 0.5)) == 4
    assert needed(0, (0.6, 0.6, 0.4, 0.4)) == 2, "first-fit by decreasing share"


def test_the_reservation() -> None:
    assert (reservation(0, 0), reservation(0, 3)) == (100.0, 200.0)
    assert (reservation(2, 4), reservation(4, 2)) == (200.0, 50.0)


def test_one_minute_of_waiting_tasks_scales_out_at_once() -> None:
    decision = decide(InstancesObservation(60.0, 1, 1, 1, (1.0, 1.0, 1.0)), SETTINGS, ManagedScalingState())
    assert decision.desired == 4


def test_a_second_scale_out_waits_for_the_warm_up() -> None:
    """As the developer guide says: with 300 s of warm-up, four more tasks wait for four periods."""
    decision = decide(InstancesObservation(60.0, 1, 1, 1, (1.0, 1.0)), SETTINGS, ManagedScalingState())
    assert decision.desired == 3
    for minute in range(2, 6):
        decision = decide(InstancesObservation(60.0 * minute, 3, 3, 3, (1.0,) * 4), SETTINGS, decision.state)
        assert decision.desired == 3
    decision = decide(InstancesObservation(360.0, 3, 3, 3, (1.0,) * 4), SETTINGS, decision.state)
    assert decision.desired == 7


def test_requested_instances_are_not_requested_again() -> None:
    """Instances that take longer than the warm-up."""
    decision = decide(InstancesObservation(400.0, 3, 1, 1, (1.0, 1.0)), SETTINGS, ManagedScalingState(warm_at_s=360.0))
    assert decision.desired == 3


def test_spare_capacity_is_a_lower_target() -> None:
    spare = ManagedScalingSettings(target_capacity=50.0, max_instances=10)
    decision = decide(InstancesObservation(60.0, 2, 2, 2), spare, ManagedScalingState())
    assert decision.desired == 4, "half of the capacity is spare"


def test_no_more_than_the_most_instances() -> None:
    assert decide(InstancesObservation(60.0, 1, 1, 1, (1.0,) * 19), SETTINGS, ManagedScalingState()).desired == 10
    assert decide(InstancesObservation(60.0, 10, 10, 10, (1.0,)), SETTINGS, ManagedScalingState()).desired == 10


def test_fifteen_minutes_of_empty_instances_scale_in_to_those_in_use() -> None:
    state = ManagedScalingState()
    for minute in range(1, 16):
        decision = decide(InstancesObservation(60.0 * minute, 4, 4, 2), SETTINGS, state)
        state = decision.state
        assert decision.desired == (2 if minute == 15 else 4), "half of them"


def test_no_scale_in_during_a_warm_up() -> None:
    state = ManagedScalingState(warm_at_s=10_000.0)
    for minute in range(1, 16):
        decision = decide(InstancesObservation(60.0 * minute, 4, 4, 2), SETTINGS, state)
        state = decision.state
    assert decision.desired == 4


def test_scale_in_removes_at_most_half_per_minute() -> None:
    state, desired, history = ManagedScalingState(), 8, []
    for minute in range(1, 20):
        decision = decide(InstancesObservation(60.0 * minute, desired, desired, 0), SETTINGS, state)
        state, desired = decision.state, decision.desired
        history.append(desired)
    assert history[13:] == [8, 4, 2, 1, 0, 0]


@pytest.mark.parametrize("waiting", [1, 3, 40])
def test_scale_out_from_zero_is_always_to_two(waiting: int) -> None:
    decision = decide(InstancesObservation(60.0, 0, 0, 0, (0.5,) * waiting), SETTINGS, ManagedScalingState())
    assert decision.desired == 2
    single = ManagedScalingSettings(max_instances=1)
    assert decide(InstancesObservation(60.0, 0, 0, 0, (0.5,)), single, ManagedScalingState()).desired == 1
