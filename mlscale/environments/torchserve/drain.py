"""Remove TorchServe's newest worker so that no request is lost.

TorchServe kills the worker that is last in its list, together with the request it serves (500 "Worker died."). So the
controller queues a request of its own, a drain token. The handler of the worker that is to go keeps it, and is thereby
busy with our request and can take no client's; only then is TorchServe told to remove a worker, and the 500 is
ours. A worker that gets a token meant for another gives it back at once and the token is sent again. Idle
workers take turns, so as many tries as there are workers mostly do; under load it is a draw, so tries are bounded.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mlscale.environments.torchserve.api import Connection, ManagementApi, NoAnswer, ServerGone, Worker
from mlscale.environments.torchserve.board import DRAIN_HEADER, HOLD_AT_MOST_S, Board

_ACT_WITHIN_S: Final = (
    3.0  # of taking the token; the worker keeps it for HOLD_AT_MOST_S, so TorchServe has the difference
)
_POLL_S: Final = 0.005


@dataclass(frozen=True, slots=True)
class Outcome:
    """``removed`` or not, and why not; ``tries`` tokens were sent; it took ``took_s``."""

    worker: int
    removed: bool
    reason: str
    tries: int
    took_s: float


class Drain:
    """One attempt to remove one worker, in a thread of its own. ``cancel`` calls it off if that is still possible."""

    def __init__(
        self,
        board: Board,
        token: Callable[[], int],
        inference: Callable[[], Connection],
        management: ManagementApi,
        model: str,
        workers: tuple[Worker, ...],
        *,
        at_most_s: float = 10.0,
        tries_per_worker: int = 25,
    ) -> None:
        """``token()`` gives a number greater than all before it; ``management`` is this drain's own, closed at its end;
        ``workers`` is TorchServe's list, two or more."""
        self.worker = workers[-1].id
        self._left = len(workers) - 1
        self._board, self._token, self._inference, self._management = board, token, inference, management
        self._path = f"/predictions/{model}"
        self._at_most_s, self._tries = at_most_s, tries_per_worker * len(workers)
        self._cancelled = threading.Event()
        self.held_s: float | None = None
        """When the token was seen to be held (monotonic), set before TorchServe is told to remove the worker."""
        self.outcome: Outcome | None = None
        """Set at the end."""
        self._thread = threading.Thread(target=self._run, name="drain", daemon=True)
        self._thread.start()

    def cancel(self) -> None:
        self._cancelled.set()

    def join(self, timeout_s: float | None = None) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        began = time.monotonic()
        removed, reason, tries = False, "", 0
        while not removed and not reason:
            if self._cancelled.is_set():
                reason = "called off"
            elif tries >= self._tries or time.monotonic() - began > self._at_most_s:
                reason = f"worker {self.worker} took none of {tries} drain tokens in {time.monotonic() - began:.1f} s"
            else:
                tries += 1
                removed, reason = self._try(self._token(), began + self._at_most_s)
        self._management.close()
        self.outcome = Outcome(self.worker, removed, reason, tries, time.monotonic() - began)

    def _try(self, token: int, until: float) -> tuple[bool, str]:
        """Send one token; (True, "") when the worker was removed, (False, "") when another worker had the token."""
        self._board.aim(self.worker, token)
        request = _Request(self._inference, self._path, f"{self._board.secret}:{token}")
        slot = self._board.slot(self.worker)
        try:
            while not request.done.is_set():
                held_s = slot.holds(token)
                if held_s is not None:
                    return self._remove(held_s)
                if time.monotonic() > until or self._cancelled.is_set():
                    return False, "called off" if self._cancelled.is_set() else "the queue did not move in time"
                request.done.wait(_POLL_S)
            return False, request.refusal
        finally:
            self._board.release(token)

    def _remove(self, held_s: float) -> tuple[bool, str]:
        """The worker holds our token: have it removed."""
        if held_s > _ACT_WITHIN_S:
            return False, "the token was noticed too late"
        until = time.monotonic() - held_s + HOLD_AT_MOST_S
        api = self._management
        try:
            workers = api.describe().workers
            if [row.id for row in workers][-1:] != [self.worker] or len(workers) != self._left + 1:
                return False, f"worker {self.worker} is no longer the newest"
            self.held_s = time.monotonic()
            with contextlib.suppress(NoAnswer):  # it may have been heard: only the list of workers tells
                api.scale(self._left)
            return self._await_removal(api, until)
        except (ServerGone, NoAnswer) as error:
            return False, f"TorchServe gave no list of workers: {error}"

    def _await_removal(self, api: ManagementApi, until: float) -> tuple[bool, str]:
        """Until TorchServe lists the worker no more; the token is held as long."""
        while time.monotonic() < until:
            with contextlib.suppress(NoAnswer):
                if all(row.id != self.worker for row in api.describe().workers):
                    return True, ""
            time.sleep(_POLL_S)
        return False, f"worker {self.worker} is still listed {HOLD_AT_MOST_S:g} s after it was told to go"


class _Request:
    """A drain token on its way, in a thread: it comes back, or ends with the worker."""

    def __init__(self, connect: Callable[[], Connection], path: str, header: str) -> None:
        self.done = threading.Event()
        self.refusal = ""
        self._connect, self._path, self._header = connect, path, header
        threading.Thread(target=self._run, name="drain-token", daemon=True).start()

    def _run(self) -> None:
        connection = self._connect()
        try:
            status, body = connection.ask("POST", self._path, b"", {DRAIN_HEADER: self._header})
            if status != 200:
                self.refusal = f"the drain token was answered with {status} {body[:120]!r}"
        except (ServerGone, NoAnswer) as error:
            self.refusal = f"the drain token was not answered: {error}"
        finally:
            connection.close()
            self.done.set()
