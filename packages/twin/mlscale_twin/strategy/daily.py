"""Times of day at which there are at least so many replicas, as cron expressions have them, over a trace."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple, Self

from mlscale_twin.strategy.minimums import Minimums

_DAY_S: Final = 86_400.0
_WEEKDAYS: Final = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


class Clock(NamedTuple):
    """A time of some days of the week, 0: Sunday."""

    minute: int
    hour: int
    days: frozenset[int] = frozenset(range(7))

    @classmethod
    def of(cls, text: str) -> Self:
        """A cron expression that names minute, hour and days of the week. Raises ValueError."""
        minute, hour, *dates, days = text.upper().split()
        if dates != ["*", "*"] or not 0 <= int(minute) < 60 or not 0 <= int(hour) < 24:
            raise ValueError(text)
        return cls(int(minute), int(hour), frozenset(_days(days)))


def _days(text: str) -> Iterable[int]:
    for part in text.replace("*", "0-6").split(","):
        first, _, last = part.partition("-")
        low, high = (_WEEKDAYS.index(day) if day in _WEEKDAYS else int(day) for day in (first, last or first))
        if not 0 <= low <= high <= 7:
            raise ValueError(text)
        yield from (day % 7 for day in range(low, high + 1))


class Daily(NamedTuple):
    """From ``start`` until ``end`` of a day there are at least so many replicas."""

    start: Clock
    end: Clock
    zone: tzinfo
    replicas: int


def minimums_of(daily: Sequence[Daily], begins: datetime, duration_s: float, low: int, high: int) -> Minimums:
    """Of a time from ``begins`` on; empty: there are none that change with the time of day."""
    switched: list[tuple[float, int, int]] = []
    for number, each in enumerate(daily):
        first = begins.astimezone(each.zone) - timedelta(days=8)  # a week, so that each was switched before it begins
        for day in (first + timedelta(days=ahead) for ahead in range(math.ceil(duration_s / _DAY_S) + 10)):
            for clock, replicas in ((each.start, each.replicas), (each.end, 0)):
                if day.isoweekday() % 7 in clock.days:
                    at = day.replace(hour=clock.hour, minute=clock.minute, second=0, microsecond=0)
                    switched.append(((at - begins).total_seconds(), number, replicas))
    wanted, levels = dict[int, int](), dict[float, int]()
    for at_s, number, replicas in sorted(switched):
        wanted[number] = replicas
        levels[max(at_s, 0.0)] = min(max(low, *wanted.values()), high)
    found: list[tuple[float, int]] = []
    for at_s, level in levels.items():
        if at_s < duration_s and (not found or level != found[-1][1]):
            found.append((at_s, level))
    return tuple(found)
