"""ECS' target tracking, one decision at a time."""

from __future__ import annotations

from collections.abc import Sequence

from mlscale_twin.policies.target_tracking import (
    TargetTrackingSettings,
    TrackedMetric,
    TrackingDecision,
    TrackingState,
    decide,
)

SETTINGS = TargetTrackingSettings(target=50.0, max_capacity=10)


def simulate(values: Sequence[float | None], capacity: int, settings: TargetTrackingSettings) -> list[TrackingDecision]:
    state, decisions = TrackingState(), []
    for number, value in enumerate(values, 1):
        decision = decide(TrackedMetric(settings.period_s * number, value, capacity), settings, state)
        state, capacity = decision.state, decision.desired
        decisions.append(decision)
    return decisions


def test_three_datapoints_above_the_target_scale_out_in_proportion() -> None:
    first, second, third = simulate([90.0, 90.0, 90.0], 2, SETTINGS)
    assert [decision.rule for decision in (first, second, third)] == ["too-few-datapoints", "too-few-datapoints", "out"]
    assert third.desired == 4, "2 tasks at 90 of 50 are 3.6 tasks"


def test_a_dip_or_a_gap_restarts_the_count() -> None:
    assert [decision.desired for decision in simulate([90.0, 50.0, 90.0, 90.0], 2, SETTINGS)] == [2, 2, 2, 2]
    gap = simulate([90.0, None, 90.0, 90.0, 90.0], 2, SETTINGS)
    assert [decision.rule for decision in gap][1] == "missing-data"
    assert [decision.desired for decision in gap] == [2, 2, 2, 2, 4]


def test_in_the_cooldown_only_a_larger_scale_out_adds_more() -> None:
    same = simulate([90.0] * 5, 2, SETTINGS)
    assert [decision.desired for decision in same] == [2, 2, 4, 4, 4]
    assert same[3].rule == "out-cooldown"
    larger = simulate([90.0, 90.0, 90.0, 140.0], 2, SETTINGS)
    assert larger[-1].desired == 6, "2 tasks at 140 of 50 are 5.6: tasks that are starting count"


def test_after_the_cooldown_the_proportion_refers_to_the_current_capacity() -> None:
    decisions = simulate([90.0] * 8, 2, SETTINGS)
    assert [decision.desired for decision in decisions] == [2, 2, 4, 4, 4, 4, 4, 8]


def test_fifteen_datapoints_below_90_percent_of_the_target_scale_in() -> None:
    decisions = simulate([20.0] * 16, 4, SETTINGS)
    assert [decision.rule for decision in decisions[:14]] == ["too-few-datapoints"] * 14
    assert (decisions[14].rule, decisions[14].desired) == ("in", 2), "4 tasks at 20 of 50 are 1.6"
    assert decisions[15].rule == "in-cooldown"
    assert {decision.rule for decision in simulate([46.0] * 20, 4, SETTINGS)} == {"quiet"}, "between the two thresholds"


def test_rounding_never_removes_too_much() -> None:
    assert simulate([44.0] * 15, 4, SETTINGS)[-1].rule == "rounds-to-nothing", "3.5 tasks would be too few"


def test_a_scale_out_ends_the_cooldown_of_a_scale_in() -> None:
    decisions = simulate([20.0] * 15 + [90.0] * 3, 4, SETTINGS)
    assert decisions[-1].rule == "out"
    assert decisions[-1].state.in_until_s < 0


def test_twenty_second_metrics_scale_out_after_a_minute() -> None:
    quick = TargetTrackingSettings(target=50.0, max_capacity=10, period_s=20.0)
    assert simulate([90.0] * 3, 2, quick)[-1].rule == "out"


def test_bounds() -> None:
    full = simulate([90.0] * 20, 10, SETTINGS)
    assert {decision.rule for decision in full[2:]} == {"at-max"}
    assert simulate([20.0] * 15, 1, SETTINGS)[-1].rule == "at-min"
