"""`mlscale advise` against exhaustion: its search, and every setting simulated over the whole trace, by the same rule.

    python benchmarks/advise_exhaustion.py [--environments k3s eks ecs] [--settings 300] [--traces day ramp ...]

A row for each trace, objective and place: what exhaustion finds, what is advised, their costs, and how long both took.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.cost import read_prices
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import PLACES
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.strategy.search import Candidate, over_all, preferred, repeated, search
from mlscale_twin.strategy.strategies import Strategy, strategies
from mlscale_twin.strategy.trial import Question
from mlscale_twin.studies.executors import executor

Floats = npt.NDArray[np.float64]
OBJECTIVES: Final = (Objective(p95_s=1.0), Objective(p95_s=0.5), Objective(mean_s=0.25), Objective(sigma_s=0.2))


def _minutes(hours: float) -> Floats:
    return np.arange(60 * hours)


def _noisy(rates: Floats, spread: float, seed: int) -> Floats:
    return rates * np.random.default_rng(seed).lognormal(0.0, spread, len(rates))


def _spiky(base: float, spike: float, share: float, hours: float, seed: int) -> Floats:
    return np.asarray(base + spike * (np.random.default_rng(seed).random(round(60 * hours)) < share), dtype=np.float64)


def _wave(low: float, high: float, period_min: float, hours: float) -> Floats:
    return np.asarray(low + (high - low) * (1 - np.cos(2 * np.pi * _minutes(hours) / period_min)) / 2)


def _daily(minute: int, width: int, base: float, spike: float, days: int) -> Floats:
    at = _minutes(24 * days) % (24 * 60)
    return np.where((at >= minute) & (at < minute + width), spike, base)


# Rates by the minute, 1/s.
TRACES: Final[Mapping[str, Callable[[], Floats]]] = {
    "flat": lambda: np.full(180, 5.0),
    "flat and low": lambda: np.full(180, 0.3),
    "flat and high": lambda: np.full(120, 30.0),
    "ramp": lambda: np.linspace(0.5, 12.0, 240),
    "ramp down": lambda: np.linspace(12.0, 0.5, 240),
    "growth": lambda: 1.0 * 1.01 ** _minutes(4),
    "step": lambda: np.repeat([2.0, 12.0], 120),
    "pulse": lambda: np.repeat([1.0, 15.0, 1.0], [150, 20, 150]),
    "slow wave": lambda: _wave(1.0, 11.0, 240, 8),
    "wave": lambda: _wave(1.0, 11.0, 60, 5),
    "fast wave": lambda: _wave(1.0, 11.0, 10, 4),
    "noise": lambda: _noisy(np.full(300, 5.0), 0.5, 1),
    "noisy wave": lambda: _noisy(_wave(2.0, 10.0, 180, 6), 0.25, 2),
    "spikes": lambda: _spiky(2.0, 10.0, 0.05, 6, 3),
    "rare spikes": lambda: _spiky(1.0, 20.0, 0.01, 6, 4),
    "many spikes": lambda: _spiky(2.0, 8.0, 0.3, 4, 5),
    "mix": lambda: _noisy(_wave(1.0, 9.0, 180, 6), 0.25, 6) + _spiky(0.0, 8.0, 0.03, 6, 7),
    "office": lambda: np.repeat([1.0, 1, 1, 2, 8, 14, 16, 12, 15, 14, 8, 4, 2, 1], 60),
    "daily spike": lambda: _daily(720, 30, 1.0, 20.0, 2),
    "daily block": lambda: _daily(540, 480, 1.0, 8.0, 2),
}


def demand_by_minute(rates_rps: Floats) -> Demand:
    return Demand(np.repeat(rates_rps, 60))


def exhaustive(question: Question, tried: list[Strategy], pool: Executor) -> list[Candidate]:
    """Every strategy over the whole trace in each of its places; of each place, the first ones with several seeds."""
    every = [Candidate.of(strategy, place) for strategy in tried for place in strategy.places]
    return repeated(question, over_all(question, every, pool), pool)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--environments", nargs="+", default=["k3s", "eks", "ecs"])
    parser.add_argument("--settings", type=int, default=300)
    parser.add_argument("--traces", nargs="+", default=list(TRACES))
    options = parser.parse_args()
    names, prices = options.environments, read_prices()
    profiles = {name: read_profile({"eks": "eks-karpenter"}.get(name, name)) for name in names}
    print("| trace | objective | place | exhaustion | advised | USD of exhaustion | USD | s of exhaustion | s |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    with executor(None) as pool:
        for trace in options.traces:
            demand = demand_by_minute(TRACES[trace]())
            tried = strategies(names, profiles, demand, options.settings, sizes={"cpu_cores": 0.3})
            for objective in OBJECTIVES:
                question = Question(demand, objective, profiles, prices)
                begun_s = time.perf_counter()
                found = search(question, tried, pool)
                searched_s = time.perf_counter()
                everything = exhaustive(question, tried, pool)
                took_s = (time.perf_counter() - searched_s, searched_s - begun_s)
                for place in PLACES:
                    both = [[each for each in some if each.place == place] for some in (everything, found)]
                    if all(both):
                        best = [preferred(objective, some)[0] for some in both]
                        cells = [
                            *(one.strategy.name for one in best),
                            *(f"{one.figures.usd_per_month:.2f}" for one in best),
                        ]
                        met = ["" if objective.interval(one.runs)[1] <= 0 else " (not surely)" for one in best]
                        cells[:2] = [f"{name}{doubt}" for name, doubt in zip(cells[:2], met, strict=True)]
                        asked = ", ".join(f"{k} {v:g}" for k, v in vars(objective).items() if v and k != "error_budget")
                        times = [f"{each_s:.1f}" for each_s in took_s]
                        print(f"| {' | '.join([trace, asked, place, *cells, *times])} |", flush=True)


if __name__ == "__main__":
    main()
