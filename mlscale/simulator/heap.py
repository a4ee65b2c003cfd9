"""A binary heap in two arrays, times and what they belong to, for compiled code: the earliest is at place 0.

Behind the last entry lies at least one place that holds infinity, so that the way down looks at two children without
asking whether the second one is there. Which of two equal times leaves first depends on what was done before, and on
nothing else.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from mlscale.simulator.compiled import inlined

Times = npt.NDArray[np.float64]
Owners = npt.NDArray[np.int64]


def empty(places: int) -> tuple[Times, Owners]:
    """For up to ``places`` entries."""
    return np.full(places + 1, math.inf), np.zeros(places + 1, np.int64)


@inlined
def push(times: Times, owners: Owners, size: int, time_s: float, owner: int) -> None:
    """Add to a heap of ``size``, which then is one more."""
    place = size
    while place > 0:
        above = (place - 1) >> 1
        if times[above] <= time_s:
            break
        times[place] = times[above]
        owners[place] = owners[above]
        place = above
    times[place] = time_s
    owners[place] = owner


@inlined
def pop(times: Times, owners: Owners, size: int) -> None:
    """Remove the earliest from a heap of ``size``, which then is one less."""
    last = size - 1
    time_s, owner = times[last], owners[last]
    times[last] = math.inf
    if last > 0:
        replace(times, owners, last, time_s, owner)


@inlined
def replace(times: Times, owners: Owners, size: int, time_s: float, owner: int) -> None:
    """Put another one in place of the earliest."""
    place = 0
    child = 1
    while child < size:
        child += int(times[child + 1] < times[child])
        if time_s <= times[child]:
            break
        times[place] = times[child]
        owners[place] = owners[child]
        place = child
        child = 2 * place + 1
    times[place] = time_s
    owners[place] = owner


@inlined
def remove(times: Times, owners: Owners, size: int, owner: int) -> bool:
    """Remove the one entry of ``owner``; False: there is none. In time linear in ``size``: for what happens seldom."""
    for place in range(size):
        if owners[place] == owner:
            for later in range(place, size - 1):
                times[later], owners[later] = times[later + 1], owners[later + 1]
            times[size - 1] = math.inf
            for number in range(size - 1):  # each prefix is a heap again
                push(times, owners, number, times[number], owners[number])
            return True
    return False
