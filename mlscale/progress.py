"""One progress bar with the time left over everything that is to be done; without a terminal, a line now and then."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Any, Final, Self

_LINE_EVERY_S: Final = 60.0
_TICK_S: Final = 1.0


class Bar(AbstractContextManager["Bar"]):
    """Work in seconds: ``total_s`` is planned; `step` says what is done now and how long it should take.

    The bar moves with the clock inside a step, never past the step's planned end.
    """

    def __init__(self, total_s: float, out: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total_s = total_s
        self._done_s = 0.0
        self._step_s = 0.0
        self._what = ""
        self._clock = clock
        self._since_s = self._printed_s = clock()
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._stop = threading.Event()
        self._bar: Any = None
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            columns = (
                TextColumn("{task.fields[left]} left"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %  {task.description}"),
            )
            self._bar = Progress(*columns, console=Console(file=self._out), refresh_per_second=2)
            self._task = self._bar.add_task("", total=max(self._total_s, 1e-9), left=duration(self._total_s))
            self._bar.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.stop()

    def step(self, what: str, planned_s: float) -> None:
        """The step before is done; from now on it is ``what``, for about ``planned_s`` seconds."""
        self._done_s += self._step_s
        self._what, self._step_s, self._since_s = what, planned_s, self._clock()
        self._show(line=True)

    def extend(self, more_s: float) -> None:
        """More work than planned turned up, such as the repetition of an invalid run."""
        self._total_s += more_s

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._out, flush=True)

    @property
    def left_s(self) -> float:
        """Time left by plan, s."""
        inside_s = min(self._clock() - self._since_s, self._step_s)
        return max(self._total_s - self._done_s - inside_s, 0.0)

    def _tick(self) -> None:
        while not self._stop.wait(_TICK_S):
            self._show(line=self._clock() - self._printed_s >= _LINE_EVERY_S)

    def _show(self, *, line: bool) -> None:
        left_s = self.left_s
        if self._bar is not None:
            done_s = self._total_s - left_s
            self._bar.update(
                self._task,
                total=max(self._total_s, 1e-9),
                completed=done_s,
                description=self._what,
                left=duration(left_s),
            )
        elif line and self._what:
            self._printed_s = self._clock()
            share = 1 - left_s / self._total_s if self._total_s > 0 else 1.0
            print(f"{share:4.0%}  {duration(left_s)} left  {self._what}", file=self._out, flush=True)


class Shown(AbstractContextManager["Shown"]):
    """The progress of one `measure`: a line when what is done changes, in a terminal one line that moves."""

    def __init__(self, out: IO[str] | None = None) -> None:
        self._out = out or sys.stderr
        self._live = self._out.isatty()
        self._last = ""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and self._last:
            print(file=self._out)

    def __call__(self, what: str, share: float) -> None:
        text = f"{what} {share:.0%}" if self._live and 0 < share < 1 else what
        if text != self._last:
            print(f"\r\x1b[K{text}" if self._live else text, end="" if self._live else "\n", file=self._out, flush=True)
            self._last = text


def duration(seconds: float) -> str:
    """``2 h 5 min``, ``4 min``, ``30 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
