"""``mlscale load``: send load to any HTTP server and record it as a run."""

from __future__ import annotations

import math
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, get_args

from pydantic import ValidationError
from yarl import URL

from mlscale.errors import as_user_error
from mlscale.loadgen.bodies import BodySet, bodies_of, load_check
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

_LEAD_S: Final = 0.5
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
    speed: float | None = None,
    keep: float | None = None,
) -> ClosedLoop | OpenLoop:
    """The schedule given by the command line's options.

    Raises:
        MlscaleError: not exactly one of rate, clients and file, or an invalid value; names the option.
    """
    if [rate, clients, file].count(None) != 2:
        raise MlscaleError("give exactly one of --rate, --clients and --schedule", "load", "see mlscale load --help")
    of_trace = {"--speed": speed, "--keep": keep}
    if file is None or file.suffix.lower() != ".csv":
        given = next((option for option, value in of_trace.items() if value is not None), None)
        if given is not None:
            raise MlscaleError("this load is not a CSV trace", given, f"remove {given}, or name a trace: --schedule")
    if file is not None:
        if duration_s is not None and file.suffix.lower() != ".csv":
            raise MlscaleError("a JSON schedule has its own duration", "--duration", "remove --duration")
        for option, value in {**of_trace, "--duration": duration_s}.items():
            if value is not None and not 0 < value < math.inf:
                raise MlscaleError(f"{value:g} is not possible", option, "use a number above 0")
        return read_schedule(file, duration_s=duration_s, speed=speed or 1.0, keep=keep or 1.0)
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
        raise _invalid_option(error) from error


def _invalid_option(error: ValidationError) -> MlscaleError:
    """The error for a schedule made of options: names the first invalid option."""
    first = error.errors()[0]
    option = next((_OPTIONS[name] for name in reversed(first["loc"]) if name in _OPTIONS), None)
    if option is None:
        return invalid_schedule(error, "load")
    what = f"{first['input']!r} is invalid: {first['msg'][0].lower()}{first['msg'][1:]}"
    return MlscaleError(what, option, "use another value")


_OPTIONS: Final[Mapping[Any, str]] = {
    "rate_rps": "--rate",
    "clients": "--clients",
    "duration_s": "--duration",
    "arrivals": "--arrivals",
    "think_mean_s": "--think",
}


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


def record_load(spec: LoadSpec, out: Path, context: HostContext, prefix: Sequence[str] = ()) -> Run:
    """Send a load and record it as a run (environment and level "none"). ``prefix``: see `LoadProcess.start`.

    If it fails or is interrupted while sending, the run is kept as incomplete; before that, nothing is kept.

    Raises:
        MlscaleError: the address, the bodies, the check or ``out`` is unusable, or a load worker failed.
    """
    check_address(spec.url)
    bodies = bodies_of(spec)
    if bodies is not None and spec.check_answers:
        load_check(spec.check, bodies.labels)
    split(spec.schedule, spec.workers)
    existed = out.exists()
    writer = RunWriter(out, _info(spec, bodies, context.host))
    sending = False
    load = LoadProcess()
    try:
        with load:
            load.start(spec, prefix, [writer.request_stream(worker) for worker in range(spec.workers)])
            load.wait_ready()
            lead_s = max(_LEAD_S, load.not_before_s - time.monotonic())
            clock = RunClock(time.monotonic() + lead_s, datetime.now(UTC) + timedelta(seconds=lead_s))
            load.release(clock.origin_s, 0.0)
            sending = True
            writer.update(wall_start=clock.wall_start)
            for event in load_events(spec.schedule, 0.0):
                writer.observe(event)
            report = _watch(load, spec, writer, clock, context)
        return _seal(writer, report, context)
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        reason = "interrupted" if interrupted else f"{type(error).__name__}: {error}"
        try:
            writer.abandon(reason, stimulus=load.report())
        except OSError as second:  # a full disk; run.json says "incomplete" since it was first written
            error.add_note(f"and the reason could not be written to {out}: {second}")
        if not sending:
            _discard(out, existed=existed)
        full = as_user_error(error)
        if isinstance(error, OSError) and full is not None:
            raise MlscaleError(full.what, str(out), full.remedy) from error
        raise


def _watch(
    load: LoadProcess, spec: LoadSpec, writer: RunWriter, clock: RunClock, context: HostContext
) -> StimulusReport:
    last: LoadProgress | None = None
    for observation in context.sample(clock):  # where the first interval begins: a run of a second has few samples
        writer.observe(observation)
    with Display(line_every_s=_LINE_EVERY_S) as display:
        while not load.join(_SAMPLE_S):
            now = load.progress()
            for observation in context.sample(clock):
                writer.observe(observation)
            if last is not None and now.t_s > last.t_s:
                cores = (now.cpu_s - last.cpu_s) / (now.t_s - last.t_s)
                writer.observe(ResourceSample(now.t_s, "", "load_generator", "load_generator", cores, now.rss_bytes))
            _show(display, clock(), spec.schedule.duration_s, now, last)
            last = now
    return load.wait()


def _show(
    display: Display, elapsed_s: float, duration_s: float, progress: LoadProgress, last: LoadProgress | None
) -> None:
    left_s = duration_s - elapsed_s
    counts = f"{progress.begun:,} sent, {progress.failed:,} failed, {progress.open:,} open"
    if last is not None and progress.t_s > last.t_s:
        counts += f", {(progress.begun - last.begun) / (progress.t_s - last.t_s):,.0f}/s"
        answered = progress.answered - last.answered
        if answered:
            counts += f", mean {1000 * (progress.response_sum_s - last.response_sum_s) / answered:,.0f} ms"
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
        facts={"request": {"method": spec.method or ("GET" if bodies is None else "POST"), "headers": [*spec.headers]}},
    )


def _discard(out: Path, *, existed: bool) -> None:
    for file in out.iterdir():
        file.unlink()
    if not existed:
        shutil.rmtree(out)


def parse_headers(texts: Sequence[str]) -> dict[str, str]:
    """``["X-Key: 1"]`` becomes ``{"X-Key": "1"}``.

    Raises:
        MlscaleError: one is not a header.
    """
    headers = {}
    for text in texts:
        name, colon, value = text.partition(":")
        if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or re.search(r"[\r\n\0]", value):
            raise MlscaleError(f"{text!r} is not a header", "--header", "write 'NAME: VALUE'")
        headers[name] = value.strip()
    return headers


def check_choice(value: str, choices: Any, option: str) -> str:
    """``value``, if it is one of the values of the Literal ``choices``; else raises MlscaleError."""
    if value not in get_args(choices):
        raise MlscaleError(f"invalid value {value!r}", option, "choose one of: " + ", ".join(get_args(choices)))
    return value
