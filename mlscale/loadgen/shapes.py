"""Rate shapes as cumulative rates: Lambda(t) = integral of rate over [0, t], and its exact inverse.

Event number e (any non-negative real) happens at Lambda^-1(e) = inf{t: Lambda(t) > e}: if the rate is zero for a while,
that is when it resumes. Evenly spaced arrivals are e = 0, 1, 2, ...; a Poisson process is e = cumulated
unit exponentials (time rescaling: Cinlar, Introduction to Stochastic Processes, 1975, ch. 4.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mlscale.runs.schedule import Constant, Ramp, Sine, Spike, Staircase

Floats = npt.NDArray[np.float64]


class Cumulative(Protocol):
    """A cumulative rate. ``inverse`` maps events to seconds; inf for events that are never reached."""

    def inverse(self, events: Floats) -> Floats: ...


class PiecewiseConstant:
    """``rates_rps[i]`` from ``starts_s[i]`` to the next start; the last one holds indefinitely."""

    def __init__(self, starts_s: Sequence[float] | Floats, rates_rps: Sequence[float] | Floats) -> None:
        self._starts = np.asarray(starts_s, dtype=np.float64)
        self._rates = np.asarray(rates_rps, dtype=np.float64)
        self._knots = np.concatenate(([0.0], np.cumsum(self._rates[:-1] * np.diff(self._starts))))

    def inverse(self, events: Floats) -> Floats:
        if len(self._rates) == 1 and self._rates[0] > 0:  # as below, without the search
            return np.asarray(self._starts[0] + events / self._rates[0])
        # side="right" takes the last of equal knots (zero rate in between), where the rate resumes
        piece = np.searchsorted(self._knots, events, side="right") - 1
        rates = self._rates[piece]
        with np.errstate(divide="ignore", invalid="ignore"):
            times = self._starts[piece] + (events - self._knots[piece]) / rates
        times[rates <= 0] = np.inf
        return times


class Linear:
    """rate(t) = from + slope t, slope = (to - from) / duration; Lambda(t) = from t + slope t^2 / 2."""

    def __init__(self, from_rps: float, to_rps: float, duration_s: float) -> None:
        self._from = from_rps
        self._slope = (to_rps - from_rps) / duration_s

    def inverse(self, events: Floats) -> Floats:
        # 2 e / (a + sqrt(a^2 + 2 s e)) avoids cancellation, and is valid for slope 0
        discriminant = self._from**2 + 2.0 * self._slope * events
        root = np.sqrt(np.maximum(discriminant, 0.0))
        divisor = self._from + root
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(divisor > 0, 2.0 * events / divisor, np.inf if self._slope <= 0 else 0.0)
        return np.where(discriminant >= 0, times, np.inf)


class Sinusoid:
    """rate(t) = m + a sin(w t + phase), w = 2 pi / period; Lambda(t) = m t + (a / w) (cos(phase) - cos(w t + phase)).

    Has no closed inverse: Newton's method within a bracket from the bounded cosine, to float precision.
    """

    _STEPS = 80

    def __init__(self, mean_rps: float, amplitude_rps: float, period_s: float, phase_rad: float) -> None:
        self._mean, self._amplitude, self._phase = mean_rps, amplitude_rps, phase_rad
        self._omega = 2.0 * np.pi / period_s
        self._swing = amplitude_rps / self._omega

    def cumulative(self, times_s: Floats) -> Floats:
        """Lambda(t)."""
        angle = self._omega * times_s + self._phase
        return np.asarray(self._mean * times_s + self._swing * (np.cos(self._phase) - np.cos(angle)), dtype=np.float64)

    def inverse(self, events: Floats) -> Floats:
        if self._mean == 0:
            return np.full_like(events, np.inf)
        centre = events - self._swing * np.cos(self._phase)
        low = np.maximum((centre - self._swing) / self._mean, 0.0)
        high = np.maximum((centre + self._swing) / self._mean, 0.0)
        times = np.clip(events / self._mean, low, high)
        converged = np.zeros(len(events), dtype=np.bool_)  # then kept, so that no event depends on its neighbours
        for _ in range(self._STEPS):
            excess = self.cumulative(times) - events
            low = np.where(excess <= 0, times, low)
            high = np.where(excess >= 0, times, high)
            rate = self._mean + self._amplitude * np.sin(self._omega * times + self._phase)
            with np.errstate(divide="ignore", invalid="ignore"):
                step = times - excess / rate
            inside = (step > low) & (step < high)
            improved = np.where(inside, step, 0.5 * (low + high))
            close = np.abs(improved - times) <= 4.0 * np.spacing(np.maximum(times, 1.0))
            times = np.where(converged, times, improved)
            converged |= close
            if converged.all():
                break
        return times


def cumulative_of(rate: Constant | Staircase | Ramp | Sine | Spike, duration_s: float) -> Cumulative:
    """The cumulative rate of any shape but a recorded trace."""
    match rate:
        case Constant(rate_rps=rate_rps):
            return PiecewiseConstant([0.0], [rate_rps])
        case Staircase(steps=steps):
            return PiecewiseConstant([step.start_s for step in steps], [step.rate_rps for step in steps])
        case Spike(base_rps=base, spike_rps=spike, at_s=at_s, width_s=width_s):
            if at_s == 0:
                return PiecewiseConstant([0.0, width_s], [spike, base])
            return PiecewiseConstant([0.0, at_s, at_s + width_s], [base, spike, base])
        case Ramp(from_rps=from_rps, to_rps=to_rps):
            return Linear(from_rps, to_rps, duration_s)
        case Sine(mean_rps=mean, amplitude_rps=amplitude, period_s=period_s, phase_rad=phase_rad):
            return Sinusoid(mean, amplitude, period_s, phase_rad)
