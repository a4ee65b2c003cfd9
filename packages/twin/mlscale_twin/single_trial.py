"""Fits parameters that runs don't show directly: candidate values are simulated on a lone replica, and the one that
matches the runs is interpolated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.runs import ClosedLoop
from mlscale.runs.schedule import ClosedStage
from mlscale_twin.durations import Number
from mlscale_twin.engine import Engine
from mlscale_twin.profile import Work
from mlscale_twin.settings import Clients, Processor, Queueing, Service

SHARES: Final = (0.0, 0.005, 0.01, 0.02, 0.04, 0.08, 0.16)
OUTSIDE_SHARES: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SPREADS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
DURATION_S: Final = 1200.0
_TRIAL: Final[dict[str, Any]] = {"source": "a trial value", "date": "2026-11"}


@dataclass(frozen=True, slots=True)
class Trial:
    """A lone replica and its clients: ``clients`` of them, with a mean think time of ``think_s``."""

    processor: Processor
    queueing: Queueing = field(default_factory=Queueing)
    clients: int = 2
    think_s: float = 0.0

    def run(self, work: Work) -> tuple[float, npt.NDArray[np.void]]:
        """CPU that the replica used, s, and its answers (`layout.ROWS`)."""
        stages = (ClosedStage(start_s=0.0, clients=self.clients),)
        service = Service(
            distribution="measured",
            samples_s=work.model_copy(update={"photos": (1.0,)}).samples_s(1)[None],
            ahead_cpu_s=(work.ahead_cpu_s,),
            after_cpu_s=(work.after_cpu_s,),
            poll_cpu_s=(work.poll_cpu_s,),
            waits_s=(work.waits_s,),
        )
        schedule = ClosedLoop(duration_s=DURATION_S, stages=stages, think_mean_s=self.think_s)
        engine = Engine(schedule, service, self.processor, [self.queueing], Clients(), max_replicas=1)
        slot = engine.add_replica()
        engine.advance(DURATION_S)
        return engine.cpu_s(slot), engine.take_rows()


def fit_per_waiting(ratio: float, work: Work, trial: Trial) -> float:
    """`Work.per_waiting` with which an answer takes ``ratio`` times the CPU of one without waiting requests."""

    def statistic(cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        return cpu_s / max(1, len(answers)) / work.mean_s.value

    return _fit("per_waiting", SHARES, ratio, statistic, work, trial)


def fit_afterwards(rested_s: float, work: Work, trial: Trial) -> float:
    """`Work.afterwards` with which the mean service time of replicas that were idle for a period or more is
    ``rested_s``: it falls with the work after the answer."""

    def statistic(_cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        before_s = np.concatenate([[0.0], np.maximum.accumulate(answers["done_s"])[:-1]])
        rested = answers["intended_s"] - before_s > trial.processor.period_s
        return -float(answers["inference_s"][rested].mean())

    return _fit("afterwards", OUTSIDE_SHARES, -rested_s, statistic, work, trial)


def fit_ahead(service_s: float, work: Work, trial: Trial) -> float:
    """`Work.ahead` with which the mean service time is ``service_s``: it falls with work before the clock starts."""

    def statistic(_cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        return -float(answers["inference_s"].mean())

    return _fit("ahead", OUTSIDE_SHARES, -service_s, statistic, work, trial)


def fit_spread(relative_sd: float, work: Work, trial: Trial) -> float:
    """`Work.spread` with which service times have this relative standard deviation, part of which comes from the
    quota's periods."""

    def statistic(_cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        return float(np.std(answers["inference_s"]) / np.mean(answers["inference_s"]))

    return _fit("spread", SPREADS, relative_sd, statistic, work, trial)


def _fit(
    name: str,
    values: Sequence[float],
    target: float,
    statistic: Callable[[float, npt.NDArray[np.void]], float],
    work: Work,
    trial: Trial,
) -> float:
    """The value with which the statistic equals the target, interpolated; the nearest if none does."""
    candidates = (work.model_copy(update={name: Number(value=value, **_TRIAL)}) for value in values)
    statistics = np.maximum.accumulate([statistic(*trial.run(candidate)) for candidate in candidates])
    return float(np.interp(target, statistics, values))
