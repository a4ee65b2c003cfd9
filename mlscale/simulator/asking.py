"""What it costs a replica to be asked whether it is free, from what its answers cost more of while requests wait."""

from __future__ import annotations

from typing import Final

import numpy as np

from mlscale.runs import ClosedLoop
from mlscale.runs.schedule import ClosedStage
from mlscale.simulator.engine import Engine
from mlscale.simulator.profile import Work
from mlscale.simulator.settings import Clients, Polling, Processor, Queueing, Service

SHARES: Final = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_CLIENTS, _LASTS_S = 16, 1200.0
"""More than one replica keeps up with, by far; and long enough for a mean to half a per cent."""


def share_per_ask(times: float, work: Work, processor: Processor, polling: Polling) -> float:
    """`Work.per_waiting` with which a lone replica that is never out of work spends ``times`` as much CPU on an answer
    as one that nobody waits for."""
    shown = [_times(share, work, processor, polling) for share in SHARES]
    return float(np.interp(times, shown, SHARES))


def _times(share: float, work: Work, processor: Processor, polling: Polling) -> float:
    mean_s = work.mean_s.value
    schedule = ClosedLoop(duration_s=_LASTS_S, stages=(ClosedStage(start_s=0.0, clients=_CLIENTS),), think_mean_s=0.0)
    samples_s = work.samples_s(1)
    service = Service(distribution="measured", samples_s=samples_s[None], ask_cpu_s=(share * mean_s,))
    queue = Queueing("polled-queue", polling=polling)
    engine = Engine(schedule, service, processor, [queue], Clients(), most_replicas=1)
    place = engine.come()
    engine.advance(schedule.duration_s)
    return engine.cpu_s(place) / len(engine.take_rows()) / float(samples_s.mean())
