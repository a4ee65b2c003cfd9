"""A small memory-mapped file shared by TorchServe's workers and the controller: who is busy, who holds a drain token.

TorchServe reports how many requests wait, but not how many are being served, and it kills busy workers. So each worker
has a slot: its process, how many requests it began and ended, and the drain token that it holds. Every field is an
aligned 8-byte word with a single writer. Standard library only: workers import it inside their CPU quota.
"""

from __future__ import annotations

import mmap
import os
import secrets
import time
from pathlib import Path
from typing import Final

DRAIN_HEADER: Final = "x-mlscale-drain"

# Words of the head: the secret of drain tokens, then what the controller writes.
_SECRET, _TARGET_WORKER, _TARGET_TOKEN, _RELEASED_TOKEN, _HEARTBEAT_NS = 0, 4, 5, 6, 7
_HEAD_WORDS: Final = 8
# Words of a slot.
_WORKER, _PID, _BEGUN, _ENDED, _HELD_TOKEN, _HELD_SINCE_NS = range(6)
_SLOT_WORDS: Final = 8
_SLOTS: Final = 1024  # by worker id, which TorchServe counts upwards: only simultaneous workers must not collide

# A worker returns a token after this long, whatever happened to the controller.
HOLD_AT_MOST_S: Final = 10.0
# ... or after the controller has been silent for this long.
CONTROLLER_SILENT_S: Final = 3.0


class Board:
    """The shared file. The controller creates it, workers open it."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 8 * (_HEAD_WORDS + _SLOTS * _SLOT_WORDS))
        self._words = memoryview(self._map).cast("Q")

    @classmethod
    def create(cls, path: Path) -> Board:
        """A fresh file with a fresh secret, readable by its owner alone."""
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            os.write(descriptor, secrets.token_bytes(8 * _TARGET_WORKER))
            os.ftruncate(descriptor, 8 * (_HEAD_WORDS + _SLOTS * _SLOT_WORDS))
        finally:
            os.close(descriptor)
        return cls(path)

    def close(self) -> None:
        self._words.release()
        self._map.close()

    @property
    def secret(self) -> str:
        """Only requests that carry it are drain tokens."""
        return self._map[: 8 * _TARGET_WORKER].hex()

    def slot(self, worker: int) -> Slot:
        """The slot of the worker with TorchServe's id ``worker`` (9000, 9001, ...)."""
        return Slot(self._words, _HEAD_WORDS + (worker % _SLOTS) * _SLOT_WORDS, worker)

    # Written by the controller.

    def aim(self, worker: int, token: int) -> None:
        """Address ``token`` to ``worker``, the only one that may hold it."""
        self._words[_TARGET_TOKEN] = 0
        self._words[_TARGET_WORKER] = worker
        self._words[_TARGET_TOKEN] = token

    def release(self, token: int) -> None:
        """Tell the holder of ``token`` to return it."""
        self._words[_RELEASED_TOKEN] = token

    def beat(self) -> None:
        """Record that the controller is alive."""
        self._words[_HEARTBEAT_NS] = time.monotonic_ns()

    # Read by workers.

    def is_aimed_at(self, worker: int, token: int) -> bool:
        return self._words[_TARGET_TOKEN] == token and self._words[_TARGET_WORKER] == worker

    def wants_back(self, token: int) -> bool:
        """Whether the holder must return ``token``: it was released or replaced, or the controller is silent."""
        silent_ns = time.monotonic_ns() - self._words[_HEARTBEAT_NS]
        return (
            self._words[_RELEASED_TOKEN] >= token
            or self._words[_TARGET_TOKEN] != token
            or silent_ns > CONTROLLER_SILENT_S * 1e9
        )


class Slot:
    """One worker's words."""

    def __init__(self, words: memoryview, first: int, worker: int) -> None:
        self._words, self._first, self.worker = words, first, worker

    def _get(self, word: int) -> int:
        value: int = self._words[self._first + word]
        return value

    def _set(self, word: int, value: int) -> None:
        self._words[self._first + word] = value

    def claim(self, pid: int) -> None:
        """Called by a worker when it starts: nothing in service, no token."""
        for word in range(_SLOT_WORDS):
            self._set(word, 0)
        self._set(_WORKER, self.worker)
        self._set(_PID, pid)

    def begin(self) -> None:
        self._set(_BEGUN, self._get(_BEGUN) + 1)

    def end(self) -> None:
        self._set(_ENDED, self._get(_ENDED) + 1)

    def hold(self, token: int) -> None:
        self._set(_HELD_SINCE_NS, time.monotonic_ns())
        self._set(_HELD_TOKEN, token)

    def let_go(self) -> None:
        self._set(_HELD_TOKEN, 0)

    def in_service(self, pid: int) -> int:
        """Requests that process ``pid`` is serving now; 0 if another process owns the slot (an earlier one died)."""
        if self._get(_WORKER) != self.worker or self._get(_PID) != pid:
            return 0
        return max(0, self._get(_BEGUN) - self._get(_ENDED))

    def holds(self, token: int) -> float | None:
        """How long this worker has held ``token``, s; None if it does not hold it."""
        if self._get(_WORKER) != self.worker or self._get(_HELD_TOKEN) != token:
            return None
        return (time.monotonic_ns() - self._get(_HELD_SINCE_NS)) / 1e9
