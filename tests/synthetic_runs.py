"""Complete runs without a framework: a small queueing simulation, or requests with known values, written by RunWriter.

They are labelled ``live`` by default, to test analyses that refuse simulated runs.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mlscale.runs import (
    SCHEMAS,
    ClosedLoop,
    ClosedStage,
    Event,
    EventKind,
    Observation,
    OpenLoop,
    ReplicaSample,
    ResourceSample,
    Run,
    RunInfo,
    RunWriter,
    Staircase,
    Step,
    StimulusReport,
    Validity,
    WindowDeviation,
    load_run,
)

HOST = {
    "cpu_model": "Some CPU @ 2.5 GHz",
    "cores": 2,
    "cores_online": 2,
    "memory_bytes": 8 * 2**30,
    "architecture": "x86_64",
}
PHOTOS = 8
# Between samples of replicas and resources: half as often as in a real run, for speed.
PERIOD_S = 1.0
GOOD_STIMULUS = StimulusReport(
    due=1000,
    sent=1000,
    finished=1000,
    lateness_p50_s=0.0002,
    lateness_p99_s=0.001,
    lateness_max_s=0.004,
    client_change_error_s=0.01,
    load_cpu_cores=0.08,
    worst_window=WindowDeviation(start_s=0, due=100, sent=100),
)


@dataclass(frozen=True)
class Shape:
    """The simulated framework. Times in s; ``start_s`` is from creation (with room) to ready."""

    service_s: float = 0.10
    service_sd_s: float = 0.02
    detection_s: float = 1.5
    start_s: float = 8.0
    stagger_s: float = 2.0
    replicas: int = 4
    baseline_s: float = 45.0
    horizon_s: float = 120.0
    clients: tuple[int, int] = (2, 12)
    think_s: float = 0.45
    failure_share: float = 0.0
    data_plane_cpu_s: float = 0.003
    control_cores: float = 0.05
    photo_spread_s: float = 0.004
    boot_s: float | None = None
    """Boot time of a machine that all new replicas but the first wait for; None: machines do not scale."""


def requests_frame(intended_s: Sequence[float], response_s: Sequence[float] | float, **columns: Any) -> pd.DataFrame:
    """A requests table with the given times; everything else plausible, or as given in ``columns``."""
    intended = np.asarray(intended_s, dtype=float)
    n = len(intended)
    response = np.broadcast_to(np.asarray(response_s, dtype=float), (n,))
    frame = pd.DataFrame(
        {
            "request_id": np.arange(n),
            "client_id": np.zeros(n, dtype=np.int32),
            "body_id": [f"photo-{k % 8:03d}.jpg" for k in range(n)],
            "load_stage": np.zeros(n, dtype=np.int32),
            "intended_s": intended,
            "sent_s": intended + 0.0005,
            "connect_s": np.full(n, 0.0004),
            "first_byte_s": intended + 0.99 * response,
            "done_s": intended + response,
            "status": ["ok"] * n,
            "replica_id": ["replica-1"] * n,
            "queue_s": 0.3 * response,
            "inference_s": 0.6 * response,
            "bytes_in": np.full(n, 120),
        }
    )
    return frame.assign(**columns)


def info(**changes: Any) -> RunInfo:
    """run.json of a closed-loop run with a step at 45 s, watched for 120 s."""
    defaults: dict[str, Any] = {
        "run_id": "run",
        "environment": "torchserve",
        "level": "application",
        "mode": "live",
        "app": "code-reader",
        "app_version": "1",
        "schedule": ClosedLoop(
            duration_s=165.0,
            stages=(ClosedStage(start_s=0, clients=2), ClosedStage(start_s=45.0, clients=12)),
            think_mean_s=0.45,
        ),
        "step_s": 45.0,
        "arm": "matched",
        "scaling": {"app": {"cpu_cores": 0.3, "cpu_period_s": 0.1, "max_replicas": 4}},
        "cell": "core",
        "block": 1,
        "position": 1,
        "wall_start": datetime(2026, 1, 1, tzinfo=UTC),
        "host": HOST,
        "stimulus": GOOD_STIMULUS,
        "validity": Validity(valid=True),
    }
    return RunInfo.model_validate(defaults | changes)


def write_run(path: Path, requests: pd.DataFrame, run_info: RunInfo, observations: Iterable[Observation] = ()) -> Run:
    """Write and seal a run, then open it."""
    writer = RunWriter(path, run_info)
    table = pa.Table.from_pandas(requests, schema=SCHEMAS["requests"], preserve_index=False)
    with pa.ipc.new_stream(writer.request_stream(0), table.schema) as stream:
        stream.write_table(table)
    for observation in observations:
        writer.observe(observation)
    writer.seal()
    return load_run(path)


def make_run(path: Path, *, seed: int = 0, shape: Shape | None = None, **changes: Any) -> Run:
    """A complete run of a simulated framework: closed loop, step, scaling up; in about 50 ms.

    ``changes`` go into run.json (environment, block, aa_label, valid ... ``loop="open"`` for an open loop).
    """
    shape = shape or Shape()
    rng = np.random.default_rng(seed)
    t0 = shape.baseline_s
    loop = changes.pop("loop", "closed")
    schedule = _closed(shape) if loop == "closed" else _open(shape)
    decided = t0 + shape.detection_s + rng.uniform(0, 0.5)
    created = [decided + 0.05 + shape.stagger_s * k for k in range(shape.replicas - 1)]
    placed = [t if shape.boot_s is None or k == 0 else _machine(shape, decided)[-1] for k, t in enumerate(created)]
    ready = [t + shape.start_s * rng.uniform(0.92, 1.08) for t in placed]
    requests = _simulate(shape, schedule, [-100.0, *ready], rng)
    end_s = max(schedule.duration_s, float(np.nanmax(requests["done_s"])))
    observations = [*_observations(shape, decided, created, ready, requests, end_s)]
    if shape.boot_s is not None:
        observations += _machine_events(shape, decided, placed)
    run_info = info(
        run_id=f"{changes.get('environment', 'torchserve')}-{path.name}-{seed}",
        schedule=schedule,
        step_s=t0,
        seed=seed,
        **changes,
    )
    return write_run(path, requests, run_info, observations)


def make_experiment(
    folder: Path,
    shapes: dict[str, Shape],
    blocks: int = 6,
    *,
    seed: int = 0,
    aa: bool = True,
    block_sd: float = 0.10,
    run_sd: float = 0.03,
    **changes: Any,
) -> list[Run]:
    """``blocks`` blocks of every environment, one of them twice in each; service times vary by block and run."""
    rng = np.random.default_rng(seed)
    names = list(shapes)
    runs = []
    for block in range(1, blocks + 1):
        block_factor = float(np.exp(block_sd * rng.standard_normal()))
        places: list[tuple[str, str | None]] = [(name, None) for name in names]
        if aa:
            doubled = names[block % len(names)]
            places = [(name, "A" if name == doubled else None) for name in names] + [(doubled, "B")]
        for position, (name, label) in enumerate(places, start=1):
            factor = block_factor * float(np.exp(run_sd * rng.standard_normal()))
            shape = replace(
                shapes[name],
                service_s=shapes[name].service_s * factor,
                start_s=shapes[name].start_s * factor,
                baseline_s=shapes[name].baseline_s + block % 3,
            )
            path = folder / f"block-{block:02d}" / f"{position}-{name}{'-' + label if label else ''}"
            runs.append(
                make_run(
                    path,
                    seed=1000 * seed + 10 * block + position,
                    shape=shape,
                    environment=name,
                    block=block,
                    position=position,
                    aa_label=label,
                    **changes,
                )
            )
    return runs


def _closed(shape: Shape) -> ClosedLoop:
    return ClosedLoop(
        duration_s=shape.baseline_s + shape.horizon_s,
        stages=(
            ClosedStage(start_s=0, clients=shape.clients[0]),
            ClosedStage(start_s=shape.baseline_s, clients=shape.clients[1]),
        ),
        think_mean_s=shape.think_s,
    )


def _open(shape: Shape) -> OpenLoop:
    rate = 1 / (shape.think_s + shape.service_s)
    steps = (
        Step(start_s=0, rate_rps=shape.clients[0] * rate),
        Step(start_s=shape.baseline_s, rate_rps=shape.clients[1] * rate),
    )
    return OpenLoop(duration_s=shape.baseline_s + shape.horizon_s, rate=Staircase(steps=steps))


def _simulate(
    shape: Shape, schedule: ClosedLoop | OpenLoop, ready: list[float], rng: np.random.Generator
) -> pd.DataFrame:
    """One FIFO queue, served by whichever ready replica is free first."""
    arrivals = _first_arrivals(shape, schedule, rng)
    heapq.heapify(arrivals)
    free = [(t, k) for k, t in enumerate(ready)]
    heapq.heapify(free)
    photos = rng.normal(0.0, shape.photo_spread_s, PHOTOS)
    orders = {client: rng.permutation(PHOTOS) for _, client in arrivals}
    taken = dict.fromkeys(orders, 0)
    rows: list[tuple[Any, ...]] = []
    while arrivals:
        intended, client = heapq.heappop(arrivals)
        if intended >= schedule.duration_s:
            continue
        sent = intended + float(rng.exponential(0.0002))
        free_s, replica = heapq.heappop(free)
        photo = int(orders[client][taken[client] % PHOTOS])
        taken[client] += 1
        service = max(0.02, shape.service_s + photos[photo] + float(rng.normal(0, shape.service_sd_s)))
        begun = max(free_s, sent + 0.001)
        done = begun + service + 0.001
        heapq.heappush(free, (begun + service, replica))
        failed = bool(rng.random() < shape.failure_share)
        rows.append((client, photo, intended, sent, done, replica, begun - sent, service, failed))
        if client >= 0:
            heapq.heappush(arrivals, (done + float(rng.exponential(shape.think_s)), client))
    columns = list(zip(*rows, strict=True))
    client, photo, intended, sent, done, replica, queue, service, failed = (np.asarray(column) for column in columns)
    return requests_frame(
        intended,
        done - intended,
        client_id=client.astype(np.int32),
        body_id=[f"photo-{k:03d}.jpg" for k in photo],
        load_stage=(intended >= shape.baseline_s).astype(np.int32),
        sent_s=sent,
        replica_id=["" if bad else f"replica-{10 + k}" for k, bad in zip(replica, failed, strict=True)],
        queue_s=np.where(failed, np.nan, queue),
        inference_s=np.where(failed, np.nan, service),
        status=["http_5xx" if bad else "ok" for bad in failed],
    )


def _machine(shape: Shape, decided: float) -> tuple[float, float, float, float]:
    """When the second machine is requested, booted, registered, ready."""
    assert shape.boot_s is not None
    booted = decided + 1.3 + shape.boot_s
    return decided + 1.3, booted, booted + 0.6, booted + 1.5


def _machine_events(shape: Shape, decided: float, placed: list[float]) -> Iterable[Observation]:
    kinds: tuple[EventKind, ...] = ("machine_requested", "machine_booted", "machine_registered", "machine_ready")
    for name, times in (("run-a", (-60.0, -59.0, -58.0, -57.0)), ("run-b", _machine(shape, decided))):
        for kind, t_s in zip(kinds, times, strict=True):
            yield Event(t_s, "app", kind, name, known_within_s=0.1)
    for k, t_s in enumerate(placed):
        yield Event(t_s, "app", "replica_scheduled", f"replica-{11 + k}", known_within_s=0.1)


def _first_arrivals(shape: Shape, schedule: ClosedLoop | OpenLoop, rng: np.random.Generator) -> list[tuple[float, int]]:
    if isinstance(schedule, ClosedLoop):
        start, more = shape.clients
        early = [(float(rng.uniform(0, shape.think_s)), client) for client in range(start)]
        return early + [(shape.baseline_s + float(rng.uniform(0, 0.2)), client) for client in range(start, more)]
    assert isinstance(schedule.rate, Staircase)
    low, high = (step.rate_rps for step in schedule.rate.steps)
    times = []
    for rate, begin, end in ((low, 0.0, shape.baseline_s), (high, shape.baseline_s, schedule.duration_s)):
        times += list(begin + np.sort(rng.uniform(0, end - begin, rng.poisson(rate * (end - begin)))))
    return [(float(t), -1) for t in times]


def _observations(
    shape: Shape,
    decided: float,
    created: list[float],
    ready: list[float],
    requests: pd.DataFrame,
    end_s: float,
) -> Iterable[Observation]:
    yield Event(shape.baseline_s, "app", "load_step", detail={"clients": shape.clients[1]})
    if created:
        detail = {"from": 1, "to": shape.replicas, "reason": "more requests in the queue than wanted"}
        yield Event(decided, "app", "scale_decision", known_within_s=0.1, detail=detail)
    for k, (begun, done) in enumerate(zip(created, ready, strict=True)):
        yield Event(begun, "app", "replica_created", f"replica-{11 + k}", known_within_s=0.1)
        yield Event(done, "app", "replica_ready", f"replica-{11 + k}", known_within_s=0.2)
    done_s = requests["done_s"].to_numpy()
    inference = requests["inference_s"].fillna(0.0).to_numpy()
    replica = requests["replica_id"].to_numpy(dtype=object)
    previous = -PERIOD_S
    for t in np.arange(0.0, end_s, PERIOD_S):
        starts = [-100.0, *created]
        alive = sum(begun <= t for begun in starts)
        working = 1 + sum(done <= t for done in ready)
        yield ReplicaSample(float(t), "app", shape.replicas if t >= decided else 1, alive - working, working)
        inside = (done_s > previous) & (done_s <= t)
        for k in range(alive):
            own = inside & (replica == f"replica-{10 + k}")
            cores = 0.3 * float(inference[own].sum()) / PERIOD_S
            periods = 10.0 * max(0.0, t - starts[k])
            yield ResourceSample(
                float(t), "app", f"replica-{10 + k}", "replica", cores, 2.6e8, periods, 0.5 * periods, 0.003 * periods
            )
        served = int(inside.sum())
        yield ResourceSample(
            float(t), "app", "data_plane", "data_plane", shape.data_plane_cpu_s * served / PERIOD_S, 3e8
        )
        yield ResourceSample(float(t), "app", "control_plane", "control_plane", shape.control_cores, 1.5e8)
        yield ResourceSample(float(t), "app", "load_generator", "load_generator", 0.05, 8e7)
        host = 0.12 + 0.3 * float(inference[inside].sum()) / PERIOD_S
        yield ResourceSample(float(t), "app", "host", "host", min(host, 1.6), 3e9, psi_avg10_pct=3.0)
        previous = t
