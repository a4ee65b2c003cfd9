"""How far a load is, on a terminal; without one, a line every ten seconds."""

from __future__ import annotations

from types import TracebackType
from typing import IO, Final, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from mlscale.loadgen.process import LoadProgress

_LINE_EVERY_S: Final = 10.0


class ProgressLine:
    """Shows the time left and what was sent so far."""

    def __init__(self, duration_s: float, out: IO[str]) -> None:
        self._duration_s, self._out = duration_s, out
        self._printed_s = 0.0
        self._bar: Progress | None = None
        if out.isatty():
            columns = (
                TextColumn("{task.fields[left]}"),
                BarColumn(),
                TextColumn("{task.percentage:3.0f} %  {task.description}"),
            )
            self._bar = Progress(*columns, console=Console(file=out), refresh_per_second=4)
            self._task = self._bar.add_task("starting", total=duration_s, left="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, elapsed_s: float, progress: LoadProgress) -> None:
        """``elapsed_s`` since the schedule's start."""
        left_s = self._duration_s - elapsed_s
        left = f"{left_s:.0f} s left" if left_s > 0 else "waiting for open requests"
        counts = f"{progress.begun:,} sent, {progress.failed:,} failed, {progress.open:,} open"
        if self._bar is not None:
            done_s = min(max(elapsed_s, 0.0), self._duration_s)
            self._bar.update(self._task, completed=done_s, description=counts, left=left)
        elif elapsed_s - self._printed_s >= _LINE_EVERY_S:
            self._printed_s = elapsed_s
            self._out.write(f"{left}: {counts}\n")
            self._out.flush()
