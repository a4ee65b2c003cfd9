"""Waits until the host is idle, so that earlier work does not affect a run."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from mlscale.host.sampling import HostCpu, host_cpu
from mlscale.runs import MlscaleError


class Quiet(NamedTuple):
    """Result of the wait."""

    waited_s: float
    quiet: bool
    """False: the host was still busy at the timeout."""
    busy_fraction: float
    """Busy share of all cores in the last ``for_s`` seconds; NaN if nothing could be measured."""


def wait_until_quiet(
    limit_cores_fraction: float = 0.10,
    for_s: float = 5,
    at_most_s: float = 60,
    *,
    read: Callable[[], HostCpu | None] = host_cpu,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Quiet:
    """Wait until the host's CPU was busy for at most ``limit_cores_fraction`` of all cores over ``for_s`` seconds.

    Never waits longer than ``at_most_s`` (0: not at all, "not quiet"); what to do about a busy host is up to
    the caller. The last three arguments are for tests.

    Raises:
        MlscaleError: invalid limits. Without CPU counters it returns at once, not quiet.
    """
    if not (0 < limit_cores_fraction <= 1 and 0 <= for_s <= at_most_s):
        raise MlscaleError("invalid limits", "wait_until_quiet", "use 0 < fraction <= 1 and 0 <= for_s <= at_most_s")
    start_s = clock()
    step_s = for_s / 10
    readings: deque[tuple[float, HostCpu]] = deque()
    while True:
        now_s, reading = clock(), read()
        if reading is None:
            return Quiet(now_s - start_s, False, float("nan"))
        readings.append((now_s, reading))
        while len(readings) > 2 and now_s - readings[1][0] >= for_s:
            readings.popleft()
        busy = _busy_fraction(readings[0][1], reading)
        if now_s - readings[0][0] >= for_s and busy <= limit_cores_fraction:
            return Quiet(now_s - start_s, True, busy)
        if now_s - start_s >= at_most_s:
            return Quiet(now_s - start_s, False, busy)
        sleep(step_s)


def _busy_fraction(before: HostCpu, after: HostCpu) -> float:
    total_s = after.total_s - before.total_s
    return (after.busy_s - before.busy_s) / total_s if total_s > 0 else float("nan")
