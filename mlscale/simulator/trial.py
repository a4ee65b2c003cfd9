"""Fits of what can't be read off runs: values are tried on a lone simulated replica until it shows what runs show."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mlscale.runs import ClosedLoop
from mlscale.runs.schedule import ClosedStage
from mlscale.simulator.engine import Engine
from mlscale.simulator.profile import Work
from mlscale.simulator.settings import Clients, Polling, Processor, Queueing, Service
from mlscale.simulator.spread import Number

SHARES: Final = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
SPREADS: Final = (0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8)
_TRIAL: Final[dict[str, Any]] = {"source": "a trial value", "date": "2026-11"}


def share_per_ask(times: float, work: Work, processor: Processor, polling: Polling) -> float:
    """`Work.per_waiting` with which a replica that is never out of work spends ``times`` as much CPU on an answer as
    one that nobody waits for."""
    queueing, alone_s = Queueing("polled-queue", polling=polling), float(work.samples_s(1).mean())
    shown = []
    for share in SHARES:
        tried = work.model_copy(update={"per_waiting": Number(value=share, **_TRIAL)})
        cpu_s, answers = _lone_replica(tried, processor, queueing, clients=16, lasts_s=1200.0)
        shown.append(cpu_s / len(answers) / alone_s)
    return float(np.interp(times, shown, SHARES))


def spread_of_work(relative_sd: float, mean_s: float, processor: Processor) -> float:
    """The spread of work on one photo (`Work.spread`) with which the times of a replica without rest have the relative
    standard deviation that was observed: the quota's periods make one of their own."""
    shown = []
    for spread in SPREADS:
        mean, tried = (Number(value=value, **_TRIAL) for value in (mean_s, spread))
        work = Work(mean_s=mean, photos=(1.0,), spread=tried)
        times_s = _lone_replica(work, processor, Queueing(), clients=2, lasts_s=600.0)[1]["inference_s"]
        shown.append(float(np.std(times_s) / np.mean(times_s)))
    return round(float(np.interp(relative_sd, shown, SPREADS)), 3)


def _lone_replica(
    work: Work, processor: Processor, queueing: Queueing, *, clients: int, lasts_s: float
) -> tuple[float, npt.NDArray[np.void]]:
    """Of one that serves clients who do not think: CPU that it used, s, and its answers (`layout.ROWS`)."""
    schedule = ClosedLoop(duration_s=lasts_s, stages=(ClosedStage(start_s=0.0, clients=clients),))
    service = Service(distribution="measured", samples_s=work.samples_s(1)[None], ask_cpu_s=(work.ask_cpu_s,))
    engine = Engine(schedule, service, processor, [queueing], Clients(), most_replicas=1)
    place = engine.come()
    engine.advance(lasts_s)
    return engine.cpu_s(place), engine.take_rows()
