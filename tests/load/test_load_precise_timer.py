"""Both timers fire once, at or after their moment, whatever was set before."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import pytest
import uvloop

from mlscale.loadgen.precise_timer import PreciseTimer, SpinningTimer, TimerFd

Make = Callable[[asyncio.AbstractEventLoop, Callable[[], None]], PreciseTimer]
ALARMS: list[Make] = [SpinningTimer, *([TimerFd] if sys.platform == "linux" else [])]


def fired(make: Make, moments_s: list[float]) -> tuple[list[float], float]:
    """Set a timer to each moment (s from now) at once; when it fired, and the last moment, monotonic seconds."""

    async def watch() -> tuple[list[float], float]:
        loop = asyncio.get_running_loop()
        times: list[float] = []
        first = asyncio.Event()

        def ring() -> None:
            times.append(time.monotonic())
            first.set()

        timer = make(loop, ring)
        now_s = time.monotonic()
        for moment_s in moments_s:
            timer.set(now_s + moment_s)
        await asyncio.wait_for(first.wait(), 20)
        # a second ring would come in the turns that follow
        await asyncio.wait_for(loop.run_in_executor(None, lambda: None), 20)
        timer.close()
        return times, now_s + moments_s[-1]

    return uvloop.run(watch())


@pytest.mark.parametrize("make", ALARMS)
@pytest.mark.parametrize("moments_s", [[0.02], [5.0, 0.01], [0.001, 0.03], [0.01, 0.01], [-1.0], [0.0]])
def test_rings_once_and_not_before_its_moment(make: Make, moments_s: list[float]) -> None:
    times, moment_s = fired(make, moments_s)
    assert len(times) == 1
    assert times[0] >= moment_s - 1e-6


@pytest.mark.parametrize("make", ALARMS)
def test_rings_again_when_it_is_set_to_the_same_moment_again(make: Make) -> None:
    async def rings() -> int:
        count = 0
        rung = asyncio.Event()
        at_s = time.monotonic() - 1

        def ring() -> None:
            nonlocal count
            count += 1
            if count < 3:
                timer.set(at_s)
            else:
                rung.set()

        timer = make(asyncio.get_running_loop(), ring)
        timer.set(at_s)
        await asyncio.wait_for(rung.wait(), 20)
        timer.close()
        return count

    assert uvloop.run(rings()) == 3
