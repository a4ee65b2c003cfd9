"""One strategy by the twin: in windows of the trace that stand for all of it, or over the whole trace."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.cost import Prices, Tenancy, Usage, machine_changes, mean_and_peak, usd_per_month
from mlscale.loadgen.schedules import intended_times
from mlscale.measurement.measure import Progress, no_progress
from mlscale.runs.schedule import Constant, OpenLoop
from mlscale_twin.profile import Profile
from mlscale_twin.strategy.demand import Demand, Window
from mlscale_twin.strategy.objective import Figures, Objective
from mlscale_twin.strategy.strategies import PART_S, Place, Strategy, busy_s

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
    def schedule(self) -> OpenLoop:
        return self.demand.window(0, self.demand.duration_s)

    @cached_property
    def sends_s(self) -> npt.NDArray[np.float64]:
        """The arrivals of the whole trace, s (n,): every strategy gets them, in windows too."""
        return np.concatenate(list(intended_times(self.schedule, self.seed, chunk=16_384)))

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
    limit_s: float
    work_factor: float
    seed: int
    least: float


@dataclass(frozen=True)
class _Part:
    """Of the trace, from ``begin`` on, s; what happens from ``counted_s`` after it on counts, and stands for ``weight``
    times as much. ``sends_s``, ``initial``: as of `mlscale_twin.twin.Setup`. ``least``: replicas at least, on
    average."""

    schedule: OpenLoop
    begin: int
    counted_s: float
    weight: float
    sends_s: npt.NDArray[np.float64] | None = None
    initial: int | None = None
    least: float = 0.0


def trial_of(question: Question, strategy: Strategy, windows: Sequence[Window]) -> Trial:
    """The trial of a strategy in windows of the question's traffic."""
    profile = question.profiles[strategy.environment]
    parts = [_part(question, strategy, window) for window in windows]
    limit_s, least = question.objective.limit_s, _mean_least(strategy, question.whole)
    return Trial(strategy, profile, parts, limit_s, question.work_factor, question.seed, least)


def _part(question: Question, strategy: Strategy, window: Window) -> _Part:
    begin = max(0, window.start - _warm_up_s(strategy))
    if window == question.whole:
        return _Part(question.schedule, 0, 0.0, 1.0)
    rates_rps = question.demand.rates_rps[begin : window.end]
    schedule = OpenLoop(duration_s=float(len(rates_rps)), rate=Constant(rate_rps=float(rates_rps.mean())))
    first, last = np.searchsorted(question.sends_s, [begin, window.end])
    sends_s = question.sends_s[first:last] - begin
    initial = None
    if begin > 0:
        busy = float(rates_rps[:60].mean()) * question.busy_s(strategy)
        scheduled = int(strategy.least(begin, begin + 1)[0][0])
        initial = min(max(math.ceil(busy / _FIRST_UTILISATION), scheduled), strategy.most_replicas)
    least = _mean_least(strategy, window)
    return _Part(schedule, begin, float(window.start - begin), window.weight, sends_s, initial, least)


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
    if "in_datapoints" in scaling:
        delays_s.append(scaling["in_datapoints"] * scaling["metric_period_s"] + scaling["in_cooldown_s"])
    return round(min(max(_WARM_UP_S[0], *delays_s), _WARM_UP_S[1]))


def run_trial(trial: Trial) -> Figures:
    """The figures over all parts, without cost."""
    return _weighted([(part, *_simulate(trial, part)) for part in trial.parts], trial.least)


def _simulate(trial: Trial, part: _Part) -> tuple[int, Figures]:
    """Requests and figures of a part, without cost."""
    from mlscale_twin.simulate import machines_of
    from mlscale_twin.twin import Setup, Twin

    strategy, profile = trial.strategy, trial.profile
    component, work = next(iter(profile.work.items()))
    types, boot = machines_of({component: strategy.scaling})
    minimums = [(index * PART_S - part.begin, least) for index, least in enumerate(strategy.minimums)]
    setup = Setup(
        profile=profile,
        schedule=part.schedule,
        scalings={component: dict(strategy.scaling)},
        photos=tuple(f"photo-{index:03d}" for index in range(len(work.photos))) or ("photo",),
        work_factor=trial.work_factor,
        types=types,
        boot=boot,
        seed=trial.seed,
        records=False,
        begin_s=part.counted_s,
        scheduled_min=[(max(0.0, from_s), least) for from_s, least in minimums if from_s > -PART_S],
        initial=part.initial,
        sends_s=part.sends_s,
    )
    outcome = Twin(setup).run()
    statistics, limit_s = outcome.statistics, trial.limit_s
    answered, failed = int(statistics.count[0]), int(statistics.count[1:].sum())
    sent = max(1, answered + failed)
    slow = statistics.share_above(limit_s) * answered if answered else 0.0
    first, counted_s = setup.first_replicas(strategy.scaling), part.schedule.duration_s - part.counted_s
    scaled = [(each.t_s, int(each.detail["to"])) for each in outcome.events if each.kind == "scale_decision"]
    replicas, peak = mean_and_peak(_from(part, scaled), counted_s, first)
    requested = machine_changes(
        [(each.t_s, each.kind) for each in outcome.events], [{**strategy.scaling, "min_replicas": first}]
    )
    machines, _ = mean_and_peak(_from(part, requested), counted_s, requested[0][1])
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
        return answered + failed, figures
    mean, sd, p95 = (profile.compared.lowest(name) for name in ("mean_response_s", "sd_response_s", "p95_response_s"))
    slow = statistics.share_above(limit_s * p95) * answered
    at_error = replace(figures, slow=(slow + failed) / sent, mean_s=figures.mean_s / mean, sd_s=figures.sd_s / sd)
    return answered + failed, replace(figures, at_error=at_error)


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
    seconds = [part.weight * (part.schedule.duration_s - part.counted_s) for part, _, _ in parts]
    known = sum(part.least * length_s for (part, _, _), length_s in zip(parts, seconds, strict=True)) / sum(seconds)
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
    )


def with_cost(question: Question, strategy: Strategy, place: Place, figures: Figures) -> Figures:
    """The figures with the cost of a month in a place."""
    work_s = next(iter(question.profiles[strategy.environment].work.values())).mean_s.value * question.work_factor
    rate_rps = question.demand.mean_rps
    usage = Usage.of(strategy.scaling, figures.replicas, figures.peak, figures.machines, work_s * rate_rps)
    usage = replace(usage, connections_per_s=rate_rps)  # one for each request
    tenancy: Tenancy = "dedicated" if place == "local-dedicated" else "shared"
    usd = usd_per_month(strategy.environment, strategy.scaling, usage, question.prices, tenancy)
    at_error = figures.at_error and replace(figures.at_error, usd_per_month=usd)
    return replace(figures, usd_per_month=usd, at_error=at_error)
