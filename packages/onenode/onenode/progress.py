"""Progress on stderr: a line for each step, and the time left of counted ones."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import IO, Final

from mlscale.progress import duration

_LINE_EVERY_S: Final = 10.0
_TERMINAL_EVERY_S: Final = 0.5


class Reporter:
    """Prints steps and counts. Not `mlscale.progress`: a build has no planned duration, only a count."""

    def __init__(self, out: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out or sys.stderr
        self._clock = clock
        self._live = self._out.isatty()
        self._begun_s = self._shown_s = clock()
        self._open = False

    def say(self, text: str) -> None:
        """Print a line; a count starts now."""
        self._close()
        self._out.write(f"cluster: {text}\n")
        self._out.flush()
        self._begun_s = self._shown_s = self._clock()

    def count(self, what: str, done: int, total: int) -> None:
        """``done`` of ``total`` since the last `say`: a line now and then, on a terminal in place."""
        now_s = self._clock()
        if done < 1 or now_s - self._shown_s < (_TERMINAL_EVERY_S if self._live else _LINE_EVERY_S):
            return
        self._shown_s = now_s
        left_s = (now_s - self._begun_s) * max(0, total - done) / done
        text = f"cluster: {what}: {min(done, total)} of {total}, about {duration(left_s)} left"
        self._out.write(f"\r\033[K{text}" if self._live else f"{text}\n")
        self._out.flush()
        self._open = self._live

    def _close(self) -> None:
        if self._open:
            self._out.write("\r\033[K")
            self._open = False
