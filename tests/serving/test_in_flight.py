"""Requests in flight and their mean over a window, against the integral of what was in flight."""

from __future__ import annotations

import random

import pytest

from mlscale.serving.metrics import InFlight, Metrics


def test_the_mean_is_the_integral_over_the_window_by_its_length() -> None:
    rng = random.Random(7)
    for _ in range(200):
        counted, changes, t = InFlight(1.6), [], 100.0
        for _ in range(rng.randrange(1, 30)):
            t += rng.expovariate(5.0)
            by = 1 if counted.now == 0 or rng.random() < 0.5 else -1
            counted.change(by, t)
            changes.append((t, by))
        asked = t + rng.random() * 2.0
        # Each change adds to the mean from its moment on, or from the window's begin if it came before.
        known = sum(by * (asked - max(at, asked - 1.6)) for at, by in changes) / 1.6
        assert counted.mean(asked) == pytest.approx(known, abs=1e-9)
        assert counted.now == sum(by for _, by in changes)


def test_before_the_first_request_there_were_none() -> None:
    counted = InFlight(2.0)
    assert counted.mean(5.0) == 0.0
    counted.change(3, 10.0)
    assert counted.mean(11.0) == pytest.approx(1.5), "three during half of the window"
    assert counted.mean(60.0) == pytest.approx(3.0)


def test_only_what_the_window_needs_is_kept() -> None:
    counted = InFlight(1.0)
    for number in range(10_000):
        counted.change(1 if number % 2 else 2, number / 100)
    assert len(counted._since) < 110


def test_both_are_on_the_page() -> None:
    metrics = Metrics(window_s=0.5)
    metrics.in_flight.change(3)
    page = metrics.text(waiting=1, ready=True)
    assert "\nmlscale_in_flight 3\n" in page
    assert "# HELP mlscale_in_flight_mean Mean of mlscale_in_flight over 0.5 s.\n" in page
