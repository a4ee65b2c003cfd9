"""From what a replica can do to think time, step and L: the pilot's decisions, pure (METHOD §3, §5)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

BASELINE_CLIENTS: Final = 2
UTILISATION: Final = (0.3, 0.4)
DEMAND: Final = (2.5, 3.0)
_LEVEL_ABOVE_PLATEAU: Final = 1.5
_LEVEL_GRID_S: Final = 0.05


@dataclass(frozen=True)
class Measured:
    """What the pilot found in one environment."""

    capacity_rps: float
    """Right answers per second of one saturated replica."""
    light_response_s: float
    """Mean response while next to nothing queues, s."""
    start_s: float


def think_time(found: Mapping[str, Measured]) -> float:
    """Mean think time, s, at which 2 clients use 0.3 to 0.4 of one replica.

    utilisation = clients / ((think + response) * capacity). One think time serves all environments: their geometric
    mean is put in the middle; but where they differ too much for the range, the slowest one is held at its upper end,
    since more than that makes it grow before the step.
    """
    middle, most = math.sqrt(UTILISATION[0] * UTILISATION[1]), UTILISATION[1]
    centred = _think(lambda think_s: _mean_log(found, think_s) - math.log(middle))
    held = _think(lambda think_s: max(utilisation(each, think_s) for each in found.values()) - most)
    return math.ceil(100 * max(centred, held)) / 100


def _mean_log(found: Mapping[str, Measured], think_s: float) -> float:
    return float(np.mean([math.log(utilisation(measured, think_s)) for measured in found.values()]))


def _think(off: Callable[[float], float]) -> float:
    """The least think time in [0, 60] s at which ``off``, which falls with it, is not above 0."""
    low_s, high_s = 0.0, 60.0
    if off(low_s) <= 0:
        return 0.0
    for _ in range(60):
        mid_s = (low_s + high_s) / 2
        low_s, high_s = (mid_s, high_s) if off(mid_s) > 0 else (low_s, mid_s)
    return high_s


def utilisation(measured: Measured, think_s: float, clients: int = BASELINE_CLIENTS) -> float:
    """Share of one replica that ``clients`` ask for while nothing queues; above 1: replicas of demand."""
    return clients / ((think_s + measured.light_response_s) * measured.capacity_rps)


def step_clients(found: Mapping[str, Measured], think_s: float) -> int:
    """Clients whose demand is nearest to the middle of 2.5 to 3 replicas (geometric mean over the environments)."""
    per_client = math.exp(np.mean([math.log(utilisation(measured, think_s, 1)) for measured in found.values()]))
    return max(BASELINE_CLIENTS + 1, round(math.sqrt(DEMAND[0] * DEMAND[1]) / per_client))


def level(plateaus_s: Mapping[str, float]) -> float:
    """L: 1.5 times the slowest environment's mean response once it has scaled, rounded up to 50 ms."""
    return round(math.ceil(_LEVEL_ABOVE_PLATEAU * max(plateaus_s.values()) / _LEVEL_GRID_S - 1e-9) * _LEVEL_GRID_S, 3)
