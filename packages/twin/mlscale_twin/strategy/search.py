"""The search, all by the twin: constant replicas, which rule much out; the rest in windows; the best all over.

Each stage says why it prunes a strategy. All strategies get the same arrivals (common random numbers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np

from mlscale.cost import replicas_per_machine
from mlscale_twin.strategy.demand import Window
from mlscale_twin.strategy.objective import Figures, Objective, mean_of
from mlscale_twin.strategy.strategies import POLICIES, Place, Strategy
from mlscale_twin.strategy.trial import Question, run_trial, trial_of, with_cost

Stage = Literal["bound", "windows", "whole trace"]
WINDOW_S: Final = 300
WINDOWS: Final = 8
# Of an environment whose loop decides several times a second, which takes most time, one strategy of so many is tried
# first. The others are not where the best of those is dearer than another environment's by more than this factor.
_FREQUENT: Final = ("worker-controller", "ray-serve")
_PILOTS: Final = 4
_DEARER: Final = 1.25
# Shorter traces are simulated as a whole: windows would hardly be shorter, with what is simulated before each.
SHORT_S: Final = 4800
# Strategies of an environment and place that are simulated over the whole trace at a time, by their control loop: the
# fewer, the oftener it decides, since that takes most time; and how often, if they may beat the best.
_AT_A_TIME: Final = {"worker-controller": 4, "ray-serve": 2, "hpa": 8, "target-tracking": 12}
_ROUNDS: Final = 4
# Windows are approximate: a strategy that misses the objective by less than this in them may meet it after all.
_NEARLY: Final = 1.0
# A strategy that costs more than the best by less than this in them may cost less.
_COST_ERROR: Final = 0.1
# What misses or meets the objective by less does so by chance.
_CHANCE: Final = 0.1
# Of constant numbers of replicas, all are simulated if these have so many requests together at most.
_MANY: Final = 50_000_000
# Seeds of what is advised, and of so many settings at most that may be.
SEEDS: Final = 5
_REPEATED: Final = 10
# Costs that differ by less are the same.
TIE: Final = 1.02
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

    @property
    def key(self) -> tuple[int, Place]:
        """What it is, whatever its figures."""
        return id(self.strategy), self.place

    @classmethod
    def of(cls, strategy: Strategy, place: Place) -> Candidate:
        """Without figures yet."""
        return cls(strategy, place, UNKNOWN, "bound")


def search(question: Question, strategies: Sequence[Strategy], executor: Executor) -> list[Candidate]:
    """All strategies in each of their places, those that reached the last stage first."""
    every = [Candidate.of(strategy, place) for strategy in strategies for place in strategy.places]
    constant = [each for each in every if each.strategy.is_constant]
    # Compiles the twin, if nobody has yet, before several workers do.
    run_trial(trial_of(question, constant[0].strategy, [Window(0, 1, 1.0)]))
    simulated, others = _constants(question, constant, executor)
    final = repeated(question, simulated, executor)
    left, pruned = _bounded(question, [*others, *(each for each in every if not each.strategy.is_constant)], final)
    frequent = [each for each in left if question.profiles[each.strategy.environment].scales_by in _FREQUENT]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(id(each.strategy) for each in frequent))}
    later = [] if _is_short(question) else [each for each in frequent if numbers[id(each.strategy)] % _PILOTS]
    keys = {each.key for each in later}
    waiting = _simulated(question, [each for each in left if each.key not in keys], _windows(question), executor)
    if _is_short(question):
        final, waiting = repeated(question, [*final, *waiting], executor), []
    pairs: list[tuple[Candidate, Candidate]] = []
    for number in range(_ROUNDS):
        if number == 1:
            hopeful, hopeless = _hopeful(question.objective, later, final)
            waiting, pruned = (
                [*waiting, *_simulated(question, hopeful, _windows(question), executor)],
                [*pruned, *hopeless],
            )
        likely = {each.key for each in _likely(question, waiting, pairs, final)}
        chosen = [each for each in waiting if each.key in likely]
        waiting = [each for each in waiting if each.key not in likely]
        whole = over_all(question, chosen, executor)
        pairs += zip(chosen, whole, strict=True)
        final = repeated(question, [*final, *whole], executor)
    return [*final, *(replace(each, pruned=_reason(question.objective, each, final)) for each in waiting), *pruned]


def over_all(question: Question, candidates: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    """With figures over the whole trace."""
    return _simulated(question, candidates, [question.whole], executor)


def _constants(
    question: Question, candidates: Sequence[Candidate], executor: Executor
) -> tuple[list[Candidate], list[Candidate]]:
    """Constant numbers of replicas over the whole trace, and the others, which were not simulated.

    Where all of them would be too much (`_MANY`), the fewest replicas that may meet the objective are found by halving,
    as more are never slower; simulated are also the next two, and all that cost no more than these.
    """
    if question.demand.requests * len({id(each.strategy) for each in candidates}) <= _MANY:
        return over_all(question, candidates, executor), []
    in_time = replace(question.objective, max_usd_per_month=None)
    groups: dict[str, dict[int, list[Candidate]]] = {}
    for each in candidates:
        number = each.strategy.most_replicas
        groups.setdefault(repr(each.strategy.constant(1)), {}).setdefault(number, []).append(each)
    numbers = {name: sorted(group) for name, group in groups.items()}
    found: dict[tuple[int, Place], Candidate] = {}

    def simulate(chosen: dict[str, list[int]]) -> None:
        some = [each for name, some in chosen.items() for number in some for each in groups[name][number]]
        whole = over_all(question, [each for each in some if each.key not in found], executor)
        found.update({each.key: each for each in whole})

    simulate({name: some[-1:] for name, some in numbers.items()})
    ends = {name: (0, len(some) - 1) for name, some in numbers.items()}
    while middles := {name: (low + high) // 2 for name, (low, high) in ends.items() if low < high}:
        simulate({name: [numbers[name][middle]] for name, middle in middles.items()})
        for name, middle in middles.items():
            figures = found[groups[name][numbers[name][middle]][0].key].figures
            low, high = ends[name]
            ends[name] = (low, middle) if in_time.margin(figures) <= _CHANCE else (middle + 1, high)
    chosen: dict[str, list[int]] = {}
    for name, (first, _) in ends.items():
        enough = numbers[name][first:]
        simulated = [*found.values()]
        usd = {
            number: {each.place: _bound(question, each, simulated).usd_per_month for each in groups[name][number]}
            for number in enough
        }
        most = usd[enough[:3][-1]]
        chosen[name] = [number for number in enough if any(usd[number][place] <= TIE * most[place] for place in most)]
    simulate(chosen)
    # In the order given: of settings alike in cost and slow requests, the first is preferred.
    return [found[each.key] for each in candidates if each.key in found], [
        each for each in candidates if each.key not in found
    ]


def repeated(question: Question, final: Sequence[Candidate], executor: Executor) -> list[Candidate]:
    """Candidates over the whole trace: of each place the first ones in order of preference with several seeds, until
    one surely meets the objective, so that none is advised which met it by chance."""
    objective = question.objective
    others = [replace(question, seed=question.seed + number) for number in range(1, SEEDS)]
    found: list[Candidate] = []
    for place in dict.fromkeys(each.place for each in final):
        order, number = _by_preference(objective, [each for each in final if each.place == place], _CHANCE), 0
        for number, each in enumerate(order[:_REPEATED], 1):
            if not each.runs:
                jobs = [executor.submit(run_trial, trial_of(other, each.strategy, [other.whole])) for other in others]
                costed = (with_cost(question, each.strategy, place, job.result()) for job in jobs)
                runs = (each.figures, *costed)
                found.append(replace(each, figures=mean_of(runs), runs=runs))
                question.progress(f"the best, with {SEEDS} seeds", number / _REPEATED)
            else:
                found.append(each)
            if objective.interval(found[-1].runs)[1] <= 0 or objective.excess(each.figures) > _CHANCE:
                break
        found += order[number:]
    return found


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
    (`TIE`), the one with fewer slow requests, then the simpler one. Then the others, the closest first."""
    excess = {id(each): objective.excess(each.figures) for each in candidates}
    missing = sorted((each for each in candidates if excess[id(each)] > nearly), key=lambda each: excess[id(each)])
    meeting = [each for each in candidates if excess[id(each)] <= nearly]
    meeting.sort(key=lambda each: each.figures.usd_per_month)
    ordered: list[Candidate] = []
    while meeting:
        tied = [each for each in meeting if each.figures.usd_per_month <= TIE * meeting[0].figures.usd_per_month]
        meeting = meeting[len(tied) :]
        ordered += sorted(tied, key=lambda each: (round(each.figures.slow, 3), POLICIES.index(each.strategy.policy)))
    return ordered + missing


def in_windows(question: Question, candidate: Candidate, executor: Executor) -> Figures:
    """A candidate's figures in the windows that stand for the trace."""
    return replace(_simulated(question, [candidate], _windows(question), executor)[0].figures, at_error=None)


def _is_short(question: Question) -> bool:
    return question.demand.duration_s < SHORT_S


def _windows(question: Question) -> list[Window]:
    """Windows that stand for the trace, or all of a short one."""
    return [question.whole] if _is_short(question) else question.demand.windows(WINDOWS, WINDOW_S)


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
    question: Question, candidates: Sequence[Candidate], constant: Sequence[Candidate]
) -> tuple[list[Candidate], list[Candidate]]:
    """Those that may beat every constant number of replicas in their place, and the others with the reason.

    No policy is faster than its most replicas would be all the time, or cheaper than its least.
    """
    objective, left, pruned = question.objective, [], []
    least_usd, least_excess = _least_usd(objective, constant), dict[Place, float]()
    for each in constant:
        excess = objective.excess(each.figures)
        least_excess[each.place] = min(excess, least_excess.get(each.place, math.inf))
    for candidate in candidates:
        bound = replace(candidate, figures=_bound(question, candidate, constant))
        excess, usd = objective.excess(bound.figures), bound.figures.usd_per_month
        if excess > _CHANCE and excess >= least_excess[candidate.place]:
            reason = f"its most replicas, all the time, would miss the objective by {100 * excess:.0f} %"
            pruned.append(replace(bound, pruned=reason))
        elif usd >= least_usd.get(candidate.place, math.inf):
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


# Figures in windows that are corrected by how far they were off.
_CORRECTED: Final = ("slow", "mean_s", "sd_s", "failed")


def _likely(
    question: Question,
    waiting: Sequence[Candidate],
    pairs: Sequence[tuple[Candidate, Candidate]],
    final: Sequence[Candidate],
) -> list[Candidate]:
    """Some of each environment and place (`_AT_A_TIME`) that may beat what surely meets the objective: at first from
    the front of cost against the objective's margin, from the cheapest to the dearest; then the cheapest that meet it.

    Args:
        pairs: candidates in windows, and the same over the whole trace: by how far those of a policy were off, others
            are corrected.
    """
    objective, groups = question.objective, dict[tuple[Place, str], list[Candidate]]()
    factors, least_usd = _factors(pairs), _least_usd(objective, final)
    for each in waiting:
        known = factors.get(_policy(each), {})
        figures = {name: factor * getattr(each.figures, name) for name, factor in known.items()}
        over = tuple(known.get("slow", 1.0) * share for share in each.figures.over)
        corrected = replace(each, figures=replace(each.figures, over=over, **figures))
        if corrected.figures.usd_per_month < (1 + _COST_ERROR) * least_usd.get(each.place, math.inf):
            groups.setdefault((each.place, each.strategy.environment), []).append(corrected)
    chosen: list[Candidate] = []
    for (_, environment), group in groups.items():
        number = _AT_A_TIME[question.profiles[environment].scales_by]
        group.sort(key=lambda each: rank(objective, each.figures))
        if not pairs:
            front, least = [], math.inf
            for each in sorted(group, key=lambda each: (each.figures.usd_per_month, objective.margin(each.figures))):
                if objective.margin(each.figures) < least:
                    least = objective.margin(each.figures)
                    front.append(each)
            group = front[:: math.ceil(len(front) / number)]
        chosen += [each for each in group[:number] if not pairs or objective.excess(each.figures) <= _NEARLY]
    return chosen


def _least_usd(objective: Objective, candidates: Sequence[Candidate]) -> dict[Place, float]:
    """Of each place, the cost of the cheapest that surely meets the objective."""
    least: dict[Place, float] = {}
    for each in candidates:
        if each.runs and objective.interval(each.runs)[1] <= 0:
            least[each.place] = min(each.figures.usd_per_month, least.get(each.place, math.inf))
    return least


def _policy(candidate: Candidate) -> tuple[str, str, Place]:
    return candidate.strategy.environment, candidate.strategy.policy, candidate.place


def _factors(pairs: Sequence[tuple[Candidate, Candidate]]) -> dict[tuple[str, str, Place], dict[str, float]]:
    """Of each policy, figures over the whole trace relative to those in windows, as far as these are not 0."""
    policies: dict[tuple[str, str, Place], list[tuple[Figures, Figures]]] = {}
    for windows, whole in pairs:
        policies.setdefault(_policy(windows), []).append((windows.figures, whole.figures))
    factors: dict[tuple[str, str, Place], dict[str, float]] = {}
    for policy, both in policies.items():
        sums = {name: [sum(getattr(pair[side], name) for pair in both) for side in (0, 1)] for name in _CORRECTED}
        factors[policy] = {name: after / before for name, (before, after) in sums.items() if before > 0}
    return factors


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
