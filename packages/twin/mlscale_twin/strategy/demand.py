"""Traffic as the number of requests in each second."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

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


class Window(NamedTuple):
    """Seconds [``start``, ``end``) of a trace, each of which stands for ``weight`` seconds."""

    start: int
    end: int
    weight: float


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

    def windows(self, count: int, length_s: int) -> list[Window]:
        """``count`` windows of about ``length_s`` that stand for the whole trace; all of it where that is not longer.

        The window with the busiest minute stands for itself alone. The others are divided into strata by their own
        busiest minute; the one in the middle of a stratum stands for all of it. Weights are then calibrated, so that
        the windows have the trace's number of requests (a regression estimator).
        """
        number = len(self.rates_rps) // length_s
        if number <= count:
            return [Window(0, len(self.rates_rps), 1.0)]
        edges = np.linspace(0, len(self.rates_rps), number + 1).astype(int).tolist()
        peaks = [_means(self.rates_rps[start:end], min(60, end - start)).max() for start, end in pairwise(edges)]
        *others, busiest = np.argsort(peaks, kind="stable").tolist()
        strata = [[busiest], *(stratum.tolist() for stratum in np.array_split(others, count - 1))]
        middles = [stratum[len(stratum) // 2] for stratum in strata]
        spans = [(edges[middle], edges[middle + 1]) for middle in middles]
        rates = np.array([self.rates_rps[start:end].mean() for start, end in spans])
        weights = _calibrated(np.array([float(len(stratum)) for stratum in strata]), rates, self.mean_rps)
        return [Window(*span, float(weight)) for span, weight in zip(spans, weights, strict=True)]


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


def _calibrated(weights: Floats, values: Floats, mean: float) -> Floats:
    """Weights as near to the given ones as can be with the same sum, and by which the mean of ``values`` is ``mean``;
    none is less than a tenth of the given one."""
    off = values - np.average(values, weights=weights)
    spread = float(np.average(off**2, weights=weights))
    if spread <= 0:
        return weights
    return np.asarray(weights * np.maximum(1 + (mean - np.average(values, weights=weights)) * off / spread, 0.1))
