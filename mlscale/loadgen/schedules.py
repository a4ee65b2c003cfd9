"""From schedules to absolute send times (open loop) or each client's plan (closed loop). Pure.

Everything random is determined by (seed, block): all environments in one block get exactly the same load, and N
workers together send exactly what one would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.errors import MlscaleError
from mlscale.loadgen.schedule_files import Recording, read_recording
from mlscale.loadgen.shapes import Cumulative, Floats, PiecewiseConstant, cumulative_of
from mlscale.runs.observations import Event
from mlscale.runs.schedule import ClosedLoop, OpenLoop, Staircase, Trace

# Send times drawn at a time: 0.1 ms of work, so that drawing doesn't delay sending.
CHUNK: Final = 1024
# Think times of one client drawn at a time.
THINKS: Final = 64
_ARRIVALS, _THINKS, _BODIES, _KEEP = range(4)  # independent streams of random numbers


@dataclass(frozen=True, slots=True)
class WorkerShare:
    """Worker ``worker`` of ``workers``: requests (open loop) or clients (closed) with number mod workers == worker."""

    worker: int
    workers: int

    def clients(self, schedule: ClosedLoop) -> range:
        """The clients of this part."""
        return range(self.worker, max(stage.clients for stage in schedule.stages), self.workers)


WHOLE: Final = WorkerShare(0, 1)


def split(schedule: ClosedLoop | OpenLoop, workers: int) -> tuple[WorkerShare, ...]:
    """Parts of a schedule for ``workers`` processes: their union is always the whole schedule.

    Raises:
        MlscaleError: more workers than a closed loop has clients.
    """
    if isinstance(schedule, ClosedLoop) and workers > max(1, *(stage.clients for stage in schedule.stages)):
        raise MlscaleError(f"{workers} processes are more than the load has clients", "workers", "use fewer")
    return tuple(WorkerShare(worker, workers) for worker in range(workers))


@dataclass(frozen=True, slots=True)
class Sends:
    """Consecutive requests of an open loop, each (n,): number in the schedule, intended time (s), load stage."""

    request_id: npt.NDArray[np.int64]
    intended_s: Floats
    load_stage: npt.NDArray[np.int32]


def send_times(
    schedule: OpenLoop,
    seed: int,
    block: int = 0,
    *,
    part: WorkerShare = WHOLE,
    recording: Recording | None = None,
    chunk: int = CHUNK,
) -> Iterator[Sends]:
    """Intended send times of an open loop in [0, duration_s), ascending, ``chunk`` at a time (before taking ``part``).

    ``even``: Lambda^-1(k), k = 0, 1, ...; ``poisson``: Lambda^-1 of cumulated unit exponentials. A trace of arrivals is
    sent as recorded (times / speed, a share ``keep`` of them). The times do not depend on ``chunk`` or ``part``.

    Args:
        recording: of a trace that has already been read.

    Raises:
        MlscaleError: the trace can't be read.
    """
    boundaries = np.array(schedule.boundaries_s)
    sent = 0
    for times in intended_times(schedule, seed, block, recording=recording, chunk=chunk):
        numbers = np.arange(sent, sent + len(times), dtype=np.int64)
        mine = numbers % part.workers == part.worker
        stages = np.searchsorted(boundaries, times, side="right") - 1
        yield Sends(numbers[mine], times[mine], stages[mine].astype(np.int32))
        sent += len(times)


def intended_times(
    schedule: OpenLoop, seed: int, block: int = 0, *, recording: Recording | None = None, chunk: int = CHUNK
) -> Iterator[Floats]:
    """The times of `send_times` alone, s."""
    for times in _all_times(schedule, seed, block, recording, chunk):
        within = int(np.searchsorted(times, schedule.duration_s))
        yield times[:within]
        if within < len(times):
            return


def _all_times(schedule: OpenLoop, seed: int, block: int, recording: Recording | None, chunk: int) -> Iterator[Floats]:
    """Ascending times in chunks; ends after the first chunk that reaches the schedule's end, or with the trace."""
    rate = schedule.rate
    if not isinstance(rate, Trace):
        yield from _rescaled(cumulative_of(rate, schedule.duration_s), schedule, seed, block, chunk)
        return
    trace = recording or read_recording(rate)
    if trace.rates_rps is not None:
        cumulative = _piecewise_constant(trace.times_s / rate.speed, trace.rates_rps * rate.keep)
        yield from _rescaled(cumulative, schedule, seed, block, chunk)
        return
    keep = _generator(seed, block, _KEEP)
    for first in range(0, len(trace.times_s), chunk):
        times = trace.times_s[first : first + chunk] / rate.speed
        yield times[keep.random(len(times)) < rate.keep]


def _piecewise_constant(times_s: Floats, rates_rps: Floats) -> Cumulative:
    if times_s[0] > 0:
        return PiecewiseConstant(np.concatenate(([0.0], times_s)), np.concatenate(([0.0], rates_rps)))
    return PiecewiseConstant(times_s, rates_rps)


def _rescaled(rate: Cumulative, schedule: OpenLoop, seed: int, block: int, chunk: int) -> Iterator[Floats]:
    generator = _generator(seed, block, _ARRIVALS)
    count, last = 0, 0.0
    while True:
        if schedule.arrivals == "even":
            events = np.arange(count, count + chunk, dtype=np.float64)
            count += chunk
        else:
            gaps = generator.standard_exponential(chunk)
            gaps[0] += last  # before the sum, so that the times are bit-identical for any chunk
            events = np.cumsum(gaps)
            last = float(events[-1])
        times = rate.inverse(events)
        yield times
        if times[-1] >= schedule.duration_s:
            return


def active_intervals(schedule: ClosedLoop, client: int) -> tuple[tuple[float, float], ...]:
    """When ``client`` may start requests: [start, end) intervals in s; adjacent stages are merged.

    Clients 0 .. n - 1 are active in a stage of n clients.
    """
    ends = [*schedule.boundaries_s[1:], schedule.duration_s]
    intervals: list[tuple[float, float]] = []
    for stage, end_s in zip(schedule.stages, ends, strict=True):
        if client >= stage.clients:
            continue
        if intervals and intervals[-1][1] == stage.start_s:
            intervals[-1] = (intervals[-1][0], end_s)
        else:
            intervals.append((stage.start_s, end_s))
    return tuple(intervals)


def first_active_s(intervals: tuple[tuple[float, float], ...], not_before_s: float) -> float | None:
    """The earliest time from ``not_before_s`` on at which the client is active; None: never again."""
    for start_s, end_s in intervals:
        if not_before_s < end_s:
            return max(start_s, not_before_s)
    return None


def think_times(schedule: ClosedLoop, seed: int, block: int, client: int, chunk: int) -> Floats:
    """Chunk number ``chunk`` of one client's think times, (THINKS,) s; chunks can be drawn in any order."""
    if schedule.think == "constant" or schedule.think_mean_s == 0:
        return np.full(THINKS, schedule.think_mean_s)
    generator = _generator(seed, block, _THINKS, client, chunk)
    return generator.standard_exponential(THINKS) * schedule.think_mean_s


def body_order(seed: int, block: int, client: int, bodies: int) -> npt.NDArray[np.int64]:
    """perm(seed, block, client) of ``bodies`` bodies: request k of the client sends body perm[k mod bodies].

    An open loop is a single client, number 0.
    """
    return _generator(seed, block, _BODIES, client).permutation(bodies)


def load_events(schedule: ClosedLoop | OpenLoop, start_s: float) -> list[Event]:
    """A ``load_step`` event for each load stage; ``start_s``: the schedule's zero on the run's clock."""
    events = []
    for number, boundary_s in enumerate(schedule.boundaries_s):
        detail: dict[str, float] = {"stage": number}
        match schedule:
            case ClosedLoop(stages=stages):
                detail["clients"] = stages[number].clients
            case OpenLoop(rate=Staircase(steps=steps)):
                detail["rate_rps"] = steps[number].rate_rps
        events.append(Event(t_s=start_s + boundary_s, component="", kind="load_step", detail=detail))
    return events


def _generator(seed: int, block: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng([seed, block, *stream])
