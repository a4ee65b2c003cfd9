"""Sends requests at their intended times, and aborts with a reason if it can't keep up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mlscale.loadgen.client import Client, OutOfResources
from mlscale.loadgen.connection import Outcome
from mlscale.loadgen.precise_timer import make_timer
from mlscale.loadgen.recorder import Recorder
from mlscale.loadgen.send_queue import Due, SendQueue

# Requests started in one go before the loop may read responses.
_BURST: Final = 64
# Rows are written if the next request is at least this far away.
_IDLE_S: Final = 0.0004
_TICK_S: Final = 0.25


@dataclass(frozen=True)
class Limits:
    """When to abort: ``lateness_s`` late for ``for_s`` seconds without a break, or ``open`` requests open at once."""

    lateness_s: float = 1.0
    for_s: float = 3.0
    open: int = 16_000


class Sender:
    """Sends one worker's part of a schedule.

    Args:
        zero_s: the schedule's start, ``time.monotonic()`` seconds.
        open_loop: whether to abort when late (a closed loop's clients wait for their answers anyway).
    """

    def __init__(
        self, queue: SendQueue, client: Client, recorder: Recorder, zero_s: float, limits: Limits, *, open_loop: bool
    ) -> None:
        self._queue, self._client, self._recorder = queue, client, recorder
        self._zero_s, self._limits, self._open_loop = zero_s, limits, open_loop
        self._loop = asyncio.get_running_loop()
        self._timer = make_timer(self._loop, self._wake)
        self._ended = asyncio.Event()
        self._waking = False
        self._behind: tuple[float, int] | None = None  # since when, and requests started by then
        self._ticking: asyncio.TimerHandle | None = None
        self._failure: BaseException | None = None
        self.begun = 0
        self.aborted: str | None = None

    @property
    def open_requests(self) -> int:
        return self._client.open_requests

    async def run(self) -> None:
        """Send everything; returns after the last request has ended, or after `stop` or `abort`.

        Raises:
            OSError: rows can't be written.
        """
        self._arm()
        self._ticking = self._loop.call_later(_TICK_S, self._tick)
        try:
            await self._ended.wait()
        finally:
            self._ticking.cancel()
            self._timer.close()
            self._client.close()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Start no more requests; open ones are recorded as unfinished."""
        self._ended.set()

    def abort(self, reason: str) -> None:
        """Stop, and report the reason."""
        self.aborted = self.aborted or reason
        self.stop()

    def fail(self, context: Mapping[str, Any]) -> None:
        """End with an exception that nothing else handles (an event loop's exception handler)."""
        self._fail(context.get("exception") or RuntimeError(str(context["message"])))

    def _wake(self) -> None:
        """Start every request that is due."""
        self._waking = False
        if self._ended.is_set():
            return
        now_s = time.monotonic()
        elapsed_s = now_s - self._zero_s
        for _ in range(_BURST):
            due_s = self._queue.next_s()
            if due_s is None or due_s > elapsed_s:
                break
            due = self._queue.take()
            self.begun += 1
            outcome = Outcome(sent_s=now_s)
            self._client.send(due.client, due.body, outcome, partial(self._request_ended, due, outcome))
        if self.open_requests > self._limits.open:
            self.abort(f"{self.open_requests} requests are open at once, which is all this machine allows")
        self._arm()

    def _arm(self) -> None:
        due_s = self._queue.next_s()
        if due_s is None:
            if not self.open_requests:
                self._ended.set()
        elif self._zero_s + due_s > time.monotonic():
            self._timer.set(self._zero_s + due_s)
        elif not self._waking:
            self._waking = True
            self._loop.call_soon(self._wake)

    def _request_ended(self, due: Due, outcome: Outcome, failure: Exception | None) -> None:
        if isinstance(failure, OutOfResources):
            self.abort(f"this machine can't open another connection: {failure}")
        elif failure is not None:
            self._fail(failure)
        try:
            self._recorder.add(due, outcome)
            self._record()
        except OSError as error:
            self._fail(error)
        if not self._ended.is_set():
            self._queue.answered(due, outcome.done_s - self._zero_s)
            self._arm()

    def _record(self) -> None:
        """Write rows if that delays no request."""
        due_s = self._queue.next_s()
        self._recorder.write(idle=due_s is None or due_s + self._zero_s - time.monotonic() > _IDLE_S)

    def _tick(self) -> None:
        """Four times a second: check lateness and write waiting rows."""
        try:
            self._record()
        except OSError as error:
            self._fail(error)
        self._check_lateness()
        self._ticking = self._loop.call_later(_TICK_S, self._tick)

    def _check_lateness(self) -> None:
        now_s = time.monotonic()
        due_s = self._queue.next_s()
        behind_s = 0.0 if due_s is None else now_s - self._zero_s - due_s
        if not self._open_loop or behind_s <= self._limits.lateness_s:
            self._behind = None
            return
        self._behind = self._behind or (now_s, self.begun)
        since_s, begun = self._behind
        if now_s - since_s >= self._limits.for_s:
            rate = (self.begun - begun) / (now_s - since_s)
            self.abort(f"sending is {behind_s:.1f} s behind its schedule; {rate:,.0f} requests/s are sent at most")

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._ended.set()
