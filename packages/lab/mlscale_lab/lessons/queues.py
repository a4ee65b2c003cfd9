"""Lab 1: a replica as a queue, and why the tail explodes near saturation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.queues import mmc_distribution
from mlscale.runs import MlscaleError, OpenLoop
from mlscale.runs.schedule import Constant
from mlscale_lab.checks import Checks, Verdict, as_number
from mlscale_lab.questions import checks_of, draw_of
from mlscale_twin.engine import Engine
from mlscale_twin.layout import OK
from mlscale_twin.settings import Clients, Processor, Queueing, Service

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Mean time that a replica works on a request, s.
SERVICE_S: Final = 0.05
LOAD: Final = 0.8
# Simulated before responses are counted, mean services.
WARM_UP: Final = 2_000.0
# The closed loop.
CLIENTS: Final = 20
THINK_S: Final = 0.4
# The sizing task.
TASK_RPS: Final = 60.0
TASK_P95_S: Final = 0.2
# Above so many times the least there is no need to compute anything.
_PLENTY: Final = 10


def simulated(
    loads: Sequence[float], servers: int = 1, *, constant: bool = False, requests: float = 100_000, seed: int = 1
) -> pd.DataFrame:
    """Response times in seconds of ``servers`` replicas with one shared queue, on the twin, a row per load.

    Args:
        loads: arrival rate as a share of capacity, below 1. constant: every request takes exactly `SERVICE_S`.

    Raises:
        MlscaleError: a load that no replica can carry, or is none.
    """
    for load in loads:
        if not 0 < load < 1:
            raise MlscaleError(f"a load of {load:g}", "simulated", "give shares of the capacity: 0.8 for 80 %")
    service = Service(1.0) if constant else Service(1.0, "exponential")
    rows = []
    for load in loads:
        responses_s = SERVICE_S * _responses(service, load * servers, servers, requests, seed)
        rows.append(
            {
                "load": load,
                "requests_per_s": load * servers / SERVICE_S,
                "mean_s": responses_s.mean(),
                "p95_s": np.quantile(responses_s, 0.95),
                "p99_s": np.quantile(responses_s, 0.99),
            }
        )
    return pd.DataFrame(rows)


def _responses(service: Service, rate: float, servers: int, requests: float, seed: int) -> npt.NDArray[np.float64]:
    """Response times of answered requests after the warm-up; all times in mean services."""
    schedule = OpenLoop(duration_s=WARM_UP + requests / rate, rate=Constant(rate_rps=rate))
    engine = Engine(
        schedule, service, Processor(), [Queueing()], Clients(), max_replicas=servers, seed=seed, begin_s=WARM_UP
    )
    for _ in range(servers):
        engine.add_replica()
    engine.advance(schedule.duration_s + 10_000.0)
    rows = engine.take_rows()
    kept = rows[(rows["status"] == OK) & (rows["intended_s"] >= WARM_UP)]
    return np.asarray(kept["done_s"] - kept["intended_s"], dtype=float)


def tail(table: pd.DataFrame) -> Figure:
    """Mean and tail of `simulated` against the load, with the formula for the mean."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(8, 4), layout="constrained")
    for name, marker in (("mean_s", "o"), ("p95_s", "s"), ("p99_s", "^")):
        ax.plot(table["load"], table[name], marker, label=f"{name.removesuffix('_s')}, simulated")
    loads = np.linspace(0.05, float(table["load"].max()), 200)
    ax.plot(loads, SERVICE_S / (1 - loads), color="#333", lw=1, label="mean, by the formula")
    ax.set(xlabel="load (arrivals / capacity)", ylabel="response, s", ylim=(0, None))
    ax.legend()
    plt.close(figure)
    return figure


def checks(student: Any = None) -> Checks:
    """The checks of notebook lab_1."""
    own = ("own_mean", "own_inside", "own_closed")
    return checks_of("queues", student, tasks={"replicas": _judge_replicas}, own=own)


def own_numbers(student: Any) -> dict[str, float]:
    """A replica and its load, and clients that wait for their answer: drawn by the student's name."""
    draw = draw_of("queues", student)
    return {
        "service_s": draw.choice([0.04, 0.06, 0.07, 0.08, 0.09, 0.1]),
        "load": draw.choice([0.55, 0.6, 0.65, 0.7, 0.75, 0.85, 0.9]),
        "clients": draw.choice([40, 45, 50, 55, 60]),
        "think_s": draw.choice([0.3, 0.35, 0.45, 0.5, 0.55]),
    }


def _judge_replicas(answer: Any) -> Verdict:
    value = as_number(answer)
    if isinstance(value, Verdict):
        return value
    if not value.is_integer() or value < 1:
        return Verdict(False, "A whole number of replicas is expected.")
    replicas, busy = int(value), TASK_RPS * SERVICE_S
    if replicas < busy:
        return Verdict(False, "Fewer replicas than work: the queue grows for ever.", replicas)
    if replicas == busy:
        return Verdict(False, "That is 100 % load. The formula divides by what is left: nothing.", replicas)
    if replicas > _PLENTY * busy or (replicas - 1 > busy and _p95_s(replicas - 1) <= TASK_P95_S):
        return Verdict(False, "Enough, but fewer would do. Each costs money around the clock.", replicas)
    p95_s = _p95_s(replicas)
    if p95_s > TASK_P95_S:
        return Verdict(
            False, f"Stable, but 95 % are within {p95_s:.3f} s only, {TASK_P95_S} s are asked for.", replicas
        )
    load = busy / replicas
    why = f"95 % within {p95_s:.3f} s at {100 * load:.0f} % load. Idle capacity keeps the tail short."
    return Verdict(True, why, replicas)


def _p95_s(servers: int) -> float:
    times = np.linspace(0, 200, 200_001)
    shares = mmc_distribution(times, servers, TASK_RPS * SERVICE_S / servers)
    return SERVICE_S * float(times[np.searchsorted(shares, 0.95)])
