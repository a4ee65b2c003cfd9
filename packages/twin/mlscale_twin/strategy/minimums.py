"""Minimums that change with the time of day: each part's follows its busiest minute or its mean, and rises before it,
so that replicas have started when they are needed."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from mlscale_twin.profile import Profile
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.forecast import ahead, next_season

Changing = Literal["scheduled", "predictive"]
# From when on, s, there are at least how many replicas.
Minimums = tuple[tuple[float, int], ...]
# A minimum is set for so long, s; traffic is taken to repeat after a day.
PART_S: Final = 900
_DAY_S: Final = 86_400
DAY_PARTS: Final = _DAY_S // PART_S
# Utilisations that a minimum is sized for: of the busiest minute, or where the rest is left to a control loop, of the
# mean.
_OF_PEAKS: Final = (0.5, 0.7, 1.0)
_OF_MEANS: Final = (0.7,)
# Share of replicas that are to be ready in time.
_IN_TIME: Final = 0.95


def start_s(profile: Profile, scaling: Mapping[str, Any]) -> float:
    """From the decision for one more replica until it serves, on a machine of its own where those scale, s: nearly all
    (`_IN_TIME`) take no longer."""
    starts, machines, probe = profile.starts, profile.machines, profile.starts.probe_period_s
    parts = [*(step.takes for step in starts.steps), starts.noticed]
    if machines is not None:
        parts += [machines.boot_overhead, machines.registers, machines.turns_ready]
        parts += [machines.boot] if machines.boot else []
    probe_s = scaling["readiness_period_s"] if isinstance(probe, str) else probe.value if probe else 0.0
    return float(probe_s + sum(part.quantile(_IN_TIME) for part in parts))


def minimums(
    demand: Demand, profile: Profile, scaling: Mapping[str, Any], request_s: float, most: int
) -> list[tuple[Changing, tuple[Minimums, Minimums]]]:
    """The policies that change the minimum, each with several: over the trace, and over a day after it.

    Scheduled: the first day's, again every day; within that day it is hindsight. Predictive: each part's is forecast
    from what is known before it begins to rise; a trace shorter than two days cannot tell what that is worth. A single
    part has neither.

    Args:
        request_s: for which a request keeps a replica busy. most: replicas that there is room for.
    """
    peaks = demand.peaks(PART_S)
    if len(peaks) < 2:
        return []
    decision_s = sum(profile.loop[name].value for name in ("sync_period_s", "control_period_s") if name in profile.loop)
    starts = profile.starts.at_once
    at_once = scaling.get("startup_concurrency") or (starts.value if starts else math.inf)
    one_s = start_s(profile, scaling)

    def lead_s(more: int) -> int:
        return min(PART_S, math.ceil(decision_s + one_s * max(1, math.ceil(more / at_once))))

    def changes(rates: npt.NDArray[np.float64], utilisation: float) -> Minimums:
        needed = [min(max(1, math.ceil(rate * request_s / utilisation)), most) for rate in rates]
        levels = [(0.0, needed[0])]
        for part, (before, number) in enumerate(itertools.pairwise(needed), 1):
            if number != before:
                early_s = lead_s(number - before) if number > before else 0
                levels.append((float(part * PART_S - early_s), number))
        return tuple(levels)

    def next_day(rates: npt.NDArray[np.float64], utilisation: float) -> Minimums:
        if len(rates) < DAY_PARTS:  # of the rest of the day the trace says nothing
            return changes(np.append(rates, 0.0), utilisation)
        days = changes(np.tile(rates, 3), utilisation)  # the middle one, with what the day after needs to begin with
        now = [change for change in days if change[0] <= _DAY_S][-1]
        later = [(from_s - _DAY_S, least) for from_s, least in days if _DAY_S < from_s < 2 * _DAY_S]
        return ((0.0, now[1]), *later)

    found: list[tuple[Changing, tuple[Minimums, Minimums]]] = []
    sizes = [(peaks, each) for each in _OF_PEAKS] + [(demand.by_part(PART_S), each) for each in _OF_MEANS]
    for rates, utilisation in sizes:
        day = rates[:DAY_PARTS]
        found.append(("scheduled", (changes(np.resize(day, len(rates)), utilisation), next_day(day, utilisation))))
        if len(rates) >= 2 * DAY_PARTS:
            after = np.roll(next_season(rates, DAY_PARTS), len(rates) % DAY_PARTS)  # from the trace's time of day on
            both = changes(ahead(rates, DAY_PARTS), utilisation), next_day(after, utilisation)
            found.append(("predictive", both))
    return found
