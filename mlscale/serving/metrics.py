"""The server's metrics in Prometheus' text format (version 0.0.4).

Without prometheus_client, whose import would add 0.6 s of CPU to the start of every replica.
"""

from __future__ import annotations

import math
import os
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Histogram:
    """Counts of durations, s, by upper bound. Not thread-safe: used by the event loop only."""

    def __init__(self) -> None:
        self._counts = [0] * (len(_BOUNDS_S) + 1)
        self._sum_s = 0.0

    def add(self, value_s: float) -> None:
        """Count one duration."""
        self._counts[bisect_left(_BOUNDS_S, value_s)] += 1
        self._sum_s += value_s

    def lines(self, name: str, text: str) -> Iterator[str]:
        """The exposition: cumulative buckets, sum and count."""
        yield from _head(name, "histogram", text)
        total = 0
        for bound, count in zip((*map(str, _BOUNDS_S), "+Inf"), self._counts, strict=True):
            total += count
            yield f'{name}_bucket{{le="{bound}"}} {total}'
        yield f"{name}_sum {self._sum_s:.6f}"
        yield f"{name}_count {total}"


class InFlight:
    """Requests being received, waiting or in service. Not thread-safe: used by the event loop only."""

    def __init__(self, window_s: float) -> None:
        self.now = 0
        self.window_s = window_s
        self._since: deque[tuple[float, int]] = deque([(-math.inf, 0)])
        """Since when there were how many: all changes within the window, and the one before it."""

    def change(self, by: int, t: float | None = None) -> None:
        """``by`` more requests from ``t`` on (time.monotonic; None: now)."""
        t = time.monotonic() if t is None else t
        self.now += by
        self._since.append((t, self.now))
        while self._since[1][0] <= t - self.window_s:
            self._since.popleft()

    def mean(self, t: float | None = None) -> float:
        """Their mean over the window before ``t``; before the first request there were none."""
        t = time.monotonic() if t is None else t
        begin = t - self.window_s
        ends = (*(since for since, _ in islice(self._since, 1, None)), t)
        held = (
            number * max(0.0, end - max(since, begin)) for (since, number), end in zip(self._since, ends, strict=True)
        )
        return sum(held) / self.window_s


class Metrics:
    """The server's counters. ``window_s``: what the mean number of requests in flight is taken over."""

    def __init__(self, window_s: float = 1.6) -> None:
        self.requests: Counter[str] = Counter()
        """By HTTP status; "aborted" if the client disconnected before its answer."""
        self.in_flight = InFlight(window_s)
        self.inference = Histogram()
        self.queue = Histogram()

    def text(self, waiting: int, ready: bool) -> str:
        """The whole page; ``waiting``: requests queued or in service."""
        lines = [*_head("mlscale_requests_total", "counter", "Requests for an answer, by HTTP status.")]
        lines += [f'mlscale_requests_total{{status="{status}"}} {n}' for status, n in sorted(self.requests.items())]
        lines += _gauge("mlscale_in_flight", "Requests being received, waiting or in service.", self.in_flight.now)
        mean = round(self.in_flight.mean(), 6)
        lines += _gauge(
            "mlscale_in_flight_mean", f"Mean of mlscale_in_flight over {self.in_flight.window_s:g} s.", mean
        )
        lines += _gauge("mlscale_queue_length", "Requests waiting for the model or in service.", waiting)
        lines += _gauge("mlscale_ready", "1 when the model is loaded and has given its first answer.", int(ready))
        lines += self.inference.lines("mlscale_inference_seconds", "Wall time of one inference.")
        lines += self.queue.lines("mlscale_queue_seconds", "Time from the whole body received to inference begun.")
        lines += _head("process_cpu_seconds_total", "counter", "CPU of this process, user and system.")
        lines.append(f"process_cpu_seconds_total {time.process_time():.6f}")
        if (rss := resident_bytes()) is not None:
            lines += _gauge("process_resident_memory_bytes", "Resident memory of this process.", rss)
        return "\n".join(lines) + "\n"


def resident_bytes() -> int | None:
    """Resident memory of this process; None on systems without /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _head(name: str, kind: str, text: str) -> tuple[str, str]:
    return f"# HELP {name} {text}", f"# TYPE {name} {kind}"


def _gauge(name: str, text: str, value: float) -> tuple[str, ...]:
    return *_head(name, "gauge", text), f"{name} {value}"
