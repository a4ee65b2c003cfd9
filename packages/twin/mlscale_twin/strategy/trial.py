"""One strategy by the twin: in windows of the trace that stand for all of it, or over the whole trace."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from mlscale.cost import Prices, Tenancy, Usage, machine_changes, mean_and_peak, usd_per_month
from mlscale.measurement.measure import Progress, no_progress
from mlscale.runs.schedule import Constant, OpenLoop
from mlscale_twin.profile import Profile
from mlscale_twin.strategy.demand import Demand, Window
from mlscale_twin.strategy.objective import PERCENTILES, Figures, Objective
from mlscale_twin.strategy.strategies import Place, Strategy, busy_s

if TYPE_CHECKING:
    from mlscale_twin.twin import Setup, TwinResult

# Simulated before a window and not counted, s: at least so long, and at most.
_WARM_UP_S: Final = (60, 900)
# Utilisation at which a warm-up begins.
_FIRST_UTILISATION: Final = 0.7


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

    @property
    def whole(self) -> Window:
        return Window(0, len(self.demand.rates_rps), 1.0)

    @cached_property
    def sends_s(self) -> npt.NDArray[np.float64]:
        """When the requests of the whole trace are sent, s (n,): the same for every strategy, in windows too."""
        return self.demand.sends_s(self.seed)

    def busy_s(self, strategy: Strategy) -> float:
        """Time for which a request keeps a replica of the strategy busy, s."""
        profile = self.profiles[strategy.environment]
        return busy_s(profile, strategy.scaling["cpu_cores"]) * self.work_factor


@dataclass(frozen=True)
class Trial:
    """What a worker process simulates. ``least``: replicas at least, on average over the whole trace."""

    strategy: Strategy
    profile: Profile
    parts: Sequence[_Part]
    limits_s: Sequence[float]
    work_factor: float
    seed: int
    least: float


@dataclass(frozen=True)
class _Part:
    """Of the trace, from ``begin`` on, for ``duration_s``; what happens from ``counted_s`` after it on counts, and
    stands for ``weight`` times as much. ``sends_s``, ``initial``: as of `mlscale_twin.twin.Setup`. ``least``: replicas
    at least, on average."""

    begin: int
    duration_s: float
    counted_s: float
    weight: float
    sends_s: npt.NDArray[np.float64]
    initial: int
    least: float


def trial_of(question: Question, strategy: Strategy, windows: Sequence[Window]) -> Trial:
    """The trial of a strategy in windows of the question's traffic."""
    profile = question.profiles[strategy.environment]
    parts = [_part(question, strategy, window) for window in windows]
    limits_s, least = question.objective.limits_s, _mean_least(strategy, question.whole)
    return Trial(strategy, profile, parts, limits_s, question.work_factor, question.seed, least)


def _part(question: Question, strategy: Strategy, window: Window) -> _Part:
    begin = max(0, window.start - _warm_up_s(strategy))
    first, last = np.searchsorted(question.sends_s, [begin, window.end])
    sends_s = question.sends_s[first:last]  # no copy, of which many may wait to be simulated
    sends_s = sends_s - begin if begin else sends_s
    initial = int(strategy.least(begin, begin + 1)[0][0])
    if begin > 0:
        busy = float(question.demand.rates_rps[begin : min(begin + 60, window.end)].mean()) * question.busy_s(strategy)
        initial = min(max(math.ceil(busy / _FIRST_UTILISATION), initial), strategy.most_replicas)
    least = _mean_least(strategy, window)
    counted_s, duration_s = float(window.start - begin), float(window.end - begin)
    return _Part(begin, duration_s, counted_s, window.weight, sends_s, initial, least)


def _mean_least(strategy: Strategy, window: Window) -> float:
    replicas, seconds = strategy.least(window.start, window.end)
    return float(np.average(replicas, weights=seconds))


def _warm_up_s(strategy: Strategy) -> int:
    """As long as the policy remembers: until then, it decides by the beginning of the simulation."""
    scaling = strategy.scaling
    if strategy.is_constant:
        return _WARM_UP_S[0]
    names = ("upscale_delay_s", "downscale_delay_s", "downscale_stabilisation_s", "consolidate_after_s")
    delays_s = [float(scaling.get(name) or 0.0) for name in names]
    if math.isfinite(strategy.sleeps_after_s):
        delays_s.append(strategy.sleeps_after_s)
    if "in_datapoints" in scaling:
        delays_s.append(scaling["in_datapoints"] * scaling["metric_period_s"] + scaling["in_cooldown_s"])
    return round(min(max(_WARM_UP_S[0], *delays_s), _WARM_UP_S[1]))


def run_trial(trial: Trial) -> Figures:
    """The figures over all parts, without cost."""
    return _weighted([(part, *_simulate(trial, part)) for part in trial.parts], trial.least)


def alone(question: Question, strategy: Strategy) -> dict[str, float]:
    """The response times of requests that never wait, s, by the options that ask for them."""
    rate_rps = 0.1 / question.busy_s(strategy)
    duration_s = _ALONE / rate_rps
    evenly = OpenLoop(duration_s=duration_s, rate=Constant(rate_rps=rate_rps), arrivals="even")
    demand = Demand(np.full(math.ceil(duration_s), rate_rps), schedule=evenly)
    steady = replace(question, demand=demand, progress=no_progress)
    trial = trial_of(steady, strategy.constant(1), [steady.whole])
    statistics = _run(trial, trial.parts[0]).statistics
    return {
        **{f"--p{percent}": statistics.quantile(percent / 100) for percent in question.objective.percentiles},
        "--mean": float(statistics.mean_s[0]),
        "--sigma": float(statistics.sd_s[0]),
    }


# Requests simulated for that.
_ALONE: Final = 500


def whole_setup(question: Question, strategy: Strategy) -> Setup:
    """What is simulated of a strategy over the whole trace, with records of requests and the question's schedule."""
    trial = trial_of(question, strategy, [question.whole])
    setup = _setup(trial, trial.parts[0])
    return replace(setup, records=True, schedule=question.demand.schedule or setup.schedule)


def _run(trial: Trial, part: _Part) -> TwinResult:
    from mlscale_twin.twin import Twin

    return Twin(_setup(trial, part)).run()


def _setup(trial: Trial, part: _Part) -> Setup:
    from mlscale_twin.simulate import setup_of

    strategy = trial.strategy
    now = max(bisect_right([from_s for from_s, _ in strategy.minimums], part.begin) - 1, 0)
    rate = Constant(rate_rps=len(part.sends_s) / part.duration_s)
    return setup_of(
        trial.profile,
        OpenLoop(duration_s=part.duration_s, rate=rate),
        {next(iter(trial.profile.work)): dict(strategy.scaling)},
        work_factor=trial.work_factor,
        seed=trial.seed,
        records=False,
        begin_s=part.counted_s,
        scheduled_min=[(max(0.0, from_s - part.begin), least) for from_s, least in strategy.minimums[now:]],
        initial=part.initial,
        sends_s=part.sends_s,
    )


def replicas_over_time(question: Question, strategy: Strategy) -> list[tuple[float, int]]:
    """How many replicas a strategy wants, from when on (s), over the whole trace."""
    (part,) = (trial := trial_of(question, strategy, [question.whole])).parts
    return [(0.0, part.initial), *_decided(_run(trial, part))]


def _decided(outcome: TwinResult) -> list[tuple[float, int]]:
    return [(each.t_s, int(each.detail["to"])) for each in outcome.events if each.kind == "scale_decision"]


def _simulate(trial: Trial, part: _Part) -> tuple[int, Figures]:
    """Requests and figures of a part, without cost."""
    strategy, profile = trial.strategy, trial.profile
    outcome = _run(trial, part)
    statistics = outcome.statistics
    answered, failed = int(statistics.count[0]), int(statistics.count[1:].sum())
    sent = max(1, answered + failed)

    def slow(factor: float) -> tuple[float, ...]:
        """Share of requests over each limit, if that were ``factor`` times as long."""
        above = (statistics.share_above(limit_s * factor) if answered else 0.0 for limit_s in trial.limits_s)
        return tuple((share * answered + failed) / sent for share in above)

    counted_s = part.duration_s - part.counted_s
    replicas, peak = mean_and_peak(_from(part, _decided(outcome)), counted_s, part.initial)
    requested = machine_changes(
        [(each.t_s, each.kind) for each in outcome.events], [{**strategy.scaling, "min_replicas": part.initial}]
    )
    machines, _ = mean_and_peak(_from(part, requested), counted_s, requested[0][1])
    figures = Figures(
        slow=slow(1.0)[0],
        mean_s=float(statistics.mean_s[0]) if answered else trial.limits_s[0],
        sd_s=float(statistics.sd_s[0]) if answered else 0.0,
        failed=failed / sent,
        usd_per_month=0.0,
        replicas=replicas,
        peak=peak,
        machines=machines,
        over=slow(1.0)[1:],
    )
    at_error = None
    if profile.compared is not None and answered:
        names = ("mean_response_s", "sd_response_s", "p95_response_s")
        mean, sd, p95 = (profile.compared.lowest(name) for name in names)
        first, *others = slow(p95)
        slower = replace(figures, mean_s=figures.mean_s / mean, sd_s=figures.sd_s / sd)
        at_error = replace(slower, slow=first, over=tuple(others))
    p50_s, p95_s, p99_s = (statistics.quantile(share) if answered else None for share in PERCENTILES.values())
    return answered + failed, replace(figures, at_error=at_error, p50_s=p50_s, p95_s=p95_s, p99_s=p99_s)


def _from(part: _Part, changes: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """Changes by the time since counting began, s."""
    return [(t_s - part.counted_s, number) for t_s, number in changes]


def _weighted(parts: Sequence[tuple[_Part, int, Figures]], least: float) -> Figures:
    """Figures of the whole trace from those of parts: of requests by their number, of replicas and machines by time.

    Args:
        least: replicas at least, over the whole trace: this is known, so only those beyond it are estimated.
    """
    if len(parts) == 1:
        return parts[0][2]

    def mean(value: Callable[[Figures], float], weights: Sequence[float]) -> float:
        of_all = sum(weight * value(figures) for weight, (_, _, figures) in zip(weights, parts, strict=True))
        return of_all / (sum(weights) or 1.0)

    requests = [part.weight * number for part, number, _ in parts]
    seconds = [part.weight * (part.duration_s - part.counted_s) for part, _, _ in parts]
    known = sum(part.least * length_s for (part, _, _), length_s in zip(parts, seconds, strict=True)) / sum(seconds)
    over = zip(*(figures.over for _, _, figures in parts), strict=True)
    mean_s = mean(lambda figures: figures.mean_s, requests)
    square_s2 = mean(lambda figures: figures.sd_s**2 + figures.mean_s**2, requests)
    return Figures(
        slow=mean(lambda figures: figures.slow, requests),
        mean_s=mean_s,
        sd_s=math.sqrt(max(0.0, square_s2 - mean_s**2)),
        failed=mean(lambda figures: figures.failed, requests),
        usd_per_month=0.0,
        replicas=least + max(0.0, mean(lambda figures: figures.replicas, seconds) - known),
        peak=max(figures.peak for _, _, figures in parts),
        machines=mean(lambda figures: figures.machines, seconds),
        over=tuple(np.dot(requests, shares) / (sum(requests) or 1.0) for shares in over),
    )


def with_cost(question: Question, strategy: Strategy, place: Place, figures: Figures, *, spot: bool = False) -> Figures:
    """The figures with the cost of a month in a place. ``spot``: as of `mlscale.cost.usd_per_month`."""
    work_s = next(iter(question.profiles[strategy.environment].work.values())).mean_s.value * question.work_factor
    rate_rps = question.demand.mean_rps
    usage = Usage.of(strategy.scaling, figures.replicas, figures.peak, figures.machines, work_s * rate_rps)
    usage = replace(usage, connections_per_s=rate_rps)  # one for each request
    tenancy: Tenancy = "dedicated" if place == "local-dedicated" else "shared"
    usd = usd_per_month(strategy.environment, strategy.scaling, usage, question.prices, tenancy, spot=spot)
    at_error = figures.at_error and replace(figures.at_error, usd_per_month=usd)
    return replace(figures, usd_per_month=usd, at_error=at_error)
