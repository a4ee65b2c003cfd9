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
