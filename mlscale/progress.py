"""Progress and time left: rich's bar on a terminal, a bar in a notebook's cell, elsewhere a line now and then."""

from __future__ import annotations

import html
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import IO, Any, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_LINE_EVERY_S: Final = 60.0
_TICK_S: Final = 1.0
_CELL_EVERY_S: Final = 0.5


class Display(AbstractContextManager["Display"]):
    """One bar. In a log: a line at the first `update`, then one every ``line_every_s`` seconds."""

    def __init__(
        self,
        out: IO[str] | None = None,
        line_every_s: float = _LINE_EVERY_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cell = CellBar(clock) if out is None and in_notebook() else None
        self._out = out or (sys.stdout if self._cell else sys.stderr)  # notebooks show stderr as if it were an error
        self._terminal = self._cell is None and self._out.isatty()
        self._line_every_s, self._clock = line_every_s, clock
        self._printed_s = -float("inf")
        self._progress = Progress(
            TextColumn("{task.fields[left]}", markup=False),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.description}", markup=False),
            console=Console(file=self._out),
            redirect_stdout=sys.stdout.isatty(),  # output into a file or pipe must get there
            refresh_per_second=2,
            get_time=clock,
            disable=not self._terminal,
        )
        self._task = self._progress.add_task("", total=1.0, left="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._progress.stop()
        if self._cell is not None:
            self._cell.end("done" if error is None else "stopped")

    def restart(self) -> None:
        """Another piece of work begins: estimate its time left from its own speed."""
        self._progress.reset(self._task)

    def update(self, text: str, share: float, left: str | None = None, *, line: bool = False) -> None:
        """Show that ``share`` of the work is done.

        Args:
            left: the time left, as text; None: estimated from the speed since the last `restart`.
            line: print a line now, even if the last one is recent.
        """
        self._progress.update(self._task, completed=share, description=text)
        if left is None:
            left_s = self._progress.tasks[0].time_remaining
            left = "" if left_s is None or share >= 1 else time_left(left_s)
        self._progress.update(self._task, left=left)
        if self._cell is not None:
            self._cell.update(text, share, left)
        elif not self._terminal and (line or self._clock() - self._printed_s >= self._line_every_s):
            self._printed_s = self._clock()
            print(f"{share:4.0%}  {left}  {text}" if left else text, file=self._out, flush=True)

    def say(self, text: str) -> None:
        """Print a line, on a terminal above the bar."""
        if self._terminal:
            self._progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=self._out, flush=True)


class CellBar:
    """A bar in the output of a notebook's cell: what happens now, the share done and the time left.

    One output is changed in place, so that it also works where no widgets do (papermill, nbconvert).
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._start_s = clock, clock()
        self._shown_s = -float("inf")
        self._text, self._share = "", 0.0
        self._output: Any = None

    def update(self, text: str, share: float, left: str) -> None:
        """Show it, at most twice a second unless ``text`` is new."""
        if text == self._text and self._clock() - self._shown_s < _CELL_EVERY_S:
            return
        self._shown_s, self._text, self._share = self._clock(), text, share
        self._show(f"{share:.0%}", left)

    def end(self, how: str) -> None:
        """Replace the time left by how long it took."""
        if self._output is not None:
            self._share = 1.0 if how == "done" else self._share
            self._show(how, f"after {duration(self._clock() - self._start_s)}")

    def _show(self, state: str, left: str) -> None:
        from IPython.display import HTML, display

        bar = f'<progress value="{self._share:.3f}" max="1" style="width: 16em; vertical-align: middle"></progress>'
        words = html.escape(" · ".join(filter(None, (state, left, self._text))))
        shown = HTML(f'<div role="status">{bar} {words}</div>')
        if self._output is None:
            self._output = display(shown, display_id=True)
        else:
            self._output.update(shown)


def in_notebook() -> bool:
    """Whether this code runs in the kernel of a notebook."""
    if "IPython" not in sys.modules:
        return False
    from IPython.core.getipython import get_ipython

    return getattr(get_ipython(), "kernel", None) is not None


class Bar(Display):
    """Progress through ``total_s`` seconds of planned work, a `step` at a time.

    The bar moves with the clock within a step, but never past the step's planned end.
    """

    def __init__(self, total_s: float, out: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(out, clock=clock)
        self._total_s = total_s
        self._done_s = self._step_s = 0.0
        self._text = ""
        self._step_start_s = clock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._tick, name="progress", daemon=True)

    def __enter__(self) -> Self:
        super().__enter__()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join()
        super().__exit__(kind, error, trace)

    def step(self, text: str, planned_s: float) -> None:
        """End the step before and begin ``text``, planned to take ``planned_s`` seconds."""
        self._done_s += self._step_s
        self._text, self._step_s, self._step_start_s = text, planned_s, self._clock()
        self._show(line=True)

    def extend(self, more_s: float) -> None:
        """Add unplanned work, such as the repetition of an invalid run."""
        self._total_s += more_s

    @property
    def left_s(self) -> float:
        """Planned time left, s."""
        in_step_s = min(self._clock() - self._step_start_s, self._step_s)
        return max(self._total_s - self._done_s - in_step_s, 0.0)

    def _tick(self) -> None:
        while not self._stop.wait(_TICK_S):
            if self._text:
                self._show(line=False)

    def _show(self, *, line: bool) -> None:
        left_s = self.left_s
        share = 1 - left_s / self._total_s if self._total_s > 0 else 1.0
        self.update(self._text, share, time_left(left_s), line=line)


class Shown(Display):
    """The progress of one `measure` or `simulate`, to pass as its ``progress``: a line whenever the step changes."""

    _step = ""

    def __call__(self, step: str, share: float) -> None:
        changed = step != self._step
        if changed:
            self._step = step
            self.restart()
        self.update(step, share, line=changed)


def time_left(seconds: float) -> str:
    """``4 min left``."""
    return f"{duration(seconds)} left"


def duration(seconds: float) -> str:
    """``2 h 5 min``, ``4 min``, ``30 s``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
