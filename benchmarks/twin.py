"""The twin's speed: requests per second of its kernel, with a fixed number of replicas and under an autoscaler, and of
SimPy on the same queue in the same run.

    python benchmarks/twin.py [--requests 3e6] [--repeats 5]

Times exclude compilation, which happens once per machine and is cached (the first line shows it).
"""

from __future__ import annotations

import argparse
import math
import resource
import time
from collections.abc import Callable, Generator
from typing import Any

import numpy as np

from mlscale.environments.worker_controller import ControllerSettings
from mlscale.runs import ClosedLoop, OpenLoop
from mlscale.runs.schedule import ClosedStage, Constant, Staircase, Step
from mlscale_twin.durations import Fixed
from mlscale_twin.engine import Engine
from mlscale_twin.layout import OK
from mlscale_twin.loops import LoopContext, WorkerControllerLoop
from mlscale_twin.replicas import Lifecycle, Log, Replicas
from mlscale_twin.settings import Clients, Processor, Queueing, Service
from mlscale_twin.timeline import Timeline

EXPONENTIAL = Service(1.0, "exponential")
MEASURED = Service(distribution="measured", samples_s=np.random.default_rng(0).lognormal(-3.2, 0.2, (1, 24, 64)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--requests", type=float, default=3e6)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    begun_s = time.perf_counter()
    fixed(EXPONENTIAL, 1, 0.8, 1000.0)
    print(f"first call, compiled or read from the cache: {time.perf_counter() - begun_s:.1f} s")
    number = options.requests
    cases: dict[str, Callable[[], tuple[int, float]]] = {
        "M/M/1, one replica": lambda: fixed(EXPONENTIAL, 1, 0.8, number),
        "M/M/16, shared queue": lambda: fixed(EXPONENTIAL, 16, 0.8, number),
        "16 replicas, random endpoint": lambda: fixed(EXPONENTIAL, 16, 0.8, number, Queueing("random")),
        "4 replicas under a CFS quota, measured times": lambda: fixed(
            MEASURED, 4, 0.6, number, Queueing("random"), Processor(quota_cores=0.3)
        ),
        "closed loop, 64 clients, 8 replicas": lambda: closed(8, 64, number),
        "autoscaled, 100 requests a tick": lambda: scaled(100, number),
        "autoscaled, 1000 requests a tick": lambda: scaled(1000, number),
        "SimPy, M/M/1": lambda: simpy_mm1(min(number / 100, 50_000)),
    }
    speeds: dict[str, list[float]] = {name: [] for name in cases}
    for _ in range(options.repeats):
        for name, case in cases.items():
            done, took_s = case()
            speeds[name].append(done / took_s)
    print(f"million requests per second of CPU time: median [min, max] of {options.repeats}, in turn")
    for name, values in speeds.items():
        median, low, high = np.median(values) / 1e6, min(values) / 1e6, max(values) / 1e6
        print(f"  {name:46s} {median:8.3f} [{low:.3f}, {high:.3f}]")
    ratio = np.median(np.array(speeds["M/M/1, one replica"]) / np.array(speeds["SimPy, M/M/1"]))
    print(f"  twin over SimPy on M/M/1: {ratio:.0f} times")
    for part in (0.1, 1.0):
        done, took_s = fixed(EXPONENTIAL, 4, 0.8, part * number)
        rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"  {done / 1e6:5.1f} million requests: {1e9 * took_s / done:.1f} ns each, {rss_mb:.0f} MB at most so far"
        )


def fixed(
    service: Service,
    replicas: int,
    load: float,
    number: float,
    queueing: Queueing | None = None,
    processor: Processor | None = None,
) -> tuple[int, float]:
    """Requests served, and the CPU time for it, s."""
    mean_s = service.mean_s or float(np.mean(service.samples_s))  # type: ignore[arg-type]
    speed = min(1.0, processor.quota_cores) if processor is not None else 1.0
    rate_rps = load * replicas * speed / mean_s
    schedule = OpenLoop(duration_s=number / rate_rps, rate=Constant(rate_rps=rate_rps))
    engine = Engine(
        schedule, service, processor or Processor(), [queueing or Queueing()], Clients(),
        max_replicas=replicas, photos=24, records=False,
    )  # fmt: skip
    for _ in range(replicas):
        engine.add_replica()
    return _timed(engine, lambda: engine.advance(schedule.duration_s))


def closed(replicas: int, clients: int, number: float) -> tuple[int, float]:
    stages = (ClosedStage(start_s=0, clients=clients),)
    schedule = ClosedLoop(duration_s=number / replicas / 0.9, stages=stages, think_mean_s=1.0)
    engine = Engine(schedule, EXPONENTIAL, Processor(), [Queueing()], Clients(), max_replicas=replicas, records=False)
    for _ in range(replicas):
        engine.add_replica()
    return _timed(engine, lambda: engine.advance(schedule.duration_s))


def scaled(per_tick: int, number: float) -> tuple[int, float]:
    """A worker controller that decides once a second, under a load that changes every five minutes."""
    duration_s = number / per_tick
    changes = range(math.ceil(duration_s / 300))
    rates = [Step(start_s=300.0 * k, rate_rps=per_tick * (0.4 if k % 2 else 1.6)) for k in changes]
    schedule = OpenLoop(duration_s=duration_s, rate=Staircase(steps=tuple(rates)))
    most = 16
    service = Service(0.6 * most / per_tick / 2, "exponential")
    engine = Engine(
        schedule, service, Processor(), [Queueing(limit=1000)], Clients(), max_replicas=most + 8, records=False
    )
    timeline, log, rng = Timeline(engine), Log(), np.random.default_rng(0)
    at_once = Fixed(value_s=0.0, source="benchmark", date="2026-11")
    replicas = Replicas("app", 0, Lifecycle([], at_once, at_once), timeline, log, rng)
    replicas.start_initial(1)
    WorkerControllerLoop(
        LoopContext(timeline, replicas, 0, rng), ControllerSettings(max_replicas=most),
        sample_interval_s=1.0, period_s=1.0, look_back_s=1.0,
    )  # fmt: skip
    return _timed(engine, lambda: timeline.run(schedule.duration_s))


def _timed(engine: Engine, work: Callable[[], object]) -> tuple[int, float]:
    begun_s = time.process_time()
    work()
    took_s = time.process_time() - begun_s
    return int(engine.statistics().count[OK]), took_s


def simpy_mm1(number: float) -> tuple[int, float]:
    import simpy

    rng = np.random.default_rng(0)
    environment = simpy.Environment()
    server = simpy.Resource(environment)
    done = 0

    def request() -> Generator[Any, None, None]:
        nonlocal done
        with server.request() as turn:
            yield turn
            yield environment.timeout(rng.exponential(1.0))
            done += 1

    def source() -> Generator[Any, None, None]:
        for _ in range(int(number)):
            yield environment.timeout(rng.exponential(1 / 0.8))
            environment.process(request())

    environment.process(source())
    begun_s = time.process_time()
    environment.run()
    return done, time.process_time() - begun_s


if __name__ == "__main__":
    main()
