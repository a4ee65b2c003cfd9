"""The sandbox's load: a rate for each of a few equal parts, drawn by hand, chosen, or taken from a trace."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from mlscale.loadgen.schedule_files import read_schedule
from mlscale.runs import MlscaleError, OpenLoop, Staircase, Step
from mlscale_twin.strategy.demand import demand_of

PARTS: Final = 12
MOST_RPS: Final = 30.0
# Requests per second in each part. The first is the shape of the protocol's step.
SHAPES: Final[dict[str, tuple[float, ...]]] = {
    "step": (2.0,) * 3 + (11.0,) * 9,
    "step and back": (2.0,) * 3 + (11.0,) * 5 + (2.0,) * 4,
    "ramp": tuple(1.0 + part for part in range(PARTS)),
    "spike": (2.0,) * 4 + (20.0,) + (2.0,) * 7,
    "waves": (2.0, 2.0, 10.0, 10.0) * 3,
}


def rates_of(load: str | Sequence[float]) -> tuple[float, ...]:
    """The rates of a shape by its name, or those given.

    Raises:
        MlscaleError: neither a shape nor `PARTS` rates.
    """
    if isinstance(load, str) and load in SHAPES:
        return SHAPES[load]
    try:
        rates = tuple(float(rate) for rate in load) if not isinstance(load, str) else ()
    except (TypeError, ValueError):
        rates = ()
    if len(rates) != PARTS or not all(0 <= rate <= MOST_RPS for rate in rates):
        remedy = f"choose one of: {', '.join(SHAPES)}; or give {PARTS} rates of at most {MOST_RPS:g} requests/s"
        raise MlscaleError(f"no such load: {reprlib.repr(load)}", "load", remedy)
    return rates


def schedule_of(rates_rps: Sequence[float], duration_s: float) -> OpenLoop:
    """Poisson arrivals at each part's rate."""
    part_s = duration_s / len(rates_rps)
    steps = tuple(Step(start_s=part_s * place, rate_rps=rate) for place, rate in enumerate(rates_rps))
    return OpenLoop(duration_s=duration_s, rate=Staircase(steps=steps))


def rates_of_trace(file: Path | str) -> tuple[float, ...]:
    """The mean rate in each of `PARTS` parts of a trace, scaled down if it exceeds `MOST_RPS`.

    Raises:
        MlscaleError: as `read_schedule` and `demand_of`.
    """
    demand = demand_of(read_schedule(file))
    means = np.array([part.mean() for part in np.array_split(demand.rates_rps, PARTS) if len(part)])
    scaled = means * min(1.0, MOST_RPS / means.max())
    return tuple(round(float(rate), 1) for rate in scaled)
