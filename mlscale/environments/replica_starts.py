"""Joins the wrapper's record of a replica's start to the observed event."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Final

from mlscale.host.replica_launcher import ReplicaStart
from mlscale.runs import Event, Observation, RunClock

_UPTIME_STEP_S: Final = 0.01


def with_starts(
    observations: Iterable[Observation], recorded: Callable[[], Iterable[ReplicaStart]], clock: RunClock
) -> Iterator[Observation]:
    """The observations, each ``replica_started`` with the wrapper's record added (``recorded()``: all starts so far).

    The agent may see a worker before its wrapper has recorded it. Such an event waits for the record, but at most
    until the next event of that replica.
    """
    waiting: dict[str, Event] = {}
    for observation in observations:
        event = observation if isinstance(observation, Event) else None
        if event is not None and event.kind == "replica_started":
            waiting[event.subject] = event
        else:
            if event is not None and event.subject in waiting:
                yield waiting.pop(event.subject)
            yield observation
        for start in recorded() if waiting else ():
            if start.subject in waiting:
                yield _with_start(waiting.pop(start.subject), start, clock)
    yield from waiting.values()


def _with_start(event: Event, start: ReplicaStart, clock: RunClock) -> Event:
    """Add the CPU used before the limit took effect, and correct the time to when it did, if known more precisely."""
    detail = {**event.detail, "cpu_before_s": start.cpu_before_s}
    entered_s = clock() - (_uptime_s() - start.uptime_s)
    if not abs(event.t_s - entered_s) <= event.known_within_s + _UPTIME_STEP_S:  # also when it is NaN
        return replace(event, detail=detail)
    return replace(event, t_s=entered_s, known_within_s=_UPTIME_STEP_S, detail=detail)


def _uptime_s() -> float:
    """Seconds since boot; NaN if the system has no such clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else float("nan")
