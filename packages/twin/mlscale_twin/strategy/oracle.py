"""The bound of an oracle that knows the trace: the fewest replicas, on average, that meet the objective."""

from __future__ import annotations

from concurrent.futures import Executor
from dataclasses import replace
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.measurement.measure import no_progress
from mlscale_twin.strategy.demand import Demand
from mlscale_twin.strategy.strategies import MOST_REPLICAS, Strategy
from mlscale_twin.strategy.trial import Question, run_trial, trial_of

_LEVELS: Final = 12
_LEVEL_S: Final = 300
# More replicas than those that have so few slow requests are not tried.
_HARDLY_SLOW: Final = 1e-3


def oracle_replicas(question: Question, strategy: Strategy, executor: Executor) -> float:
    """The fewest replicas on average with which the objective's first percentile holds, in the strategy's environment.

    The oracle has any number of replicas, at least one, ready at any time, and lets requests be slow where replicas
    save most (a Lagrange multiplier). By the twin with constant replicas at constant rates, without a backlog from
    before.
    """
    rates = question.demand.by_part(10)
    level = np.minimum((rates / rates.max() * _LEVELS).astype(int), _LEVELS - 1)
    levels = [index for index in range(_LEVELS) if (level == index).any()]
    seconds = np.array([10.0 * (level == index).sum() for index in levels])
    means = np.array([rates[level == index].mean() for index in levels])
    quiet = replace(question, progress=no_progress)
    jobs = [executor.submit(_slow_shares, quiet, strategy, float(rate)) for rate in means]
    shares = [job.result() for job in jobs]
    most = max(len(each) for each in shares)
    slow = np.array([[*each, *[each[-1]] * (most - len(each))] for each in shares])
    counts = np.arange(1, most + 1, dtype=float)
    requests = means * seconds

    def choice(price: float) -> npt.NDArray[np.int64]:
        """Place in ``counts`` for each rate, if a slow request costs ``price`` replica seconds."""
        places: npt.NDArray[np.int64] = np.argmin(counts + price * means[:, None] * slow, axis=1)
        return places

    def slow_in_all(price: float) -> float:
        return float(requests @ slow[np.arange(len(levels)), choice(price)] / requests.sum())

    low, high = 0.0, 1e6
    allowed = question.objective.shares[0]
    if slow_in_all(low) <= allowed:
        high = low
    for _ in range(60):
        price = (low + high) / 2
        low, high = (low, price) if slow_in_all(price) <= allowed else (price, high)
    return float(seconds @ counts[choice(high)] / seconds.sum())


def _slow_shares(question: Question, strategy: Strategy, rate_rps: float) -> list[float]:
    """Share of slow requests with 1, 2, ... replicas at a constant rate; 1 where they cannot keep up."""
    steady = replace(question, demand=Demand(np.full(_LEVEL_S, rate_rps)))
    busy = rate_rps * question.busy_s(strategy)
    shares = []
    for number in range(1, MOST_REPLICAS + 1):
        late = run_trial(trial_of(steady, strategy.constant(number), [steady.whole])).slow if number > busy else 1.0
        shares.append(late)
        if late <= _HARDLY_SLOW:
            break
    return shares
