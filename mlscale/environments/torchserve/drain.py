"""Remove TorchServe's newest worker so that no request is lost.

To scale down, TorchServe kills the last worker in its list, even while it serves a request, which then fails with 500
("Worker died."). So the controller first queues a request of its own, a drain token. When the worker to be removed
gets it, its handler keeps it: the worker is busy and takes no client request. Only then is TorchServe told to remove
it, and the 500 goes to the controller. Any other worker returns the token at once, and the controller sends it again.
Idle workers take turns, so about as many tries as workers suffice; under load it is a matter of chance, so tries are
limited.
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

# Time for the removal after the worker took the token, which it holds for HOLD_AT_MOST_S.
_ACT_WITHIN_S: Final = 3.0
_POLL_S: Final = 0.005
_AT_MOST_S: Final = 10.0
_TRIES_PER_WORKER: Final = 25


@dataclass(frozen=True, slots=True)
class DrainResult:
    """Whether the worker was removed, and if not, why."""

    removed: bool
    reason: str


class Drain:
    """One attempt to remove a worker, in its own thread. ``cancel`` stops it if that is still possible."""

    def __init__(
        self,
        board: Board,
        token: Callable[[], int],
        inference: Callable[[], Connection],
        management: ManagementApi,
        model: str,
        workers: tuple[Worker, ...],
    ) -> None:
        """``token()`` returns increasing numbers; ``management`` is used by this drain alone, which closes it;
        ``workers`` is TorchServe's list of two or more."""
        self.worker = workers[-1].id
        self._left = len(workers) - 1
        self._board, self._token, self._inference, self._management = board, token, inference, management
        self._path = f"/predictions/{model}"
        self._max_tries = _TRIES_PER_WORKER * len(workers)
        self._cancelled = threading.Event()
        self.held_s: float | None = None
        """time.monotonic() when the worker held the token; set before TorchServe is told to remove the worker."""
        self.outcome: DrainResult | None = None
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
            elif tries >= self._max_tries or time.monotonic() - began > _AT_MOST_S:
                reason = f"worker {self.worker} took none of {tries} drain tokens in {time.monotonic() - began:.1f} s"
            else:
                tries += 1
                removed, reason = self._try(self._token(), began + _AT_MOST_S)
        self._management.close()
        self.outcome = DrainResult(removed, reason)

    def _try(self, token: int, until: float) -> tuple[bool, str]:
        """Send one token. (True, "") if the worker was removed, (False, "") if another worker took the token."""
        self._board.aim(self.worker, token)
        request = _TokenRequest(self._inference, self._path, f"{self._board.secret}:{token}")
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
        """The worker holds the token: tell TorchServe to remove it."""
        if held_s > _ACT_WITHIN_S:
            return False, "the token was noticed too late"
        until = time.monotonic() - held_s + HOLD_AT_MOST_S
        api = self._management
        try:
            workers = api.describe().workers
            if [row.id for row in workers][-1:] != [self.worker] or len(workers) != self._left + 1:
                return False, f"worker {self.worker} is no longer the newest"
            self.held_s = time.monotonic()
            with contextlib.suppress(NoAnswer):  # TorchServe may have acted all the same: the list of workers shows it
                api.scale(self._left)
            return self._await_removal(api, until)
        except (ServerGone, NoAnswer) as error:
            return False, f"TorchServe gave no list of workers: {error}"

    def _await_removal(self, api: ManagementApi, until: float) -> tuple[bool, str]:
        """Wait until TorchServe no longer lists the worker, which holds the token meanwhile."""
        while time.monotonic() < until:
            with contextlib.suppress(NoAnswer):
                if all(row.id != self.worker for row in api.describe().workers):
                    return True, ""
            time.sleep(_POLL_S)
        return False, f"worker {self.worker} is still listed {HOLD_AT_MOST_S:g} s after it was told to go"


class _TokenRequest:
    """Sends a drain token in a thread; done when it is answered, or when the worker is killed."""

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
