"""Waking up at a given time, to within a few tens of microseconds.

Event loop timers have millisecond resolution. Linux's timerfd becomes readable at an absolute time of CLOCK_MONOTONIC
with the precision of the kernel's high-resolution timers, and costs nothing while waiting; elsewhere the loop's timer
wakes early and the rest is spun, one iteration of the loop at a time.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import Final, Protocol

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_EARLY_S: Final = 0.002


class PreciseTimer(Protocol):
    """Calls back once, at or after the time (``time.monotonic()`` seconds) that was set last."""

    def set(self, at_s: float) -> None: ...

    def close(self) -> None: ...


def make_timer(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> PreciseTimer:
    """The most precise timer of this system."""
    return TimerFd(loop, callback) if sys.platform == "linux" else SpinningTimer(loop, callback)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class TimerFd:
    """Linux: a timerfd watched by the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._library = ctypes.PyDLL(None, use_errno=True)  # PyDLL: too quick to be worth releasing the GIL
        self._fd = self._library.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        self._loop, self._callback = loop, callback
        self._spec = _Itimerspec()
        self._at_s = float("nan")
        self._reference = ctypes.byref(self._spec)
        loop.add_reader(self._fd, self._fired)

    def set(self, at_s: float) -> None:
        if at_s == self._at_s:  # saves a system call: 15 us on a virtual machine
            return
        self._at_s = at_s
        nanoseconds = max(int(at_s * 1e9), 1)  # 0 would disarm
        self._spec.value.seconds, self._spec.value.nanoseconds = divmod(nanoseconds, 1_000_000_000)
        self._library.timerfd_settime(self._fd, _ABSOLUTE, self._reference, None)

    def _fired(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:  # set again between firing and this iteration of the loop
            return
        self._at_s = float("nan")
        self._callback()

    def close(self) -> None:
        self._loop.remove_reader(self._fd)
        os.close(self._fd)


class SpinningTimer:
    """Elsewhere: the loop's timer until 2 ms before, then busy iterations of the loop until the time has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop, self._callback = loop, callback
        self._handle: asyncio.Handle | None = None
        self._at_s = float("inf")

    def set(self, at_s: float) -> None:
        self._at_s = at_s
        self.cancel()
        ahead_s = at_s - time.monotonic() - _EARLY_S
        self._handle = self._loop.call_later(ahead_s, self._check) if ahead_s > 0 else self._loop.call_soon(self._check)

    def _check(self) -> None:
        if time.monotonic() >= self._at_s:
            self._handle = None
            self._callback()
        else:
            self._handle = self._loop.call_soon(self._check)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def close(self) -> None:
        self.cancel()
