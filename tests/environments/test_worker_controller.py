"""The worker controller in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from mlscale.environments.worker_controller import (
    ControllerSettings,
    ControllerState,
    Decision,
    LookBack,
    WorkerObservation,
    decide,
)

SETTINGS = ControllerSettings(
    min_replicas=1, max_replicas=4, target_ongoing=1.0, upscale_delay_s=1.0, downscale_delay_s=30.0
)


def _run(
    load: Callable[[float], float | None], until_s: float, settings: ControllerSettings = SETTINGS, start: int = 1
) -> list[tuple[float, Decision]]:
    """Decide every 0.5 s of virtual time; what is desired is there at once."""
    state, desired, decisions = ControllerState(), start, []
    for step in range(int(until_s / 0.5) + 1):
        decision = decide(WorkerObservation(step * 0.5, load(step * 0.5), desired), settings, state)
        state, desired = decision.state, decision.desired
        decisions.append((step * 0.5, decision))
    return decisions


def _changes(decisions: Iterable[tuple[float, Decision]], start: int = 1) -> list[tuple[float, int]]:
    changes, last = [], start
    for t_s, decision in decisions:
        if decision.desired != last:
            changes.append((t_s, decision.desired))
        last = decision.desired
    return changes


def test_a_step_is_answered_after_the_delay_with_the_latest_number() -> None:
    decisions = _run(lambda t: 0.4 if t < 10 else (2.5 if t < 10.7 else 8.0), 20)
    assert _changes(decisions) == [(11.0, 4)]
    assert "8.00 ongoing at target 1 want 8" in dict(decisions)[11.0].reason


def test_a_peak_shorter_than_the_delay_changes_nothing() -> None:
    decisions = _run(lambda t: 5.0 if 3 <= t < 4 else 0.5, 20)
    assert _changes(decisions) == []
    assert {d.rule for _, d in decisions} == {"on-target", "upscale-delay"}


def test_scaling_down_waits_longer_and_starts_anew_after_a_peak() -> None:
    def load(t: float) -> float:
        return 4.0 if t < 5 or 20 <= t < 20.5 else 1.5

    assert _changes(_run(load, 60, start=4), start=4) == [(50.5, 2)], "30 s after the peak's end, not after 5 s"


def test_a_gap_in_the_signal_starts_the_delay_anew_and_says_so() -> None:
    decisions = _run(lambda t: None if t == 10.5 else (3.0 if t >= 10 else 0.5), 15)
    assert _changes(decisions) == [(12.0, 3)]
    assert dict(decisions)[10.5].rule == "no-signal"


@pytest.mark.parametrize(
    ("desired", "ongoing", "rule", "wanted"),
    [
        (0, 1.0, "below-min", 1),
        (6, 1.0, "above-max", 4),
        (1, 0.0, "at-min", 1),
        (4, 9.0, "at-max", 4),
        (2, 2.0, "on-target", 2),
    ],
)
def test_bounds_hold_at_once_and_holds_say_why(desired: int, ongoing: float, rule: str, wanted: int) -> None:
    decision = decide(WorkerObservation(0.0, ongoing, desired), SETTINGS, ControllerState())
    assert (decision.rule, decision.desired) == (rule, wanted)
    assert decision.reason


def test_steps_are_bounded() -> None:
    settings = ControllerSettings(
        max_replicas=8, upscale_delay_s=1.0, downscale_delay_s=2.0, max_step_up=2, max_step_down=1
    )
    up = _changes(_run(lambda t: 8.0, 10, settings))
    assert up == [(1.0, 3), (2.5, 5), (4.0, 7), (5.5, 8)]
    assert [n for _, n in _changes(_run(lambda t: 0.0, 12, settings, start=3), start=3)] == [2, 1]


def test_no_delay_acts_at_once() -> None:
    settings = ControllerSettings(upscale_delay_s=0.0, downscale_delay_s=0.0)
    assert _changes(_run(lambda t: 3.0 if t < 2 else 1.0, 3, settings)) == [(0.0, 3), (2.0, 1)]


def test_rounding_of_the_arithmetic_adds_no_worker() -> None:
    settings = ControllerSettings(target_ongoing=0.1, upscale_delay_s=0.0, max_replicas=10)
    decision = decide(WorkerObservation(0.0, 0.1 + 0.2, 1), settings, ControllerState())
    assert decision.desired == 3, "0.1 + 0.2 is a little more than 0.3"


def test_fixed_number() -> None:
    settings = ControllerSettings(min_replicas=4, max_replicas=4)
    assert _changes(_run(lambda t: 20.0 * (t % 2), 10, settings, start=4), start=4) == []


def test_target_divides_the_load() -> None:
    settings = ControllerSettings(target_ongoing=2.0, upscale_delay_s=0.0, max_replicas=64)
    for ongoing, workers in ((2.0, 1), (2.1, 2), (4.0, 2), (11.0, 6)):
        assert decide(WorkerObservation(0.0, ongoing, 1), settings, ControllerState()).desired == workers


def test_look_back_mean_window_and_freshness() -> None:
    window = LookBack()
    for t_s, ongoing in ((0.0, 8.0), (0.25, 0.0), (0.5, 2.0), (0.75, 4.0)):
        window = window.add(t_s, ongoing, 0.6)
    assert window.samples == ((0.25, 0.0), (0.5, 2.0), (0.75, 4.0)), "older ones are dropped"
    assert window.mean(0.8, 0.6, 0.5) == pytest.approx(2.0)
    assert window.mean(0.8, 0.1, 0.5) == pytest.approx(4.0), "at least the latest one counts"
    assert window.mean(1.3, 0.6, 0.5) is None, "stale"
    assert LookBack().mean(0.0, 1.0, 1.0) is None
