"""The search: all strategies by the fluid model, dozens by the twin in critical windows, a few over the whole trace.

Each stage says why it prunes a strategy. All strategies get the same arrivals (common random numbers).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from mlscale.cost import Prices, Tenancy, Usage, machine_changes, mean_and_peak, usd_per_month
from mlscale.measurement.measure import Progress, no_progress
from mlscale.runs.schedule import OpenLoop
from mlscale_twin.profile import Profile
from mlscale_twin.strategy import fluid
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.objective import Figures, Objective, pareto_front
from mlscale_twin.strategy.strategies import PART_S, Place, Strategy, records

Stage = Literal["fluid", "windows", "whole trace"]
# Strategies that the twin simulates in the critical windows, and over the whole trace.
IN_WINDOWS: Final = 48
OVER_ALL: Final = 16
# Strategies that the fluid model simulates in one go.
_CHUNK: Final = 64
_WINDOWS: Final = 3
_WINDOW_S: Final = 600
# Simulated before a window and not counted: replicas, machines and metrics reach their usual state.
_WARM_UP_S: Final = 300
# The fluid model is approximate: a strategy that misses the objective by less than this may meet it after all.
_NEARLY: Final = 0.5


@dataclass(frozen=True)
class Candidate:
    """A strategy in one place, with its figures at the last ``stage`` that it reached; ``pruned``: why it went no
    further."""

    strategy: Strategy
    place: Place
    figures: Figures
    stage: Stage
    pruned: str = ""


@dataclass(frozen=True)
class Question:
    """The traffic, what is asked of the strategy, and what a search needs besides.

    ``profiles``: by environment. ``work_factor``: CPU per answer relative to the profiles'. ``progress``: called with
    what happens and the share done.
    """

    demand: Demand
    objective: Objective
    profiles: Mapping[str, Profile]
    prices: Prices
    work_factor: float = 1.0
    seed: int = 0
    progress: Progress = no_progress


def search(question: Question, strategies: Sequence[Strategy], executor: Executor) -> list[Candidate]:
    """All strategies in each of their places, those that reached the last stage first."""
    question.progress(f"{len(strategies)} settings by the fluid model", 0.0)
    # Compiles the model, if nobody has yet, before several workers do.
    fluid.simulate(np.ones(1), *records(strategies[:1], question.profiles), part_s=PART_S, limit_s=1.0)
    best, pruned = _best(question.objective, approximately(question, strategies, executor), IN_WINDOWS)
    _simulate(*_job(question, best[0].strategy, _part(question.demand, 0, 1)))
    closer = in_windows(question, best, executor)
    finalists, also_pruned = _best(question.objective, closer, OVER_ALL)
    final = over_all(question, finalists, executor)
    # Where none of them meets the objective after all, others that may: evenly from the cheapest to the dearest.
    met = {candidate.place for candidate in final if question.objective.excess(candidate.figures) <= 0}
    hopeful = [
        candidate
        for candidate in sorted(also_pruned, key=lambda each: rank(question.objective, each.figures))
        if candidate.place not in met and question.objective.excess(candidate.figures) <= 0
    ]
    more = hopeful[:: math.ceil(len(hopeful) / OVER_ALL) or 1]
    if more:
        final += over_all(question, [replace(candidate, pruned="") for candidate in more], executor)
    return [*final, *(candidate for candidate in also_pruned if candidate not in more), *pruned]


def approximately(question: Question, strategies: Sequence[Strategy], executor: Executor) -> list[Candidate]:
    """All strategies in each of their places, by the fluid model."""
    figures = by_fluid_model(question, strategies, executor)
    return [
        Candidate(strategy, place, _with_cost(question, strategy, place, its_figures), "fluid")
        for strategy, its_figures in zip(strategies, figures, strict=True)
        for place in strategy.places
    ]


def by_fluid_model(
    question: Question,
    strategies: Sequence[Strategy],
    executor: Executor,
    counted: npt.NDArray[np.bool_] | None = None,
) -> list[Figures]:
    """Approximate figures of each strategy, without cost; ``counted``: of which seconds' requests, (n,)."""
    table, minimums = records(strategies, question.profiles, question.work_factor)
    asked: dict[str, Any] = {"part_s": PART_S, "limit_s": question.objective.limit_s, "counted": counted}
    rates = question.demand.rates_rps
    jobs = [
        executor.submit(fluid.simulate, rates, table[start : start + _CHUNK], minimums[start : start + _CHUNK], **asked)
        for start in range(0, len(strategies), _CHUNK)
    ]
    return [_of_totals(total, question.demand.duration_s) for job in jobs for total in job.result()]


def _of_totals(total: Any, duration_s: float) -> Figures:
    requests = max(float(total["requests"]), 1e-9)
    mean_s = float(total["response_s"]) / requests
    return Figures(
        slow=float(total["slow"]) / requests,
        mean_s=mean_s,
        sd_s=math.sqrt(max(0.0, float(total["squares_s2"]) / requests - mean_s**2)),
        failed=float(total["failed"]) / requests,
        usd_per_month=0.0,
        replicas=float(total["replica_s"]) / duration_s,
        peak=int(total["peak"]),
        machines=float(total["machine_s"]) / duration_s,
    )


def _with_cost(question: Question, strategy: Strategy, place: Place, figures: Figures) -> Figures:
    work_s = next(iter(question.profiles[strategy.environment].work.values())).mean_s.value * question.work_factor
    rate_rps = question.demand.mean_rps
    usage = Usage.of(strategy.scaling, figures.replicas, figures.peak, figures.machines, work_s * rate_rps)
    usage = replace(usage, connections_per_s=rate_rps)  # one for each request
    tenancy: Tenancy = "dedicated" if place == "local-dedicated" else "shared"
    usd = usd_per_month(strategy.environment, strategy.scaling, usage, question.prices, tenancy)
    at_error = figures.at_error and replace(figures.at_error, usd_per_month=usd)
    return replace(figures, usd_per_month=usd, at_error=at_error)


def in_windows(question: Question, candidates: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    """With figures of the twin in the critical windows, and of the fluid model elsewhere; costs stay the latter's."""
    windows = _merged(question.demand.critical_windows(_WINDOW_S, _WINDOWS, question.seed))
    outside = np.ones(len(question.demand.rates_rps), np.bool_)
    for start, end in windows:
        outside[start:end] = False
    parts_of_trace = [_part(question.demand, *window) for window in windows]
    jobs = [_submitted(question, candidates, part, executor) for part in parts_of_trace]
    elsewhere = by_fluid_model(question, [candidate.strategy for candidate in candidates], executor, outside)
    weights = [float(question.demand.rates_rps[start:end].sum()) for start, end in windows]
    elsewhere_weight = float(question.demand.rates_rps[outside].sum())
    closer = []
    for number, (candidate, *mine) in enumerate(zip(candidates, *jobs, strict=True)):
        parts = [(elsewhere_weight, elsewhere[number]), *zip(weights, (job.result() for job in mine), strict=True)]
        closer.append(replace(candidate, figures=_weighted(parts, candidate.figures), stage="windows"))
        question.progress(
            f"{len(candidates)} settings by the twin, in critical windows", (number + 1) / len(candidates)
        )
    return closer


def _merged(windows: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same seconds in windows that do not overlap, so that no request counts twice."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(windows):
        if merged and start <= merged[-1][1]:
            start, end = merged[-1][0], max(end, merged.pop()[1])
        merged.append((start, end))
    return merged


def over_all(question: Question, candidates: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    """With figures of the twin over the whole trace."""
    whole = _part(question.demand, 0, len(question.demand.rates_rps))
    jobs = _submitted(question, candidates, whole, executor)
    final = []
    for number, (candidate, job) in enumerate(zip(candidates, jobs, strict=True)):
        question.progress(f"{len(jobs)} settings by the twin, over the whole trace", number / len(jobs))
        figures = _with_cost(question, candidate.strategy, candidate.place, job.result())
        final.append(replace(candidate, figures=figures, stage="whole trace"))
    return final


def _submitted(
    question: Question, candidates: Sequence[Candidate], part: _Part, executor: Executor
) -> list[Future[Figures]]:
    """A simulation for each candidate; one for a strategy that is a candidate in several places."""
    jobs: dict[int, Future[Figures]] = {}
    for candidate in candidates:
        strategy = candidate.strategy
        if id(strategy) not in jobs:
            jobs[id(strategy)] = executor.submit(_simulate, *_job(question, strategy, part))
    return [jobs[id(candidate.strategy)] for candidate in candidates]


def _best(
    objective: Objective, candidates: Sequence[Candidate], number: int
) -> tuple[list[Candidate], list[Candidate]]:
    """About ``number`` that go on, evenly over places and environments, and the others with the reason."""
    groups: dict[tuple[str, str], list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault((candidate.place, candidate.strategy.environment), []).append(candidate)
    kept, pruned = [], []
    for group in groups.values():
        best = _around_objective(objective, group, max(2, number // len(groups)))
        kept += best
        limit_usd = max(candidate.figures.usd_per_month for candidate in best)
        pruned += [
            replace(candidate, pruned=_reason(objective, candidate.figures, limit_usd))
            for candidate in group
            if candidate not in best
        ]
    return kept, pruned


def _around_objective(objective: Objective, group: Sequence[Candidate], number: int) -> list[Candidate]:
    """Half from the front of cost against slow requests: the cheapest that meets the objective, and its neighbours, the
    safer first. The rest are the cheapest that meet it, or nearly."""
    front = [group[place] for place in pareto_front([candidate.figures for candidate in group])]
    meets = [place for place, candidate in enumerate(front) if objective.excess(candidate.figures) <= 0]
    at = meets[0] if meets else len(front) - 1
    around = sorted(range(len(front)), key=lambda place: (abs(place - at), -place))[: (number + 1) // 2]
    chosen = [front[place] for place in around]
    ranked = sorted(group, key=lambda candidate: rank(objective, candidate.figures, nearly=_NEARLY))
    return [*chosen, *(candidate for candidate in ranked if candidate not in chosen)][:number]


def rank(objective: Objective, figures: Figures, nearly: float = 0.0) -> tuple[float, float, float]:
    """The smaller, the better: how far the objective is missed (up to ``nearly`` counts as met), then the cost, and at
    equal cost the share of slow requests."""
    excess = objective.excess(figures)
    return (excess if excess > nearly else 0.0, float(f"{figures.usd_per_month:.3g}"), figures.slow)


def _reason(objective: Objective, figures: Figures, limit_usd: float) -> str:
    excess = objective.excess(figures)
    if excess > _NEARLY:
        return f"misses the objective by {100 * excess:.0f} %"
    return f"others meet it, or nearly, for {limit_usd:.2f} USD a month or less, or with fewer slow requests"


def _weighted(parts: Sequence[tuple[float, Figures]], cost: Figures) -> Figures:
    """Figures over all requests from those of parts, by their weight; everything else from ``cost``."""
    whole = sum(weight for weight, _ in parts) or 1.0

    def mean(value: Callable[[Figures], float]) -> float:
        return sum(weight * value(figures) for weight, figures in parts) / whole

    mean_s = mean(lambda figures: figures.mean_s)
    square_s2 = mean(lambda figures: figures.sd_s**2 + figures.mean_s**2)
    return replace(
        cost,
        slow=mean(lambda figures: figures.slow),
        mean_s=mean_s,
        sd_s=math.sqrt(max(0.0, square_s2 - mean_s**2)),
        failed=mean(lambda figures: figures.failed),
    )


@dataclass(frozen=True)
class _Part:
    """A part of the trace: requests from ``start`` on count, s; ``schedule`` begins at ``begin``, s, to warm up."""

    schedule: OpenLoop
    start: int
    begin: int


def _part(demand: Demand, start: int, end: int) -> _Part:
    begin = max(0, start - _WARM_UP_S)
    return _Part(demand.window(begin, end), start, begin)


def _job(question: Question, strategy: Strategy, part: _Part) -> tuple[Strategy, Profile, _Part, float, float, int]:
    """The arguments of `_simulate`."""
    profile, limit_s = question.profiles[strategy.environment], question.objective.limit_s
    return strategy, profile, part, limit_s, question.work_factor, question.seed


def _simulate(
    strategy: Strategy, profile: Profile, part: _Part, limit_s: float, work_factor: float, seed: int
) -> Figures:
    """The twin's figures of a part of the trace, without cost."""
    from mlscale_twin.simulate import machines_of
    from mlscale_twin.twin import Setup, Twin

    component, work = next(iter(profile.work.items()))
    scalings = {component: dict(strategy.scaling)}
    types, boot = machines_of(scalings)
    schedule = part.schedule
    minimums = [(place * PART_S - part.begin, least) for place, least in enumerate(strategy.minimums)]
    outcome = Twin(
        Setup(
            profile=profile,
            schedule=schedule,
            scalings=scalings,
            photos=tuple(f"photo-{place:03d}" for place in range(len(work.photos))) or ("photo",),
            work_factor=work_factor,
            types=types,
            boot=boot,
            seed=seed,
            records=False,
            begin_s=float(part.start - part.begin),
            scheduled_min=[(max(0.0, from_s), least) for from_s, least in minimums if from_s > -PART_S],
        )
    ).run()
    statistics = outcome.statistics
    answered, failed = int(statistics.count[0]), int(statistics.count[1:].sum())
    sent = max(1, answered + failed)
    slow = statistics.share_above(limit_s) * answered if answered else 0.0
    scaled = [(event.t_s, int(event.detail["to"])) for event in outcome.events if event.kind == "scale_decision"]
    replicas, peak = mean_and_peak(scaled, schedule.duration_s, strategy.scaling["min_replicas"])
    requested = machine_changes([(event.t_s, event.kind) for event in outcome.events], [strategy.scaling])
    machines, _ = mean_and_peak(requested, schedule.duration_s, requested[0][1])
    figures = Figures(
        slow=(slow + failed) / sent,
        mean_s=float(statistics.mean_s[0]) if answered else limit_s,
        sd_s=float(statistics.sd_s[0]) if answered else 0.0,
        failed=failed / sent,
        usd_per_month=0.0,
        replicas=replicas,
        peak=peak,
        machines=machines,
    )
    if profile.compared is None or not answered:
        return figures
    mean, sd, p95 = (profile.compared.lowest(name) for name in ("mean_response_s", "sd_response_s", "p95_response_s"))
    slow = statistics.share_above(limit_s * p95) * answered
    at_error = replace(figures, slow=(slow + failed) / sent, mean_s=figures.mean_s / mean, sd_s=figures.sd_s / sd)
    return replace(figures, at_error=at_error)
