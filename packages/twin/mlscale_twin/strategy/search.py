"""The search, all by the twin: constant replicas, which rule much out; the rest in windows; the best all over.

Each stage says why it prunes a strategy. All strategies get the same arrivals (common random numbers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np

from mlscale.cost import replicas_per_machine
from mlscale_twin.strategy.demand import Window
from mlscale_twin.strategy.objective import Figures, Objective, mean_of
from mlscale_twin.strategy.strategies import POLICIES, Place, Strategy
from mlscale_twin.strategy.trial import Question, run_trial, trial_of, with_cost

Stage = Literal["bound", "windows", "whole trace"]
WINDOW_S: Final = 300
# Windows, and before them fewer ones for strategies whose loop decides several times a second: that takes most time.
WINDOWS: Final = 8
_FIRST_WINDOWS: Final = 4
_FREQUENT: Final = ("worker-controller", "ray-serve")
# Strategies of an environment and place that go on from the fewer windows.
_KEPT: Final = 40
# Of such an environment, one strategy of so many is tried first. The others are not where the best of those is dearer
# than another environment's by more than this factor.
_PILOTS: Final = 4
_DEARER: Final = 1.25
# Shorter traces are simulated as a whole: windows would hardly be shorter, with what is simulated before each.
SHORT_S: Final = 4800
# Strategies of an environment and place that are simulated over the whole trace at a time, and how often, if they may
# beat the best.
OVER_ALL: Final = 4
_TIMES: Final = 3
# Windows are approximate: a strategy that misses the objective by less than this in them may meet it after all.
_NEARLY: Final = 1.0
# A strategy that costs more than the best by less than this in them may cost less.
_COST_ERROR: Final = 0.1
# By how much fewer replicas have been seen to do better than more, by chance.
_CHANCE: Final = 0.1
# Seeds of what is advised, of up to so many settings that may be: those that miss the objective by no more than this
# with the first.
SEEDS: Final = 5
_REPEATED: Final = 8
_NEARLY_MET: Final = 0.1
# Costs that differ by less are the same.
_TIE: Final = 1.02
UNKNOWN: Final = Figures(math.nan, math.nan, math.nan, math.nan, math.nan, math.nan, 0)


@dataclass(frozen=True)
class Candidate:
    """A strategy in one place, with its figures at the last ``stage`` that it reached; ``pruned``: why it went no
    further. At stage "bound", the figures are the best that it could have. ``runs``: over the whole trace with several
    seeds, of which the figures are then the mean; empty: it was not repeated."""

    strategy: Strategy
    place: Place
    figures: Figures
    stage: Stage
    pruned: str = ""
    runs: tuple[Figures, ...] = ()

    @classmethod
    def of(cls, strategy: Strategy, place: Place) -> Candidate:
        """Without figures yet."""
        return cls(strategy, place, UNKNOWN, "bound")


def search(question: Question, strategies: Sequence[Strategy], executor: Executor) -> list[Candidate]:
    """All strategies in each of their places, those that reached the last stage first."""
    objective = question.objective
    constant, changing = _in_places(strategies, constant=True), _in_places(strategies, constant=False)
    # Compiles the twin, if nobody has yet, before several workers do.
    run_trial(trial_of(question, constant[0].strategy, [Window(0, 1, 1.0)]))
    whole = [question.whole]
    few, many = (_windows(question, number) for number in (_FIRST_WINDOWS, WINDOWS))
    constant = _simulated(question, constant, whole, executor)
    left, pruned = _bounded(question, changing, constant, constant)
    frequent = [each for each in left if question.profiles[each.strategy.environment].scales_by in _FREQUENT]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(id(each.strategy) for each in frequent))}
    pilots = [each for each in frequent if numbers[id(each.strategy)] % _PILOTS == 0]
    others = [each for each in frequent if numbers[id(each.strategy)] % _PILOTS]
    race = _Race(question, executor, list(constant))
    race.waiting = _simulated(question, [each for each in left if each not in frequent], many, executor)
    pilots = _simulated(question, pilots, few, executor)
    if few == whole:
        race.final, race.waiting = [*race.final, *race.waiting, *pilots], []
    else:
        race.waiting += pilots
        race.run()
    others, dearer = _bounded(question, others, constant, race.final)
    others, hopeless = _hopeful(objective, others, race.final)
    pruned += [*dearer, *hopeless]
    first = _simulated(question, others, few, executor)
    if few == whole:
        return [*_settled(question, [*race.final, *first], executor), *pruned]
    kept = _best(objective, first, race.final, _KEPT)
    race.waiting += _simulated(question, kept, many, executor)
    for _ in range(_TIMES):
        race.run()
    waiting = [*race.waiting, *(each for each in first if each not in kept)]
    waiting = [replace(each, pruned=_reason(objective, each, race.final)) for each in waiting]
    return [*_settled(question, race.final, executor), *waiting, *pruned]


def _settled(question: Question, final: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    places = dict.fromkeys(each.place for each in final)
    return [
        each for place in places for each in repeated(question, [one for one in final if one.place == place], executor)
    ]


@dataclass
class _Race:
    """Candidates in windows that wait, and what has been simulated over the whole trace: ``pairs`` of both."""

    question: Question
    executor: Executor
    final: list[Candidate]
    waiting: list[Candidate] = field(default_factory=list)
    pairs: list[tuple[Candidate, Candidate]] = field(default_factory=list)

    def run(self) -> None:
        """Simulates those over the whole trace that may beat the best so far."""
        question = self.question
        likely = _best(question.objective, _corrected(self.waiting, self.pairs), self.final, OVER_ALL)
        keys = {(id(each.strategy), each.place) for each in likely}
        chosen = [each for each in self.waiting if (id(each.strategy), each.place) in keys]
        self.waiting = [each for each in self.waiting if (id(each.strategy), each.place) not in keys]
        whole = _simulated(question, chosen, [question.whole], self.executor)
        self.pairs += zip(chosen, whole, strict=True)
        self.final += whole


def _in_places(strategies: Sequence[Strategy], *, constant: bool) -> list[Candidate]:
    """Candidates of strategies whose number of replicas is constant, or of the others; without figures yet."""
    return [
        Candidate.of(strategy, place)
        for strategy in strategies
        for place in strategy.places
        if strategy.is_constant is constant
    ]


def over_all(question: Question, candidates: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    """With figures over the whole trace."""
    return _simulated(question, candidates, [question.whole], executor)


def repeated(question: Question, final: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    """Candidates of a place over the whole trace: the first ones in order of preference with several seeds, until one
    surely meets the objective, so that none is advised which met it by chance."""
    objective = question.objective
    others = [replace(question, seed=question.seed + number) for number in range(1, SEEDS)]
    order = _by_preference(objective, final, _NEARLY_MET)
    done: list[Candidate] = []
    for each in order[:_REPEATED]:
        jobs = [executor.submit(run_trial, trial_of(other, each.strategy, [other.whole])) for other in others]
        runs = (each.figures, *(with_cost(question, each.strategy, each.place, job.result()) for job in jobs))
        done.append(replace(each, figures=mean_of(runs), runs=runs))
        question.progress(f"the best, with {SEEDS} seeds", len(done) / _REPEATED)
        if objective.interval(runs)[1] <= 0 or objective.excess(each.figures) > _NEARLY_MET:
            break
    return [*done, *order[len(done) :]]


def preferred(objective: Objective, candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those over the whole trace, the best first: what surely meets the objective, what may, and the others; each in
    order of preference, and what was repeated before what was not."""

    def doubt(each: Candidate) -> int:
        low, high = objective.interval(each.runs or [each.figures])
        return 3 if not each.runs else 0 if high <= 0 else 1 if low <= 0 else 2

    whole = [each for each in candidates if each.stage == "whole trace"]
    return sorted(_by_preference(objective, whole, 0.0), key=doubt)


def _by_preference(objective: Objective, candidates: Sequence[Candidate], nearly: float) -> list[Candidate]:
    """Those that meet the objective (or miss it by up to ``nearly``), the cheapest first; of those that cost as much
    (`_TIE`), the one with fewer slow requests, then the simpler one. Then the others, the closest first."""
    excess = {id(each): objective.excess(each.figures) for each in candidates}
    missing = sorted((each for each in candidates if excess[id(each)] > nearly), key=lambda each: excess[id(each)])
    meeting = [each for each in candidates if excess[id(each)] <= nearly]
    meeting.sort(key=lambda each: each.figures.usd_per_month)
    ordered: list[Candidate] = []
    while meeting:
        tied = [each for each in meeting if each.figures.usd_per_month <= _TIE * meeting[0].figures.usd_per_month]
        meeting = meeting[len(tied) :]
        ordered += sorted(tied, key=lambda each: (round(each.figures.slow, 3), POLICIES.index(each.strategy.policy)))
    return ordered + missing


def in_windows(question: Question, candidate: Candidate, executor: Executor) -> Figures:
    """A candidate's figures in the windows that stand for the trace."""
    windows = _windows(question, WINDOWS)
    return replace(_simulated(question, [candidate], windows, executor)[0].figures, at_error=None)


def _windows(question: Question, number: int) -> list[Window]:
    """So many windows that stand for the trace, or all of a short one."""
    demand = question.demand
    return [question.whole] if demand.duration_s < SHORT_S else demand.windows(number, WINDOW_S)


def _simulated(
    question: Question, candidates: Sequence[Candidate], windows: Sequence[Window], executor: Executor
) -> list[Candidate]:
    """With figures of the twin in the windows; one simulation for a strategy that is a candidate in several places."""
    stage: Stage = "whole trace" if windows == [question.whole] else "windows"
    jobs: dict[int, Future[Figures]] = {}
    for candidate in candidates:
        strategy = candidate.strategy
        if id(strategy) not in jobs:
            jobs[id(strategy)] = executor.submit(run_trial, trial_of(question, strategy, windows))
    done = []
    for number, candidate in enumerate(candidates):
        what = f"{len(jobs)} settings by the twin, {'in windows' if stage == 'windows' else 'over the whole trace'}"
        question.progress(what, number / len(candidates))
        figures = with_cost(question, candidate.strategy, candidate.place, jobs[id(candidate.strategy)].result())
        done.append(replace(candidate, figures=figures, stage=stage))
    return done


def _bounded(
    question: Question, candidates: Sequence[Candidate], constant: Sequence[Candidate], final: Sequence[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """Those that may beat the best of their place, by constant numbers of replicas, and the others with the reason.

    No policy is faster than its most replicas would be all the time, or cheaper than its least.
    """
    objective, left, pruned = question.objective, [], []
    for candidate in candidates:
        best = _first(objective, final, candidate.place)
        bound = replace(candidate, figures=_bound(question, candidate, constant))
        excess, usd = objective.excess(bound.figures), bound.figures.usd_per_month
        if excess > _CHANCE and excess >= objective.excess(best.figures):
            reason = f"its most replicas, all the time, would miss the objective by {100 * excess:.0f} %"
            pruned.append(replace(bound, pruned=reason))
        elif objective.excess(best.figures) <= 0 and usd >= best.figures.usd_per_month:
            reason = f"its least replicas cost {usd:.2f} USD a month, another that meets the objective no more"
            pruned.append(replace(bound, pruned=reason))
        else:
            left.append(bound)
    return left, pruned


def _hopeful(
    objective: Objective, candidates: Sequence[Candidate], tried: Sequence[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """Those in environments that are not much dearer than another one in their place, and the others with the reason.

    Args:
        tried: over the whole trace.
    """
    usd: dict[tuple[Place, str], float] = {}
    for each in tried:
        if objective.excess(each.figures) <= 0:
            group = each.place, each.strategy.environment
            usd[group] = min(usd.get(group, math.inf), each.figures.usd_per_month)
    hopeful, hopeless = [], []
    for each in candidates:
        cheapest = min((usd[group] for group in usd if group[0] == each.place), default=math.inf)
        own = usd.get((each.place, each.strategy.environment), math.inf)
        if own <= _DEARER * cheapest:
            hopeful.append(each)
        else:
            reason = (
                f"the best of every {_PILOTS}th setting of its environment costs {own:.2f} USD a month, "
                f"another environment's {cheapest:.2f}"
            )
            hopeless.append(replace(each, pruned=reason))
    return hopeful, hopeless


def _bound(question: Question, candidate: Candidate, constant: Sequence[Candidate]) -> Figures:
    """The responses of a constant number of replicas, at least the candidate's most; the cost of its least."""
    strategy = candidate.strategy
    faster = min(
        (
            each
            for each in constant
            if each.strategy.environment == strategy.environment
            and each.strategy.most_replicas >= strategy.most_replicas
        ),
        key=lambda each: each.strategy.most_replicas,
    )
    parts, seconds = strategy.least(0, len(question.demand.rates_rps))
    fit = replicas_per_machine(strategy.scaling)
    machines = np.ceil((parts + strategy.scaling.get("buffer_replicas", 0)) / fit) if fit else np.zeros(len(parts))
    least = replace(
        faster.figures,
        replicas=float(np.average(parts, weights=seconds)),
        peak=int(parts.max()),
        machines=float(np.average(machines, weights=seconds)),
        at_error=None,
    )
    return with_cost(question, strategy, candidate.place, least)


def _first(objective: Objective, candidates: Sequence[Candidate], place: Place) -> Candidate:
    """The best of a place."""
    mine = [candidate for candidate in candidates if candidate.place == place]
    return min(mine, key=lambda candidate: rank(objective, candidate.figures))


def _best(
    objective: Objective, candidates: Sequence[Candidate], final: Sequence[Candidate], number: int
) -> list[Candidate]:
    """Up to ``number`` of each environment and place that may beat the place's best over the whole trace.

    Half are from the front of cost against the objective's margin, from the cheapest that nearly meets it to the
    dearest, since windows may be kinder than the trace. The others are the cheapest that meet it.
    """
    chosen = []
    for place, environment in {(each.place, each.strategy.environment): None for each in candidates}:
        best = _first(objective, final, place).figures
        limit = rank(objective, replace(best, usd_per_month=(1 + _COST_ERROR) * best.usd_per_month))[:2]
        mine = [each for each in candidates if (each.place, each.strategy.environment) == (place, environment)]
        mine = [each for each in mine if rank(objective, each.figures, nearly=_NEARLY)[:2] < limit]
        front, least = [], math.inf
        for each in sorted(mine, key=lambda each: (each.figures.usd_per_month, objective.margin(each.figures))):
            if objective.margin(each.figures) < least:
                least = objective.margin(each.figures)
                front.append(each)
        spread = front[:: math.ceil(2 * len(front) / number) or 1]
        cheapest = sorted(mine, key=lambda each: rank(objective, each.figures))
        chosen += list({id(each): each for each in [*spread, *cheapest]}.values())[:number]
    return chosen


def _corrected(candidates: Sequence[Candidate], pairs: Sequence[tuple[Candidate, Candidate]]) -> list[Candidate]:
    """With figures in windows times the factor by which they were off, where both are known.

    Args:
        pairs: candidates in windows, and the same over the whole trace.
    """
    factors: dict[tuple[str, str], dict[str, float]] = {}
    for group in {(each.strategy.environment, each.place) for each, _ in pairs}:
        mine = [pair for pair in pairs if (pair[0].strategy.environment, pair[0].place) == group]
        sums = {
            name: [sum(getattr(pair[side].figures, name) for pair in mine) for side in (0, 1)] for name in _CORRECTED
        }
        factors[group] = {name: whole / windows for name, (windows, whole) in sums.items() if windows > 0}
    corrected = []
    for each in candidates:
        known = factors.get((each.strategy.environment, each.place), {})
        figures = {name: factor * getattr(each.figures, name) for name, factor in known.items()}
        corrected.append(replace(each, figures=replace(each.figures, **figures)))
    return corrected


_CORRECTED: Final = ("slow", "mean_s", "sd_s", "failed")


def rank(objective: Objective, figures: Figures, nearly: float = 0.0) -> tuple[float, float, float, float]:
    """The smaller, the better: how far the objective is missed (up to ``nearly`` counts as met), then the cost, and at
    equal cost the share of slow requests and the mean."""
    excess = objective.excess(figures)
    return (excess if excess > nearly else 0.0, float(f"{figures.usd_per_month:.3g}"), figures.slow, figures.mean_s)


def _reason(objective: Objective, candidate: Candidate, final: Sequence[Candidate]) -> str:
    excess, best = objective.excess(candidate.figures), _first(objective, final, candidate.place).figures
    if excess > 0:
        return f"misses the objective by {100 * excess:.0f} % in windows"
    return f"costs {candidate.figures.usd_per_month:.2f} USD a month in windows, the best {best.usd_per_month:.2f}"
