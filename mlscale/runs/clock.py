"""The run's clock.

All processes of a host share CLOCK_MONOTONIC, so the load generator, the framework and the observers read the same
clock; a run's times are seconds since its ``origin_s``.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

Clock = Callable[[], float]
"""Monotonic seconds; tests inject a fake."""


@dataclass(frozen=True)
class RunClock:
    """The run's clock: ``clock()`` is the seconds since the run's start.

    ``origin_s`` is a reading of ``time.monotonic()``; ``wall_start`` the wall clock at that moment (UTC).
    """

    origin_s: float = field(default_factory=time.monotonic)
    wall_start: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> float:
        return time.monotonic() - self.origin_s


@dataclass(frozen=True)
class Skew:
    """How far another machine's clock is ahead of this one's: somewhere in [``low_s``, ``high_s``]."""

    low_s: float = -float("inf")
    high_s: float = float("inf")

    @property
    def middle_s(self) -> float:
        """0 if nothing is known."""
        return (self.low_s + self.high_s) / 2 if self.high_s < float("inf") else 0.0

    @property
    def within_s(self) -> float:
        """Half the interval; infinite if nothing is known."""
        return (self.high_s - self.low_s) / 2

    def narrowed(self, date: datetime, sent_at: float, received_at: float) -> Skew:
        """Narrowed by one HTTP response: its Date header, truncated to seconds, lies between the request's sending and
        the response's receipt (Unix time). A contradicting response (a clock was set) replaces the interval."""
        low_s, high_s = date.timestamp() - received_at, date.timestamp() + 1.0 - sent_at
        overlap = Skew(max(self.low_s, low_s), min(self.high_s, high_s))
        return overlap if overlap.low_s <= overlap.high_s else Skew(low_s, high_s)


def go_duration_s(text: str) -> float:
    """A Go duration: "15s", "5m0s", "1h30m", "100ms".

    Raises:
        ValueError: not a duration.
    """
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    parts = re.findall(r"([0-9.]+)(ms|us|µs|ns|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration")
    return sum(float(number) * units[unit] for number, unit in parts)
