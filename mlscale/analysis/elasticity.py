"""Elasticity after the SPEC RG (METHOD §3): accuracy, timeshare, jitter of supply against demand; open loop only.

With demand d and supply s in replicas, over [0, T]:
    a_U = 1/T int max(d - s, 0) dt, a_O = 1/T int max(s - d, 0) dt   (accuracy: replicas too few, too many)
    t_U, t_O = share of the time with s < d, with s > d              (timeshare)
    jitter = (E_S - E_D) / T                                         (changes of supply less changes of demand, per
    second)
Source: N. R. Herbst, S. Kounev, R. Reussner, ICAC 2013, 23-27, as extended by the SPEC RG Cloud ("Ready for
rain?", 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis.components import replicas_in_all
from mlscale.analysis.windows import Floats
from mlscale.runs import Constant, MlscaleError, OpenLoop, Ramp, Run, Sine, Spike, Staircase

Demand = Callable[[float], float]
"""Replicas needed at a rate (requests/s), calibrated per environment at fixed size."""
SMOOTH_STEP_S: Final = 1.0
TRACE_BIN_S: Final = 10.0


@dataclass(frozen=True)
class Elasticity:
    """Replicas (a_U, a_O), shares of the time (t_U, t_O), changes per second (jitter); ``observed_s`` is T."""

    a_u: float
    a_o: float
    t_u: float
    t_o: float
    jitter_hz: float
    observed_s: float


def elasticity(run: Run, demand: Demand, *, from_s: float = 0.0) -> Elasticity:
    """Elasticity of an open-loop run from ``from_s`` to the schedule's end.

    Raises:
        MlscaleError: a closed loop (its demand follows the server), or no sample of replicas.
    """
    curve = demand_curve(run, demand)
    supply = replicas_in_all(run.replicas)
    if supply.empty:
        raise MlscaleError("no sample of replicas", str(run.path), "measure the run again")
    end_s = run.info.schedule.duration_s
    return of_steps(
        curve["t_s"].to_numpy(dtype=float),
        curve["replicas"].to_numpy(dtype=float),
        supply["t_s"].to_numpy(dtype=float),
        supply["ready"].to_numpy(dtype=float),
        from_s,
        end_s,
    )


def of_steps(
    demand_t: Floats, demand: Floats, supply_t: Floats, supply: Floats, from_s: float, to_s: float
) -> Elasticity:
    """Elasticity of two step functions (a value holds until the next time) over [from_s, to_s].

    Before its first sample a function has its first value. An empty span raises ValueError.
    """
    if not to_s > from_s:
        raise ValueError(f"an empty span: {from_s} to {to_s} s")
    edges = np.unique(np.clip(np.concatenate([demand_t, supply_t, [from_s, to_s]]), from_s, to_s))
    starts, widths = edges[:-1], np.diff(edges)
    d, s = _at(demand_t, demand, starts), _at(supply_t, supply, starts)
    total = to_s - from_s
    changes = np.count_nonzero(np.diff(s)) - np.count_nonzero(np.diff(d))
    return Elasticity(
        a_u=float(np.sum(np.maximum(d - s, 0) * widths) / total),
        a_o=float(np.sum(np.maximum(s - d, 0) * widths) / total),
        t_u=float(np.sum(widths[s < d]) / total),
        t_o=float(np.sum(widths[s > d]) / total),
        jitter_hz=float(changes / total),
        observed_s=float(total),
    )


def demand_curve(run: Run, demand: Demand) -> pd.DataFrame:
    """Replicas needed over time, from the rate that the schedule asks for: t_s, rate_rps, replicas (rounded up).

    Constant rates, staircases and spikes are exact; ramps and sines are taken every second, in the middle of it; a
    trace is counted in bins of 10 s.
    """
    schedule = run.info.schedule
    if not isinstance(schedule, OpenLoop):
        raise MlscaleError(
            "a closed loop has no demand of its own: its rate follows the server's speed",
            str(run.path),
            "take runs of an open loop",
        )
    times, rates = _rates(run, schedule)
    needed = [float(np.ceil(demand(float(rate)) - 1e-9)) for rate in rates]
    return pd.DataFrame({"t_s": times, "rate_rps": rates, "replicas": needed})


def _rates(run: Run, schedule: OpenLoop) -> tuple[Floats, Floats]:
    seconds = np.arange(0.0, schedule.duration_s, SMOOTH_STEP_S)
    middle = seconds + SMOOTH_STEP_S / 2
    match schedule.rate:
        case Constant(rate_rps=rate):
            return np.zeros(1), np.full(1, rate)
        case Staircase(steps=steps):
            return np.asarray([step.start_s for step in steps]), np.asarray([step.rate_rps for step in steps])
        case Spike(base_rps=base, spike_rps=spike, at_s=at_s, width_s=width_s):
            return np.asarray([0.0, at_s, at_s + width_s]), np.asarray([base, spike, base])
        case Ramp(from_rps=low, to_rps=high):
            return seconds, low + (high - low) * middle / schedule.duration_s
        case Sine(mean_rps=mean, amplitude_rps=amplitude, period_s=period, phase_rad=phase):
            return seconds, mean + amplitude * np.sin(2 * np.pi * middle / period + phase)
        case _:
            edges = np.arange(0.0, schedule.duration_s + TRACE_BIN_S, TRACE_BIN_S)
            counts, _ = np.histogram(run.requests["intended_s"].to_numpy(dtype=float), edges)
            return edges[:-1], counts / TRACE_BIN_S


def _at(times: Floats, values: Floats, at_s: Floats) -> Floats:
    return values[np.clip(np.searchsorted(times, at_s, side="right") - 1, 0, len(values) - 1)]
