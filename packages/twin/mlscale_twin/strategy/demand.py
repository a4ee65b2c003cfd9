"""Traffic: the number of requests in each second, and when each is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mlscale.errors import MlscaleError
from mlscale.loadgen.schedule_files import Reading, Recording, read_recording
from mlscale.loadgen.schedules import intended_times
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
# Bursts of arrivals are over within this time, s.
_BURST_S: Final = 1.0
# Growth is one that explains as much of the differences between a trace's parts, and adds as much to it.
_EXPLAINED: Final = 0.8
_GROWN: Final = 0.2
_GROWTH_PARTS: Final = 12


class Window(NamedTuple):
    """Seconds [``start``, ``end``) of a trace, each of which stands for ``weight`` seconds."""

    start: int
    end: int
    weight: float


@dataclass(frozen=True)
class Demand:
    """``rates_rps``: requests of each second, (n,); a trace's own arrivals are counted.

    Args:
        recorded_s: when each request was sent, ascending, s; None: only rates are known.
        schedule: by which requests are drawn then; None: as Poisson arrivals at the mean rate of each 10 s.
        burst: drawn requests come in bursts of so many on average, which is their index of dispersion (variance of
            their number in a time that is long beside a burst, relative to its mean); 1: Poisson arrivals.
        begins: date and time of the first second, naive where the trace names no time zone.
        notes: what a reader should know of the trace.
    """

    rates_rps: Floats
    recorded_s: Floats | None = None
    schedule: OpenLoop | None = None
    burst: int = 1
    begins: datetime | None = None
    notes: Sequence[str] = ()

    @property
    def duration_s(self) -> float:
        return float(len(self.rates_rps))

    @property
    def requests(self) -> int:
        return round(float(self.rates_rps.sum()))

    @property
    def mean_rps(self) -> float:
        return float(self.rates_rps.mean())

    @property
    def is_assumed(self) -> bool:
        """Whether Poisson arrivals are assumed, since only rates are known."""
        return self.recorded_s is None and (self.schedule is None or self.schedule.arrivals == "poisson")

    @property
    def summary(self) -> str:
        """What was read, in words."""
        span = f"{self.duration_s / 3600:.3g} h"
        if self.begins is not None:
            end = self.begins + timedelta(seconds=self.duration_s)
            span += f" from {self.begins:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
            span += f" ({self.begins.tzname() or 'no time zone given'})"
        arrivals = self._assumed if self.is_assumed else "each with its time"
        peaks = f"{self.busiest_rps(1):.3g} over a second, {self.busiest_rps():.3g} over a minute"
        return f"{span}, {self.requests:,} requests ({arrivals}), {self.mean_rps:.3g} a second on average, {peaks}"

    @property
    def _assumed(self) -> str:
        return "Poisson arrivals assumed" if self.burst == 1 else f"bursts of {self.burst} assumed"

    def sends_s(self, seed: int) -> Floats:
        """When requests are sent, ascending, s: as recorded, or drawn."""
        if self.recorded_s is not None:
            return self.recorded_s
        schedule = self.schedule or self.window(0, self.duration_s)
        sends_s = np.concatenate(list(intended_times(schedule, seed, chunk=16_384)))
        if self.burst == 1:
            return sends_s
        rng = np.random.default_rng([seed, _BURSTS])
        first_s = sends_s[rng.random(len(sends_s)) < 1 / self.burst]
        sends_s = np.sort(np.repeat(first_s, self.burst) + rng.uniform(0, _BURST_S, len(first_s) * self.burst))
        return sends_s[sends_s < self.duration_s]

    def longest_rest_s(self) -> float:
        """The longest time without a request, s; of one draw where only rates are known."""
        return float(np.diff(self.sends_s(seed=0), prepend=0.0, append=self.duration_s).max())

    def busiest_rps(self, over_s: int = 60) -> float:
        """The highest mean rate of ``over_s`` seconds."""
        return float(_means(self.rates_rps, over_s).max())

    def busiest(self, over_s: int) -> int:
        """When the busiest ``over_s`` seconds begin, s."""
        return int(_means(self.rates_rps, over_s).argmax())

    def by_part(self, part_s: int) -> Floats:
        """Mean rate of each ``part_s`` seconds; the last part may be shorter."""
        starts = np.arange(0, len(self.rates_rps), part_s)
        sums = np.add.reduceat(self.rates_rps, starts)
        return np.asarray(sums / np.diff(np.append(starts, len(self.rates_rps))))

    def peaks(self, part_s: int) -> Floats:
        """The highest mean rate of a minute within each ``part_s`` seconds; the last part may be shorter."""
        means, at_s = np.zeros(len(self.rates_rps)), np.arange(0, len(self.rates_rps), part_s)
        whole = _means(self.rates_rps, 60)
        means[: len(whole)] = np.where(np.arange(len(whole)) % part_s <= part_s - 60, whole, 0.0)
        return np.maximum(np.maximum.reduceat(means, at_s), self.by_part(part_s))

    def growth_per_s(self) -> float:
        """Relative growth of a trace that grows all the time, else 0: by whole days from three on, so that a day's
        course is none."""
        part_s = round(_DAY_S) if self.duration_s >= 3 * _DAY_S else max(1, int(self.duration_s) // _GROWTH_PARTS)
        rates = self.by_part(part_s)[: int(self.duration_s) // part_s]
        if len(rates) < 3 or rates.min() <= 0 or rates.min() == rates.max():
            return 0.0
        middles_s, logarithms = part_s * np.arange(len(rates)), np.log(rates)
        slope = float(np.polyfit(middles_s, logarithms, 1)[0])
        explained = float(np.corrcoef(middles_s, logarithms)[0, 1] ** 2)
        return slope if explained > _EXPLAINED and slope * self.duration_s > math.log1p(_GROWN) else 0.0

    def scaled(self, factor: float) -> Demand:
        """With ``factor`` times the rates. Of recorded requests, copies come within the same second."""
        return replace(
            self,
            rates_rps=self.rates_rps * factor,
            recorded_s=None if self.recorded_s is None else _copied(self.recorded_s, factor),
            schedule=None,
        )

    def window(self, from_s: float, to_s: float) -> OpenLoop:
        """A part of it as a schedule of Poisson arrivals, at the mean rate of each 10 s."""
        part = self.rates_rps[int(from_s) : int(to_s)]
        means = Demand(part).by_part(10)
        steps = tuple(Step(start_s=10.0 * place, rate_rps=float(rate)) for place, rate in enumerate(means))
        return OpenLoop(duration_s=float(len(part)), rate=Staircase(steps=steps))

    def windows(self, count: int, length_s: int) -> list[Window]:
        """``count`` windows of about ``length_s`` that stand for the whole trace; all of it where that is not longer.

        They are ordered by what they ask of a control loop: their busiest minute, and by how much it exceeds the
        window before. The first stands for itself alone. The others are divided into strata that are equal in time,
        which costs depend on, plus share of requests, which responses are of; the window in the middle of a stratum
        stands for all of it. Weights are then calibrated, so that the windows have the trace's number of requests (a
        regression estimator).
        """
        number = len(self.rates_rps) // length_s
        if number <= count:
            return [Window(0, len(self.rates_rps), 1.0)]
        edges = np.linspace(0, len(self.rates_rps), number + 1).astype(int)
        means = np.add.reduceat(self.rates_rps, edges[:-1]) / np.diff(edges)
        peaks = np.array([_means(self.rates_rps[start:end], 60).max() for start, end in pairwise(edges)])
        rises = np.maximum(peaks - np.concatenate([means[:1], means[:-1]]), 0.0)
        *others, hardest = np.argsort(peaks + rises, kind="stable").tolist()
        shares = 1 / len(others) + means[others] / max(means[others].sum(), 1e-9)
        strata = ((np.cumsum(shares) - shares / 2) / shares.sum() * (count - 1)).astype(int)
        of_strata = [np.array(others)[strata == stratum] for stratum in np.unique(strata)]
        middles = [hardest, *(int(stratum[len(stratum) // 2]) for stratum in of_strata)]
        sizes = np.array([1.0, *(len(stratum) for stratum in of_strata)])
        weights = _calibrated(sizes, means[middles], self.mean_rps).tolist()
        return [
            Window(int(edges[middle]), int(edges[middle + 1]), weight)
            for middle, weight in zip(middles, weights, strict=True)
        ]


# Streams of random numbers.
_BURSTS, _COPIES = 21, 22


def demand_of(schedule: ClosedLoop | OpenLoop, progress: Reading | None = None) -> Demand:
    """The traffic of a schedule; ``progress`` is called while a trace is read.

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
    recording = read_recording(schedule.rate, progress) if isinstance(schedule.rate, Trace) else None
    recorded_s = None
    if recording is not None and recording.rates_rps is None:
        recorded_s = np.concatenate(list(intended_times(schedule, 0, recording=recording)))
        rates = np.bincount(recorded_s.astype(np.int64), minlength=seconds).astype(float)
    else:
        rates = _rates(schedule.rate, recording, seconds, schedule.duration_s)
    if rates.sum() < 1:
        raise MlscaleError("it has no requests", "trace", "give one with traffic")
    begins, notes = (recording.begins, recording.notes) if recording else (None, ())
    return Demand(rates, recorded_s, schedule, begins=begins, notes=notes)


def _rates(rate: RateShape, recording: Recording | None, seconds: int, duration_s: float) -> Floats:
    at = np.arange(seconds) + 0.5
    match rate:
        case Trace():
            assert recording is not None
            return _trace_rates(recording, rate, seconds)
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
    assert recording.rates_rps is not None
    times, ends = recording.times_s / trace.speed, np.arange(seconds + 1)
    place = np.maximum(np.searchsorted(times, ends, side="right") - 1, 0)
    before = np.concatenate([[0.0], np.cumsum(recording.rates_rps[:-1] * np.diff(times))])  # each row
    sent = before[place] + recording.rates_rps[place] * np.maximum(ends - times[place], 0.0)
    return np.maximum(np.diff(sent), 0.0) * trace.keep


def _copied(times_s: Floats, factor: float) -> Floats:
    """``factor`` times as many on average: each as often as that, and once more by chance for what is left; the first
    at its time, the others at any time within its second."""
    rng = np.random.default_rng(_COPIES)
    number = np.floor(factor + rng.random(len(times_s))).astype(np.int64)
    index = np.repeat(np.arange(len(times_s)), number)
    again = np.diff(index, prepend=-1) == 0
    return np.sort(np.where(again, np.floor(times_s[index]) + rng.random(len(index)), times_s[index]))


def _means(values: Floats, length: int) -> Floats:
    """Of each ``length`` values in a row; of all where they are fewer."""
    sums, length = np.concatenate([[0.0], np.cumsum(values)]), min(length, len(values))
    return np.asarray((sums[length:] - sums[:-length]) / length)


def _calibrated(weights: Floats, values: Floats, mean: float) -> Floats:
    """Weights as near to the given ones as can be with the same sum, and by which the mean of ``values`` is ``mean``;
    none is less than a tenth of the given one."""
    off = values - np.average(values, weights=weights)
    spread = float(np.average(off**2, weights=weights))
    if spread <= 0:
        return weights
    return np.asarray(weights * np.maximum(1 + (mean - np.average(values, weights=weights)) * off / spread, 0.1))
