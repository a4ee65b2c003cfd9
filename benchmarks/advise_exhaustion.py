"""`mlscale advise` against exhaustion: its search, and every setting simulated over the whole trace, by the same rule.

    python benchmarks/advise_exhaustion.py [--environments k3s eks ecs] [--settings 300] [--traces day ramp ...]

Twenty traces, of each two objectives. A row of ``--out`` for each trace, objective and place: what exhaustion finds and
what is advised, and how long both took. A stopped command resumes: what is there already is not tried again.
``--document`` writes the rows of data/exhaustion.csv into docs/strategy.md instead.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.cost import read_prices
from mlscale.host.facts import host_facts
from mlscale.runs.info import host_name
from mlscale_paper import places
from mlscale_paper.results import filled
from mlscale_twin.profile_files import read_profile
from mlscale_twin.strategy.advice import PLACES
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.strategy.search import Candidate, over_all, preferred, repeated, search
from mlscale_twin.strategy.strategies import Place, Strategy, strategies
from mlscale_twin.strategy.trial import Question
from mlscale_twin.studies.executors import executor

Floats = npt.NDArray[np.float64]
# Of each trace one pair, in turn.
OBJECTIVES: Final = ({"p95_s": 1.0}, {"mean_s": 0.25}), ({"p95_s": 0.5}, {"sigma_s": 0.2})
# An advised setting may cost so many times as much as the best one, and miss by so much more what nothing can meet.
DEARER: Final = 1.05
FARTHER: Final = 0.05
SIZES: Final = {"cpu_cores": 0.3}
ROWS: Final = Path("data/exhaustion.csv")
_KEY: Final = ["trace", "objective"]


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


def questions() -> list[tuple[str, dict[str, float]]]:
    """Every trace with each of its objectives."""
    return [(trace, asked) for number, trace in enumerate(TRACES) for asked in OBJECTIVES[number % len(OBJECTIVES)]]


def in_words(asked: Mapping[str, float]) -> str:
    return ", ".join(f"{name.removesuffix('_s')} {limit_s:g} s" for name, limit_s in asked.items())


def exhaustive(question: Question, tried: list[Strategy], pool: Executor) -> list[Candidate]:
    """Every strategy over the whole trace in each of its places; of each place, the first ones with several seeds."""
    every = [Candidate.of(strategy, place) for strategy in tried for place in strategy.places]
    return repeated(question, over_all(question, every, pool), pool)


def both_ways(question: Question, tried: list[Strategy], pool: Executor) -> list[dict[str, Any]]:
    """A row for each place."""
    begun_s = time.perf_counter()
    advised = search(question, tried, pool)
    searched_s = time.perf_counter()
    best = exhaustive(question, tried, pool)
    took = {"search_s": searched_s - begun_s, "exhaustion_s": time.perf_counter() - searched_s, "settings": len(tried)}
    return [
        {"place": place, **_first(question, best, place, "best"), **_first(question, advised, place, "advised"), **took}
        for place in PLACES
        if any(each.place == place for each in best)
    ]


def _first(question: Question, candidates: Sequence[Candidate], place: Place, whose: str) -> dict[str, Any]:
    first = preferred(question.objective, [each for each in candidates if each.place == place])[0]
    low, high = question.objective.interval(first.runs)
    verdict = "met" if high <= 0 else "too close to call" if low <= 0 else "cannot be met"
    found = {"": first.strategy.name, "_usd": first.figures.usd_per_month, "_verdict": verdict}
    return {f"{whose}{name}": value for name, value in {**found, "_margin": fmean((low, high))}.items()}


def is_right(row: Mapping[str, Any]) -> bool:
    """Whether what is advised is as good as what exhaustion finds, and hardly dearer (`DEARER`)."""
    verdicts = ["met", "too close to call", "cannot be met"]
    advised, best = (verdicts.index(row[f"{whose}_verdict"]) for whose in ("advised", "best"))
    if advised != best:
        return advised < best
    if row["best_verdict"] == "cannot be met":
        return bool(row["advised_margin"] <= row["best_margin"] + FARTHER)
    return bool(row["advised_usd"] <= DEARER * row["best_usd"])


def table(rows: pd.DataFrame) -> str:
    """A line for each trace and objective, and what it says, in Markdown."""
    names = [PLACES[place] for place in PLACES]
    lines = [
        f"| trace | asked | {' | '.join(names)} | exhaustion (s) | search (s) |",
        f"|{' --- |' * (len(names) + 4)}",
    ]
    for (trace, objective), group in rows.groupby(_KEY, sort=False):
        cells = [_cell(group[group["place"] == place]) for place in PLACES]
        times = [f"{group[name].iloc[0]:.1f}" for name in ("exhaustion_s", "search_s")]
        lines.append(f"| {' | '.join([str(trace), str(objective), *cells, *times])} |")
    others = rows[rows["advised"] != rows["best"]]
    ratios = others["advised_usd"] / others["best_usd"]
    asked = rows.groupby(_KEY).first()
    told = [
        f"{rows.apply(is_right, axis=1).sum()} of {len(rows)} answers are right.",
        f"{len(rows) - len(others)} are the setting that exhaustion finds.",
        f"Another one costs {ratios.min():.3f} to {ratios.max():.3f} times as much." if len(others) else "",
        f"About {round(asked['settings'].median(), -1):.0f} settings each; exhaustion takes "
        f"{asked['exhaustion_s'].sum() / asked['search_s'].sum():.1f} times as long in all.",
        f"Simulated on {'; '.join(rows['host'].unique())}.",
    ]
    return "\n".join([*lines, "", f"*{' '.join(filter(None, told))}*", ""])


def _cell(row: pd.DataFrame) -> str:
    if row.empty:
        return "-"
    one = row.iloc[0]
    usd = (
        f"{one['best_usd']:.2f}"
        if one["best"] == one["advised"]
        else f"{one['best_usd']:.2f}, advised: {one['advised_usd']:.2f}"
    )
    what = one["advised"] if one["advised_verdict"] == "met" else f"{one['advised']} ({one['advised_verdict']})"
    return f"{usd}: {what}{'' if is_right(one) else ' **wrong**'}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--environments", nargs="+", default=["k3s", "eks", "ecs"])
    parser.add_argument("--settings", type=int, default=300)
    parser.add_argument("--traces", nargs="+", default=list(TRACES), choices=list(TRACES))
    parser.add_argument("--out", type=Path, default=ROWS)
    parser.add_argument("--document", action="store_true", help="only write data/exhaustion.csv into docs/strategy.md")
    options = parser.parse_args()
    if options.document:
        document = places.checkout() / "docs/strategy.md"
        document.write_text(filled(document, "exhaustion", table(pd.read_csv(places.checkout() / ROWS))))
        return
    names, prices, host = options.environments, read_prices(), host_name(host_facts())
    profiles = {name: read_profile({"eks": "eks-karpenter"}.get(name, name)) for name in names}
    rows = pd.read_csv(options.out) if options.out.exists() else pd.DataFrame(columns=_KEY)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with executor(None) as pool:
        minute = Question(Demand(np.ones(60)), Objective(p95_s=1.0), profiles, prices)
        both_ways(minute, strategies(names, profiles, minute.demand, 10, sizes=SIZES), pool)  # compiles the twin
        for trace, asked in questions():
            done = ((rows["trace"] == trace) & (rows["objective"] == in_words(asked))).any()
            if trace not in options.traces or done:
                continue
            demand = Demand(np.repeat(TRACES[trace](), 60))
            tried = strategies(names, profiles, demand, options.settings, sizes=SIZES)
            question = Question(demand, Objective(**asked), profiles, prices)
            found = [
                {"trace": trace, "objective": in_words(asked), **row, "host": host}
                for row in both_ways(question, tried, pool)
            ]
            rows = pd.concat([rows, pd.DataFrame(found)], ignore_index=True)
            rows.to_csv(options.out, index=False, float_format="%.6g")
            wrong = sum(not is_right(row) for row in found)
            took = f"{found[0]['exhaustion_s']:.0f} s, {found[0]['search_s']:.0f} s"
            print(f"{trace}, {in_words(asked)}: {wrong} of {len(found)} answers wrong; {took}", flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
