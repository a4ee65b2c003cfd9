"""measure(): one environment, one load schedule, everything observed, one Run.

The run's clock: zero is the moment the load schedule starts. So a schedule's own times are run times (``step_s`` is the
schedule's second boundary), and what was observed before it (deployed, idle) has negative times. Where the load
generator was not ready in time, the schedule starts that much later (``waits["load_late_s"]``), and ``step_s`` with it.
"""

from __future__ import annotations

import errno
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from mlscale import environments
from mlscale.environments import App, Deployed, Environment, Scaling
from mlscale.experiment.cleaning import clean_before_a_run
from mlscale.experiment.labels import Labels
from mlscale.experiment.observer import Observer
from mlscale.experiment.settings import settings_of
from mlscale.host.facts import host_facts
from mlscale.host.ledger import Ledger
from mlscale.host.quiet import wait_until_quiet
from mlscale.load.photos import PhotoSet
from mlscale.load.process import LoadProcess, LoadSpec
from mlscale.load.schedules import load_events
from mlscale.runs import (
    Arm,
    ClosedLoop,
    Connections,
    MlscaleError,
    Mode,
    OpenLoop,
    Run,
    RunClock,
    RunInfo,
    RunWriter,
    load_run,
)

LOAD_LEAD_S: Final = 4.0
"""How long before time zero the load generator is started: it imports, reads photos and draws its times, s."""
_RELEASE_S: Final = 0.3
"""How long before its start the load generator is told of it, s."""
_POLL_S: Final = 0.25
QUIET_FOR_S: Final = 5.0
"""How long the host has to be quiet before a run is begun, s (METHOD §6)."""

Progress = Callable[[str, float], None]
"""Called with what is done now and the share of that which is done (0 to 1)."""


@dataclass(frozen=True)
class _Order:
    """What was asked for, checked."""

    environment: Environment
    app: App
    scalings: Mapping[str, Scaling]
    schedule: ClosedLoop | OpenLoop
    photos: PhotoSet
    photos_folder: Path
    out: Path
    arm: Arm
    mode: Mode
    connections: Connections
    seed: int
    idle_s: float
    quiet_at_most_s: float
    timeout_s: float
    workers: int
    labels: Labels
    progress: Progress


def measure(
    environment: str | Environment,
    app: App | None = None,
    schedule: ClosedLoop | OpenLoop | None = None,
    *,
    photos: Path | str,
    out: Path | str,
    scaling: Mapping[str, Any] | Scaling | None = None,
    arm: Arm = "matched",
    mode: Mode = "live",
    connections: Connections = "fresh",
    seed: int = 0,
    idle_s: float = 30.0,
    quiet_at_most_s: float = 60.0,
    timeout_s: float = 30.0,
    workers: int = 1,
    labels: Labels | None = None,
    progress: Progress | None = None,
) -> Run:
    """Deploy ``app`` under an environment's autoscaler, load it, observe it, tear it down; a plain blocking call.

    Works where an event loop already runs (Jupyter): the load is a process of its own, observation a thread.

    Args:
        environment: a name (`mlscale.environments.names`) or an environment.
        app: what to deploy; None: the project's own application.
        schedule: what to send; None: the protocol's quick schedule of 60 s.
        photos: folder of the photo set (photo-*.jpg and labels.jsonl).
        out: folder of the new run; must not exist, or be empty.
        scaling: settings put over the arm's ("readers.max_replicas": one component's own), or a whole `Scaling`.
        idle_s: how long the framework is watched at idle before time zero, s (METHOD §6).
        quiet_at_most_s: longest wait for a quiet host, s; whether it got quiet is recorded.
        timeout_s: a request without an answer after that long is a failure, s.
        labels: where the run stands in an experiment.
        progress: called now and then.

    Raises:
        MlscaleError: something a user can mend; nothing was left running.
        KeyboardInterrupt, SystemExit: passed on after teardown; the run's folder then says that it is incomplete.
    """
    found = environments.get(environment) if isinstance(environment, str) else environment
    application = app or default_app()
    order = _Order(
        environment=found,
        app=application,
        scalings=settings_of(found, application, arm, scaling),
        schedule=schedule or default_schedule(),
        photos=PhotoSet.read(Path(photos)),
        photos_folder=Path(photos),
        out=Path(out),
        arm=arm,
        mode=mode,
        connections=connections,
        seed=seed,
        idle_s=idle_s,
        quiet_at_most_s=quiet_at_most_s,
        timeout_s=timeout_s,
        workers=workers,
        labels=labels or Labels(),
        progress=progress or (lambda what, share: None),
    )
    _preflight(order)
    return _carried_out(order)


def _carried_out(order: _Order) -> Run:
    order.progress("waiting for a quiet host", 0.0)
    clean_before_a_run()
    host = wait_until_quiet(for_s=min(QUIET_FOR_S, order.quiet_at_most_s), at_most_s=order.quiet_at_most_s)
    writer = RunWriter(order.out, _info(order))
    waits = {"quiet_s": host.waited_s, "quiet": float(host.quiet), "busy_fraction": host.busy_fraction}
    try:
        with Ledger.create(writer.info.run_id) as ledger:
            changes = _deployed(order, writer, ledger, waits)
        order.progress("sealing", 1.0)
        return _seal(writer, changes, waits)
    except BaseException as error:
        _abandon(writer, error, waits)
        if isinstance(error, OSError) and error.errno in _DISK:
            remedy = "make room there; the run is kept as incomplete"
            raise MlscaleError(error.strerror or str(error), str(order.out), remedy) from error
        raise


def _deployed(order: _Order, writer: RunWriter, ledger: Ledger, waits: dict[str, float]) -> dict[str, Any]:
    """Deploy, observe, load, tear down. Returns what goes into run.json."""
    begun_s = time.monotonic()
    order.progress("deploying", 0.0)
    with order.environment.deploy(order.app, order.scalings, order.mode, ledger, order.photos.bodies) as deployed:
        waits["deploy_s"] = time.monotonic() - begun_s
        clock = _clock_from(order.idle_s + LOAD_LEAD_S)
        writer.update(
            wall_start=clock.wall_start,
            step_s=step_of(order.schedule),
            facts=dict(deployed.facts),
            versions=dict(deployed.versions),
        )
        changes = _loaded(order, writer, deployed, clock, waits)
        begun_s = time.monotonic()
        order.progress("tearing down", 0.0)
    waits["teardown_s"] = time.monotonic() - begun_s
    return changes


def _loaded(
    order: _Order, writer: RunWriter, deployed: Deployed, clock: RunClock, waits: dict[str, float]
) -> dict[str, Any]:
    """Idle, then load. Raises what observation raises; the load is stopped then."""
    schedule = order.schedule
    with Observer(deployed, clock, writer, idle_until_s=-LOAD_LEAD_S) as observer, LoadProcess() as load:
        order.progress("watching at idle", 0.0)
        observer.wait(-LOAD_LEAD_S - clock())
        waits["idle_s"] = clock() + LOAD_LEAD_S + order.idle_s
        load.start(
            _load_spec(order, deployed, clock),
            deployed.load_prefix,
            [writer.request_stream(worker) for worker in range(order.workers)],
        )
        load.wait_ready()
        start_s = max(0.0, clock() + _RELEASE_S, load.not_before_s - clock.origin_s)
        load.release(clock.origin_s, start_s)
        waits["load_late_s"] = start_s
        for event in load_events(schedule, start_s):
            writer.observe(event)
        while load.poll() is None:
            observer.wait(_POLL_S)
            order.progress("under load", min(max((clock() - start_s) / schedule.duration_s, 0.0), 1.0))
        report = load.wait()
        waits["drain_s"] = max(clock() - start_s - schedule.duration_s, 0.0)
    return {"stimulus": report, "idle": observer.idle.result(), "step_s": step_of(schedule, start_s)}


def _load_spec(order: _Order, deployed: Deployed, clock: RunClock) -> LoadSpec:
    return LoadSpec(
        url=deployed.url,
        headers=deployed.headers,
        schedule=order.schedule,
        photos=order.photos_folder,
        seed=order.seed,
        block=order.labels.block or 0,
        connections=order.connections,
        timeout_s=order.timeout_s,
        origin_s=clock.origin_s,
        start_s=None,
        workers=order.workers,
    )


def _preflight(order: _Order) -> None:
    if order.out.is_dir() and any(order.out.iterdir()):
        raise MlscaleError("the folder is not empty", str(order.out), "choose another --out, or delete it")
    if order.mode not in order.environment.modes:
        if not order.environment.modes:
            remedy = f"mlscale simulate {order.environment.name}"
            raise MlscaleError("it can only be simulated so far", order.environment.name, remedy)
        modes = ", ".join(sorted(order.environment.modes))
        raise MlscaleError(
            f"it can't be measured in mode {order.mode!r}", order.environment.name, f"choose of: {modes}"
        )
    fatal = [problem for problem in order.environment.preflight(order.app, order.scalings, order.mode) if problem.fatal]
    if fatal:
        raise MlscaleError(fatal[0].what, fatal[0].where, fatal[0].remedy)


def _info(order: _Order) -> RunInfo:
    return RunInfo(
        run_id=f"{order.environment.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        environment=order.environment.name,
        level=order.environment.level,
        mode=order.mode,
        app=order.app.name,
        app_version=order.app.version,
        components=tuple(component.name for component in order.app.components),
        schedule=order.schedule,
        step_s=step_of(order.schedule),
        arm=order.arm,
        scaling={name: scaling.model_dump() for name, scaling in order.scalings.items()},
        connections=order.connections,
        timeout_s=order.timeout_s,
        photos=dict(order.photos.facts),
        seed=order.seed,
        wall_start=datetime.now(UTC),
        host=dict(host_facts()),
        **order.labels.model_dump(),
    )


def _seal(writer: RunWriter, changes: Mapping[str, Any], waits: Mapping[str, float]) -> Run:
    from mlscale.analysis.validity import judge

    rounded = {name: round(value, 3) for name, value in waits.items()}
    writer.update(**changes, waits=rounded)
    writer.flush()
    judged = judge(Run(writer.path, writer.info))
    writer.seal(validity=judged)
    return load_run(writer.path)


def _abandon(writer: RunWriter, error: BaseException, waits: Mapping[str, float]) -> None:
    reason = _STOPPED.get(type(error), f"{type(error).__name__}: {error}")
    try:
        writer.abandon(reason, waits=dict(waits))
    except OSError as second:  # a full disk; run.json says "incomplete" since it was first written
        error.add_note(f"and the reason could not be written to {writer.path}: {second}")


def _clock_from(seconds: float) -> RunClock:
    """A clock whose zero is that many seconds from now."""
    return RunClock(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


def step_of(schedule: ClosedLoop | OpenLoop, start_s: float = 0.0) -> float | None:
    """t0 on the run's clock: the second load stage's start."""
    return start_s + schedule.boundaries_s[1] if len(schedule.boundaries_s) > 1 else None


def default_app() -> App:
    """The project's own, whole."""
    from mlscale.experiment.applications import code_reader

    return code_reader()


def default_schedule() -> ClosedLoop:
    """The protocol's quick schedule of 60 s."""
    from mlscale.experiment.protocol import current_protocol

    return current_protocol().quick_schedule()


_DISK: Final = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_STOPPED: Final[Mapping[type[BaseException], str]] = {
    KeyboardInterrupt: "interrupted by the user",
    SystemExit: "ended by a signal",
}
