"""Traffic as the number of requests in each second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.errors import MlscaleError
from mlscale.loadgen.schedule_files import Recording, read_recording
from mlscale.runs.schedule import (
    ClosedLoop,
    Constant,
    OpenLoop,
    Ramp,
    RateShape,
    Sine,
    Spike,
    Staircase,
    Step,
    Trace,
)

Floats = npt.NDArray[np.float64]
DAYS_MOST: Final = 14.0
_DAY_S: Final = 86_400.0


@dataclass(frozen=True)
class Demand:
    """``rates_rps``: requests of each second, (n,); a trace's own arrivals are counted."""

    rates_rps: Floats

    @property
    def duration_s(self) -> float:
        return float(len(self.rates_rps))

    @property
    def mean_rps(self) -> float:
        return float(self.rates_rps.mean())

    def busiest_rps(self, over_s: int = 60) -> float:
        """The highest mean rate of ``over_s`` seconds."""
        return float(_means(self.rates_rps, min(over_s, len(self.rates_rps))).max())

    def busiest(self, over_s: int) -> int:
        """When the busiest ``over_s`` seconds begin, s."""
        return int(_means(self.rates_rps, min(over_s, len(self.rates_rps))).argmax())

    def by_part(self, part_s: int) -> Floats:
        """Mean rate of each ``part_s`` seconds; the last part may be shorter."""
        starts = np.arange(0, len(self.rates_rps), part_s)
        sums = np.add.reduceat(self.rates_rps, starts)
        return np.asarray(sums / np.diff(np.append(starts, len(self.rates_rps))))

    def scaled(self, factor: float) -> Demand:
        """With ``factor`` times the rates."""
        return Demand(self.rates_rps * factor)

    def window(self, from_s: float, to_s: float) -> OpenLoop:
        """A part of it as a schedule of Poisson arrivals, at the mean rate of each 10 s."""
        part = self.rates_rps[int(from_s) : int(to_s)]
        means = Demand(part).by_part(10)
        steps = tuple(Step(start_s=10.0 * place, rate_rps=float(rate)) for place, rate in enumerate(means))
        return OpenLoop(duration_s=float(len(part)), rate=Staircase(steps=steps))

    def critical_windows(self, length_s: int, count: int, seed: int = 0) -> list[tuple[int, int]]:
        """``count`` windows that tell strategies apart, as seconds (from, to): around the steepest rise, around the
        busiest minute, and at random."""
        length_s = min(length_s, len(self.rates_rps))
        minutes = _means(self.rates_rps, min(60, length_s))
        rise = np.zeros(1) if len(minutes) <= 120 else minutes[120:] - minutes[:-120]
        centres = [int(rise.argmax()) + 90, int(minutes.argmax()) + 30]
        last = len(self.rates_rps) - length_s
        centres += [int(place) + length_s // 2 for place in np.random.default_rng(seed).integers(0, last + 1, count)]
        starts = [min(max(0, centre - length_s // 2), last) for centre in centres]
        return [(start, start + length_s) for start in dict.fromkeys(starts)][:count]


def demand_of(schedule: ClosedLoop | OpenLoop) -> Demand:
    """The traffic of a schedule.

    Raises:
        MlscaleError: a closed loop, whose requests depend on the answers; too long; no requests; an invalid trace.
    """
    if isinstance(schedule, ClosedLoop):
        raise MlscaleError(
            "the requests of a closed loop depend on the answers", "schedule", "give rates or arrivals (an open loop)"
        )
    seconds = math.ceil(schedule.duration_s)
    if schedule.duration_s > DAYS_MOST * _DAY_S:
        days = schedule.duration_s / _DAY_S
        raise MlscaleError(f"it lasts {days:.1f} days", "trace", f"give {DAYS_MOST:g} days or less")
    rates = _rates(schedule.rate, seconds, schedule.duration_s)
    if rates.sum() < 1:
        raise MlscaleError("it has no requests", "trace", "give one with traffic")
    return Demand(rates)


def _rates(rate: RateShape, seconds: int, duration_s: float) -> Floats:
    at = np.arange(seconds) + 0.5
    match rate:
        case Trace():
            return _trace_rates(read_recording(rate), rate, seconds)
        case Constant(rate_rps=rate_rps):
            return np.full(seconds, rate_rps)
        case Staircase(steps=steps):
            starts = np.array([step.start_s for step in steps])
            return np.array([step.rate_rps for step in steps])[np.searchsorted(starts, at, side="right") - 1]
        case Ramp(from_rps=from_rps, to_rps=to_rps):
            return np.asarray(from_rps + (to_rps - from_rps) * at / duration_s)
        case Sine(mean_rps=mean, amplitude_rps=amplitude, period_s=period_s, phase_rad=phase):
            return np.asarray(mean + amplitude * np.sin(2 * np.pi * at / period_s + phase))
        case Spike(base_rps=base, spike_rps=spike, at_s=at_s, width_s=width_s):
            return np.where((at >= at_s) & (at < at_s + width_s), spike, base).astype(float)


def _trace_rates(recording: Recording, trace: Trace, seconds: int) -> Floats:
    times = recording.times_s / trace.speed
    if recording.rates_rps is None:
        counts = np.bincount(times[times < seconds].astype(np.int64), minlength=seconds)[:seconds]
        return counts.astype(float) * trace.keep
    ends = np.arange(seconds + 1)
    place = np.maximum(np.searchsorted(times, ends, side="right") - 1, 0)
    before = np.concatenate([[0.0], np.cumsum(recording.rates_rps[:-1] * np.diff(times))])  # each row
    sent = before[place] + recording.rates_rps[place] * np.maximum(ends - times[place], 0.0)
    return np.maximum(np.diff(sent), 0.0) * trace.keep


def _means(values: Floats, length: int) -> Floats:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    return np.asarray((sums[length:] - sums[:-length]) / length)
