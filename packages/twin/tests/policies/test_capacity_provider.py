"""Managed scaling of an ECS capacity provider, look by look."""

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


def test_tasks_that_wait_are_packed_onto_new_instances() -> None:
    assert needed(2, ()) == 2
    assert needed(2, (0.5, 0.5, 0.5)) == 4
    assert needed(0, (0.6, 0.6, 0.4, 0.4)) == 2, "first-fit by decreasing share"
    with pytest.raises(ValueError, match=r"1\.20 of an instance"):
        needed(0, (1.2,))


def test_the_reservation() -> None:
    assert (reservation(0, 0), reservation(0, 3)) == (100.0, 200.0)
    assert (reservation(2, 4), reservation(4, 2)) == (200.0, 50.0)


def test_one_minute_of_waiting_tasks_scales_out_at_once() -> None:
    decision = decide(InstancesObservation(60.0, 1, 1, 1, (1.0, 1.0, 1.0)), SETTINGS, ManagedScalingState())
    assert (decision.desired, decision.reservation, decision.rule) == (4, 400.0, "out")


def test_a_second_scale_out_waits_until_the_first_ones_have_warmed_up() -> None:
    """The developer guide's words; with 300 s of warm-up, four more tasks wait for four looks."""
    decision = decide(InstancesObservation(60.0, 1, 1, 1, (1.0, 1.0)), SETTINGS, ManagedScalingState())
    assert (decision.desired, decision.rule) == (3, "out")
    for minute in range(2, 6):
        decision = decide(InstancesObservation(60.0 * minute, 3, 3, 3, (1.0,) * 4), SETTINGS, decision.state)
        assert (decision.desired, decision.rule) == (3, "warming-up")
    decision = decide(InstancesObservation(360.0, 3, 3, 3, (1.0,) * 4), SETTINGS, decision.state)
    assert (decision.desired, decision.rule) == (7, "out")


def test_what_is_asked_for_already_is_not_asked_for_again() -> None:
    """Instances that take longer than the warm-up."""
    decision = decide(InstancesObservation(400.0, 3, 1, 1, (1.0, 1.0)), SETTINGS, ManagedScalingState(warm_at_s=360.0))
    assert (decision.desired, decision.rule) == (3, "quiet")


def test_spare_capacity_is_a_lower_target() -> None:
    spare = ManagedScalingSettings(target_capacity=50.0, max_instances=10)
    decision = decide(InstancesObservation(60.0, 2, 2, 2), spare, ManagedScalingState())
    assert (decision.desired, decision.rule) == (4, "out"), "half of them are to be free"


def test_steps_and_bounds() -> None:
    steps = ManagedScalingSettings(min_step=2, max_step=3, max_instances=5)
    assert decide(InstancesObservation(60.0, 1, 1, 1, (1.0,)), steps, ManagedScalingState()).desired == 3
    assert decide(InstancesObservation(60.0, 1, 1, 1, (1.0,) * 9), steps, ManagedScalingState()).desired == 4
    full = decide(InstancesObservation(60.0, 5, 5, 5, (1.0,)), steps, ManagedScalingState())
    assert (full.desired, full.rule) == (5, "at-max")


def test_fifteen_minutes_of_empty_instances_scale_in_but_not_those_in_use() -> None:
    state = ManagedScalingState()
    for minute in range(1, 16):
        decision = decide(InstancesObservation(60.0 * minute, 4, 4, 2), SETTINGS, state)
        state = decision.state
        assert (decision.rule == "in") == (minute == 15)
    assert decision.desired == 2, "half of them"


def test_none_goes_while_one_warms_up() -> None:
    state = ManagedScalingState(warm_at_s=10_000.0)
    for minute in range(1, 16):
        decision = decide(InstancesObservation(60.0 * minute, 4, 4, 2), SETTINGS, state)
        state = decision.state
    assert (decision.desired, decision.rule) == (4, "warming-up")


def test_scale_in_takes_at_most_half_a_minute_by_minute() -> None:
    state, asked, seen = ManagedScalingState(), 8, []
    for minute in range(1, 20):
        decision = decide(InstancesObservation(60.0 * minute, asked, asked, 0), SETTINGS, state)
        state, asked = decision.state, decision.desired
        seen.append(asked)
    assert seen[13:] == [8, 4, 2, 1, 0, 0]


@pytest.mark.parametrize("waiting", [1, 3, 40])
def test_from_no_instance_it_is_always_two(waiting: int) -> None:
    decision = decide(InstancesObservation(60.0, 0, 0, 0, (0.5,) * waiting), SETTINGS, ManagedScalingState())
    assert (decision.desired, decision.reservation) == (2, 200.0)
    one = ManagedScalingSettings(max_instances=1)
    assert decide(InstancesObservation(60.0, 0, 0, 0, (0.5,)), one, ManagedScalingState()).desired == 1


@pytest.mark.parametrize(
    "wrong", [{"target_capacity": 0.0}, {"target_capacity": 101.0}, {"min_step": 5, "max_step": 2}]
)
def test_settings_that_make_no_sense(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"target_capacity|steps"):
        ManagedScalingSettings(**wrong)  # type: ignore[arg-type]
