"""Fits parameters that runs don't show directly: values are tried on a lone simulated replica until it matches the
runs."""

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
OUTSIDE: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4)
SPREADS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
LASTS_S: Final = 1200.0
_TRIAL: Final[dict[str, Any]] = {"source": "a trial value", "date": "2026-11"}


@dataclass(frozen=True, slots=True)
class Trial:
    """A lone replica and its clients: ``clients`` of them, with a mean think time of ``think_s``."""

    processor: Processor
    queueing: Queueing = field(default_factory=Queueing)
    clients: int = 2
    think_s: float = 0.0

    def play(self, work: Work) -> tuple[float, npt.NDArray[np.void]]:
        """CPU that the replica used, s, and its answers (`layout.ROWS`)."""
        stages = (ClosedStage(start_s=0.0, clients=self.clients),)
        service = Service(
            distribution="measured",
            samples_s=work.model_copy(update={"photos": (1.0,)}).samples_s(1)[None],
            ahead_cpu_s=(work.ahead_cpu_s,),
            after_cpu_s=(work.after_cpu_s,),
            ask_cpu_s=(work.ask_cpu_s,),
        )
        schedule = ClosedLoop(duration_s=LASTS_S, stages=stages, think_mean_s=self.think_s)
        engine = Engine(schedule, service, self.processor, [self.queueing], Clients(), most_replicas=1)
        place = engine.come()
        engine.advance(LASTS_S)
        return engine.cpu_s(place), engine.take_rows()


def share_per_ask(times: float, work: Work, trial: Trial) -> float:
    """`Work.per_waiting` with which an answer costs ``times`` the CPU of one without waiting requests."""

    def shows(cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        return cpu_s / max(1, len(answers)) / work.mean_s.value

    return _fitted("per_waiting", SHARES, times, shows, work, trial)


def share_afterwards(rested_s: float, work: Work, trial: Trial) -> float:
    """`Work.afterwards` with which a replica that has rested for a period or more serves ``rested_s`` long on average:
    the less, the more it does after the answer."""

    def shows(_cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        before_s = np.concatenate([[0.0], np.maximum.accumulate(answers["done_s"])[:-1]])
        rested = answers["intended_s"] - before_s > trial.processor.period_s
        return -float(answers["inference_s"][rested].mean())

    return _fitted("afterwards", OUTSIDE, -rested_s, shows, work, trial)


def share_ahead(service_s: float, work: Work, trial: Trial) -> float:
    """`Work.ahead` with which services take ``service_s`` on average: the less, the more is done before their clock
    starts."""

    def shows(_cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        return -float(answers["inference_s"].mean())

    return _fitted("ahead", OUTSIDE, -service_s, shows, work, trial)


def spread_of_work(relative_sd: float, work: Work, trial: Trial) -> float:
    """`Work.spread` with which services have this standard deviation, as a share of their mean: the quota's periods
    make one of their own."""

    def shows(_cpu_s: float, answers: npt.NDArray[np.void]) -> float:
        return float(np.std(answers["inference_s"]) / np.mean(answers["inference_s"]))

    return _fitted("spread", SPREADS, relative_sd, shows, work, trial)


def _fitted(
    name: str,
    values: Sequence[float],
    wanted: float,
    shows: Callable[[float, npt.NDArray[np.void]], float],
    work: Work,
    trial: Trial,
) -> float:
    """The value between the tried ones that gives the wanted result; the nearest if none does."""
    tried = (work.model_copy(update={name: Number(value=value, **_TRIAL)}) for value in values)
    shown = np.maximum.accumulate([shows(*trial.play(each)) for each in tried])
    return float(np.interp(wanted, shown, values))
