"""Compares what was sent with what was due (METHOD §6), in one pass. Pure; memory doesn't grow with requests.

Each load worker tallies its own part into a `Summary`; `merge` combines them into one `StimulusReport`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel

from mlscale.loadgen.shapes import Floats
from mlscale.runs.info import ClockOffset, StimulusReport, WindowDeviation
from mlscale.runs.schedule import ClosedLoop, OpenLoop

WINDOW_S: Final = 5.0
# A request due at the end of a window counts as sent in it up to this much later (METHOD's largest valid lateness).
EDGE_S: Final = 0.1


class LogHistogram:
    """Counts positive values in bins 1 % wide, from 1 us to 10,000 s: quantiles to 0.5 % in fixed memory."""

    LOWEST: Final = 1e-6
    RATIO: Final = 1.01
    BINS: Final = 2315

    def __init__(self) -> None:
        self.counts: npt.NDArray[np.int64] = np.zeros(self.BINS, dtype=np.int64)
        self.largest = float("nan")

    def add(self, values: Floats) -> None:
        if not len(values):
            return
        scaled = np.log(np.maximum(values, self.LOWEST) / self.LOWEST) / np.log(self.RATIO)
        bins = np.minimum(scaled.astype(np.int64), self.BINS - 1)
        self.counts += np.bincount(bins, minlength=self.BINS)
        self.largest = float(np.fmax(self.largest, values.max()))

    def quantile(self, share: float) -> float:
        """The smallest value that at least ``share`` of the values don't exceed (middle of its bin); NaN if empty."""
        total = int(self.counts.sum())
        if not total:
            return float("nan")
        rank = max(int(np.ceil(share * total)), 1)
        index = int(np.searchsorted(np.cumsum(self.counts), rank))
        return min(float(self.LOWEST * self.RATIO ** (index + 0.5)), self.largest)


class Summary(BaseModel):
    """One worker's tally, as sent to the parent. ``lateness``: bin -> count of a `LogHistogram`."""

    due: int
    sent: int
    finished: int
    failures: dict[str, int]
    lateness: dict[int, int]
    lateness_max_s: float | None
    windows: list[tuple[int, int]]
    client_change_error_s: float | None
    cpu_s: float
    wall_s: float
    aborted: str | None = None
    clock: ClockOffset | None = None


@dataclass
class Tally:
    """Counts requests (times in s since the schedule's start)."""

    schedule: ClosedLoop | OpenLoop
    lateness: LogHistogram = field(default_factory=LogHistogram)
    due: int = 0
    sent: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    change_error_s: float = 0.0
    _windows: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros((16, 2), dtype=np.int64))
    _last: int = -1

    def add(self, intended_s: Floats, sent_s: Floats, clients: npt.NDArray[Any], statuses: Sequence[str]) -> None:
        """Count requests that were sent, each (n,)."""
        self.due += len(intended_s)
        self.sent += len(sent_s)
        self.statuses.update(statuses)
        self.lateness.add(sent_s - intended_s)
        if isinstance(self.schedule, ClosedLoop):
            error_s = client_change_error_s(self.schedule, intended_s, sent_s, clients)
            self.change_error_s = max(self.change_error_s, error_s)
            return
        windows = (intended_s // WINDOW_S).astype(np.int64)
        self._count(windows, 0)
        self._count(windows[sent_s <= (windows + 1) * WINDOW_S + EDGE_S], 1)

    def add_unsent(self, intended_s: Floats) -> None:
        """Count requests that were due but not sent, (n,)."""
        self.due += len(intended_s)
        self._count((intended_s // WINDOW_S).astype(np.int64), 0)

    def _count(self, windows: npt.NDArray[np.int64], column: int) -> None:
        if not len(windows):
            return
        self._last = max(self._last, int(windows.max()))
        while self._last >= len(self._windows):
            self._windows = np.concatenate((self._windows, np.zeros_like(self._windows)))
        counts = np.bincount(windows)
        self._windows[: len(counts), column] += counts

    def summary(self, *, cpu_s: float, wall_s: float, aborted: str | None) -> Summary:
        bins = np.flatnonzero(self.lateness.counts)
        closed = isinstance(self.schedule, ClosedLoop)
        return Summary(
            due=self.due,
            sent=self.sent,
            finished=self.sent - self.statuses["unfinished"],
            failures={status: number for status, number in self.statuses.items() if status != "ok"},
            lateness={int(index): int(self.lateness.counts[index]) for index in bins},
            lateness_max_s=self.lateness.largest if len(bins) else None,
            windows=[(int(due), int(sent)) for due, sent in self._windows[: self._last + 1]],
            client_change_error_s=self.change_error_s if closed else None,
            cpu_s=cpu_s,
            wall_s=wall_s,
            aborted=aborted,
        )


def client_change_error_s(schedule: ClosedLoop, intended_s: Floats, sent_s: Floats, clients: npt.NDArray[Any]) -> float:
    """Longest time for which these requests show a client as active or idle contrary to the schedule, s.

    A client that joins at a stage's start (first request intended at that time) is late by sent - intended. A client
    that should have left is seen by a request sent after the end of its last stage. A request that is still open when
    its client leaves is not an error.
    """
    boundaries = np.array([*schedule.boundaries_s, schedule.duration_s])
    numbers = np.array([*(stage.clients for stage in schedule.stages), 0])
    before = np.concatenate(([0], numbers[:-1]))
    stage = np.searchsorted(boundaries, intended_s + 1e-9, side="right") - 1
    joins = (np.abs(intended_s - boundaries[stage]) <= 1e-9) & (clients >= before[stage])
    stage_sent = np.searchsorted(boundaries, sent_s, side="right") - 1
    overstays = clients >= numbers[stage_sent]
    late = np.where(joins, sent_s - intended_s, 0.0)
    over = np.where(overstays, sent_s - boundaries[stage_sent], 0.0)
    return float(max(late.max(initial=0.0), over.max(initial=0.0)))


def merge(summaries: Sequence[Summary]) -> StimulusReport:
    """Combine all workers' tallies; CPU is the workers' total over the longest wall time."""
    lateness = LogHistogram()
    for summary in summaries:
        for index, count in summary.lateness.items():
            lateness.counts[index] += count
        if summary.lateness_max_s is not None:
            lateness.largest = float(np.fmax(lateness.largest, summary.lateness_max_s))
    errors = [summary.client_change_error_s for summary in summaries if summary.client_change_error_s is not None]
    wall_s = max((summary.wall_s for summary in summaries), default=0.0)
    return StimulusReport(
        due=sum(summary.due for summary in summaries),
        sent=sum(summary.sent for summary in summaries),
        finished=sum(summary.finished for summary in summaries),
        lateness_p50_s=lateness.quantile(0.5),
        lateness_p99_s=lateness.quantile(0.99),
        lateness_max_s=lateness.largest,
        worst_window=_worst([summary.windows for summary in summaries]),
        client_change_error_s=max(errors) if errors else None,
        load_cpu_cores=sum(summary.cpu_s for summary in summaries) / wall_s if wall_s > 0 else float("nan"),
        aborted=next((summary.aborted for summary in summaries if summary.aborted), None),
        workers=len(summaries),
        clocks=tuple(summary.clock for summary in summaries if summary.clock is not None),
    )


def _worst(windows: Sequence[Sequence[tuple[int, int]]]) -> WindowDeviation | None:
    length = max(map(len, windows), default=0)
    total = np.zeros((length, 2), dtype=np.int64)
    for part in windows:
        if part:
            total[: len(part)] += np.array(part, dtype=np.int64)
    due, sent = total[:, 0], total[:, 1]
    if not due.any():
        return None
    deviation = np.where(due > 0, np.abs(sent - due) / np.maximum(due, 1), 0.0)
    worst = int(np.argmax(deviation))
    return WindowDeviation(start_s=worst * WINDOW_S, due=int(due[worst]), sent=int(sent[worst]))
