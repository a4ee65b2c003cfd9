"""Simpler predictions of a live run's mean response, which the twin has to beat (METHOD §8).

Two of them are given what the twin has to predict: how many replicas were ready at each moment of the judged run.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy.linalg import expm

from mlscale.analysis.components import value_at
from mlscale.analysis.moving import WINDOW_S, around_step
from mlscale.runs import ClosedLoop, MlscaleError, Run
from mlscale_twin.likeness import judged_span, likeness_figures
from mlscale_twin.profile import Profile

Floats = npt.NDArray[np.float64]
# Time for which replicas and load are taken as constant.
EVERY_S: Final = 0.5
# Requests beyond which an open queue is cut off: no environment of the hold-out lets as many wait.
MOST_REQUESTS: Final = 300
BEFORE_S: Final = 30.0


def markov_response_s(run: Run, profile: Profile) -> float:
    """M/M/c with the load and the ready replicas of each moment: the mean number of requests in the system, as its
    probabilities change from moment to moment, over the mean rate of arrivals (Little)."""
    at_s, (from_s, to_s) = np.arange(0.0, judged_span(run)[1], EVERY_S), judged_span(run)
    service_s = _service_s(run, profile)
    schedule = run.info.schedule
    think_s = schedule.think_mean_s if isinstance(schedule, ClosedLoop) else None
    states = int(loads(run, at_s).max()) if think_s is not None else MOST_REQUESTS

    @cache
    def step(load: float, servers: int) -> tuple[Floats, Floats]:
        number = np.arange(states + 1)
        arrivals = np.maximum(load - number, 0.0) / think_s if think_s else np.where(number < states, load, 0.0)
        rates = np.diag(arrivals[:-1], 1) + np.diag(np.minimum(number[1:], servers) / service_s, -1)
        return expm((rates - np.diag(rates.sum(axis=1))) * EVERY_S), arrivals

    shares, inside, arrived = np.eye(states + 1)[0], 0.0, 0.0
    for t_s, load, servers in zip(at_s, loads(run, at_s), ready_replicas(run, at_s), strict=True):
        transition, arrivals = step(float(load), int(servers))
        shares = shares @ transition
        if from_s <= t_s < to_s:
            inside += float(shares @ np.arange(states + 1))
            arrived += float(shares @ arrivals)
    return inside / arrived + profile.requests.outside_s.value


def previous_response_s(run: Run, live: Sequence[Run]) -> float:
    """The mean response of the live run before this one: of the same setup, else of the same schedule, else of the
    same environment; NaN if there is none."""
    cell, _, variant = (run.info.cell or "").rpartition("/")
    earlier = [
        other
        for other in live
        if other.info.environment == run.info.environment and other.info.wall_start < run.info.wall_start
    ]
    if not earlier:
        return float("nan")

    def closeness(other: Run) -> tuple[bool, bool, Any]:
        same_schedule = (other.info.cell or "").startswith(f"{cell}/{variant.partition('-')[0]}-")
        return other.info.cell == run.info.cell, same_schedule, other.info.wall_start

    return likeness_figures(max(earlier, key=closeness), 1.0)["mean_response_s"]


class Regression:
    """Linear regression of log m_t on load, ready replicas and load per replica, over windows of the runs given."""

    def __init__(self, runs: Sequence[Run], profile: Profile) -> None:
        parts = [self._windows(run, profile, -BEFORE_S) for run in runs]
        features, means_s = (np.concatenate(part) for part in zip(*parts, strict=True))
        known = np.isfinite(means_s)
        self._profile = profile
        self._coefficients = np.linalg.lstsq(features[known], np.log(means_s[known]), rcond=None)[0]

    def predict_s(self, run: Run) -> float:
        """Mean response of a run, from its load and its ready replicas."""
        features, _ = self._windows(run, self._profile, 0.0)
        return float(np.exp(features @ self._coefficients).mean())

    def _windows(self, run: Run, profile: Profile, from_s: float) -> tuple[Floats, Floats]:
        """(windows, 4) features and (windows,) m_t, s, of windows from ``from_s`` since the step to the end."""
        begin_s, end_s = judged_span(run)
        at_s = np.arange(from_s + WINDOW_S, end_s - begin_s, WINDOW_S)
        load, ready = loads(run, begin_s + at_s), ready_replicas(run, begin_s + at_s)
        if isinstance(run.info.schedule, ClosedLoop):  # in requests/s, as long as nobody waits
            load = load / (run.info.schedule.think_mean_s + _service_s(run, profile))
        return np.column_stack([np.ones(len(at_s)), load, ready, load / ready]), around_step(run, at_s)


def loads(run: Run, at_s: Floats) -> Floats:
    """Clients of a closed loop, or requests/s of an open one, at these times.

    Raises:
        MlscaleError: the rate is not piecewise constant.
    """
    levels = np.array(run.info.schedule.levels)
    if not np.isfinite(levels).all():
        raise MlscaleError("only piecewise constant rates can be predicted", str(run.path), "exclude the run")
    return value_at(run.info.schedule.boundaries_s, levels, at_s)


def ready_replicas(run: Run, at_s: Floats) -> npt.NDArray[np.int64]:
    """Ready replicas at these times, at least 1."""
    samples = run.replicas.sort_values("t_s")
    ready = value_at(samples["t_s"].to_numpy(dtype=float), samples["ready"].to_numpy(dtype=int), at_s)
    return np.asarray(np.maximum(ready, 1))


def _service_s(run: Run, profile: Profile) -> float:
    cores = float(next(iter(run.info.scaling.values()))["cpu_cores"])
    return next(iter(profile.work.values())).mean_s.value / min(cores, 1.0)
