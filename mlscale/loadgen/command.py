"""``mlscale load``: send load to any HTTP server and record it as a run."""

from __future__ import annotations

import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError
from yarl import URL

from mlscale.loadgen.bodies import BodySet, load_check
from mlscale.loadgen.process import LoadProcess, LoadProgress, LoadSpec
from mlscale.loadgen.schedule_files import invalid_schedule, read_schedule
from mlscale.loadgen.schedules import load_events, split
from mlscale.progress import Display, time_left
from mlscale.runs import (
    SCHEDULE,
    Clock,
    ClosedLoop,
    MlscaleError,
    Observation,
    OpenLoop,
    ResourceSample,
    Run,
    RunClock,
    RunInfo,
    RunWriter,
    StimulusReport,
    Validity,
    load_run,
)

_LEAD_S: Final = 0.25
_SAMPLE_S: Final = 0.5
_CONNECT_S: Final = 5.0
_LINE_EVERY_S: Final = 10.0


@dataclass(frozen=True)
class HostContext:
    """What higher layers provide: judging a run, a description of the host, and samples of the host under load."""

    judge: Callable[[Run], Validity]
    host: Mapping[str, Any]
    sample: Callable[[Clock], Iterable[Observation]]


def schedule_of(
    *,
    rate: float | None,
    clients: int | None,
    file: Path | None,
    duration_s: float | None,
    arrivals: str,
    think_s: float,
) -> ClosedLoop | OpenLoop:
    """The schedule given by the command line's options.

    Raises:
        MlscaleError: not exactly one of rate, clients and file, or an invalid value.
    """
    if [rate, clients, file].count(None) != 2:
        raise MlscaleError("give exactly one of --rate, --clients and --schedule", "load", "see mlscale load --help")
    if file is not None:
        if duration_s is not None and file.suffix.lower() != ".csv":
            raise MlscaleError("a JSON schedule has its own duration", "--duration", "remove --duration")
        return read_schedule(file, duration_s=duration_s)
    data: dict[str, Any] = {"duration_s": 60.0 if duration_s is None else duration_s}
    if rate is not None:
        if rate == 0:
            raise MlscaleError("0 requests/s sends nothing", "--rate", "use a rate above 0")
        data |= {"loop": "open", "rate": {"shape": "constant", "rate_rps": rate}, "arrivals": arrivals}
    else:
        data |= {"loop": "closed", "stages": [{"start_s": 0.0, "clients": clients}], "think_mean_s": think_s}
        if clients == 0:
            raise MlscaleError("0 clients send nothing", "--clients", "use at least one")
    try:
        return SCHEDULE.validate_python(data)
    except ValidationError as error:
        raise invalid_schedule(error, "load") from error


def check_address(url: str) -> None:
    """Raise MlscaleError unless ``url`` is an http(s) address that accepts connections."""
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        raise MlscaleError(f"not an address: {error}", url, "use one such as http://127.0.0.1:8080/decode") from error
    if parsed.scheme not in ("http", "https") or not host or not port:
        raise MlscaleError("not an http address", url, "use one such as http://127.0.0.1:8080/decode")
    try:
        socket.create_connection((host, port), timeout=_CONNECT_S).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MlscaleError(f"can't connect: {reason}", url, "start the server, or correct the address") from error


def record_load(spec: LoadSpec, out: Path, context: HostContext) -> Run:
    """Send a load and record it as a run (environment and level "none").

    If it fails or is interrupted while sending, the run is kept as incomplete; before that, nothing is kept.

    Raises:
        MlscaleError: the address, the bodies, the check or ``out`` is unusable, or a load worker failed.
    """
    check_address(spec.url)
    bodies = BodySet.read(spec.bodies) if spec.bodies is not None else None
    if bodies is not None and spec.check_answers:
        load_check(spec.check, bodies.labels)
    try:
        split(spec.schedule, spec.workers)
    except ValueError as error:
        raise MlscaleError(str(error), "--workers", "use fewer, at least 1") from error
    existed = out.exists()
    writer = RunWriter(out, _info(spec, bodies, context.host))
    sending = False
    try:
        with LoadProcess() as load:
            load.start(spec, (), [writer.request_stream(worker) for worker in range(spec.workers)])
            load.wait_ready()
            clock = RunClock(time.monotonic() + _LEAD_S, datetime.now(UTC) + timedelta(seconds=_LEAD_S))
            load.release(clock.origin_s, 0.0)
            sending = True
            writer.update(wall_start=clock.wall_start)
            for event in load_events(spec.schedule, 0.0):
                writer.observe(event)
            report = _watch(load, spec, writer, clock, context)
        return _seal(writer, report, context)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        writer.abandon("interrupted" if interrupted else f"{type(error).__name__}: {error}")
        if not sending:
            _discard(out, existed=existed)
        raise


def _watch(
    load: LoadProcess, spec: LoadSpec, writer: RunWriter, clock: RunClock, context: HostContext
) -> StimulusReport:
    last: LoadProgress | None = None
    with Display(line_every_s=_LINE_EVERY_S) as display:
        while not load.join(_SAMPLE_S):
            now = load.progress()
            for observation in context.sample(clock):
                writer.observe(observation)
            if last is not None and now.t_s > last.t_s:
                cores = (now.cpu_s - last.cpu_s) / (now.t_s - last.t_s)
                writer.observe(ResourceSample(now.t_s, "", "load_generator", "load_generator", cores, now.rss_bytes))
            last = now
            _show(display, clock(), spec.schedule.duration_s, now)
    return load.wait()


def _show(display: Display, elapsed_s: float, duration_s: float, progress: LoadProgress) -> None:
    left_s = duration_s - elapsed_s
    counts = f"{progress.begun:,} sent, {progress.failed:,} failed, {progress.open:,} open"
    share = min(max(elapsed_s / duration_s, 0.0), 1.0)
    display.update(counts, share, time_left(left_s) if left_s > 0 else "waiting for open requests")


def _seal(writer: RunWriter, report: StimulusReport, context: HostContext) -> Run:
    writer.update(stimulus=report)
    writer.flush()
    validity = context.judge(Run(writer.path, writer.info))
    writer.seal(validity=validity)
    return load_run(writer.path)


def _info(spec: LoadSpec, bodies: BodySet | None, host: Mapping[str, Any]) -> RunInfo:
    boundaries = spec.schedule.boundaries_s
    return RunInfo(
        run_id=f"load-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        environment="none",
        level="none",
        mode="live",
        app=str(URL(spec.url).with_user(None)),
        app_version="unknown",
        schedule=spec.schedule,
        step_s=boundaries[1] if len(boundaries) > 1 else None,
        arm="none",
        connections=spec.connections,
        timeout_s=spec.timeout_s,
        photos=dict(bodies.facts) if bodies else {},
        seed=spec.seed,
        wall_start=datetime.now(UTC),
        host=dict(host),
    )


def _discard(out: Path, *, existed: bool) -> None:
    for file in out.iterdir():
        file.unlink()
    if not existed:
        shutil.rmtree(out)


def check_choice(value: str, choices: Any, option: str) -> str:
    """``value``, if it is one of the values of the Literal ``choices``; else raises MlscaleError."""
    if value not in get_args(choices):
        raise MlscaleError(f"invalid value {value!r}", option, "choose one of: " + ", ".join(get_args(choices)))
    return value
