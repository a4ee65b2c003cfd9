"""One monotonic clock for everything that happens in a run.

CLOCK_MONOTONIC is shared by all processes of a host, so the load generator, the framework and the observers
all read the same clock; a run's times are seconds since its ``origin_s``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Seconds on some monotonic scale; tests inject a fake one."""

    def __call__(self) -> float: ...


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
        """0 where nothing is known."""
        return (self.low_s + self.high_s) / 2 if self.high_s < float("inf") else 0.0

    @property
    def within_s(self) -> float:
        """Half of the interval; infinite where nothing is known."""
        return (self.high_s - self.low_s) / 2

    def narrowed(self, date: datetime, sent_at: float, received_at: float) -> Skew:
        """By one HTTP answer: its header Date, cut to whole seconds, lies between its being sent and received (Unix
        time). An answer that contradicts what is known, since a clock was set, starts anew."""
        low_s, high_s = date.timestamp() - received_at, date.timestamp() + 1.0 - sent_at
        both = Skew(max(self.low_s, low_s), min(self.high_s, high_s))
        return both if both.low_s <= both.high_s else Skew(low_s, high_s)
