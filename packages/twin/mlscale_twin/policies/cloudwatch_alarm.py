"""State of a CloudWatch alarm that requires all of its last datapoints to breach."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def is_on(datapoints: Sequence[float | None], number: int, breaches: Callable[[float], bool]) -> bool:
    """Whether the last ``number`` datapoints, oldest first, all breach; None: one is missing."""
    last = datapoints[-number:]
    return len(last) == number and all(value is not None and breaches(value) for value in last)
