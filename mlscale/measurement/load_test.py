"""load(): load-test any HTTP server; recorded as a run (environment and level "none"), with samples of the host."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from yarl import URL

from mlscale.analysis.validity import judge
from mlscale.host.facts import host_facts
from mlscale.host.sampling import Sampler
from mlscale.loadgen import ray_job
from mlscale.loadgen.bodies import BodySet, bodies_of, check_needs_labels, load_check
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.schedules import load_events, split
from mlscale.loadgen.spec import Beat, LoadOptions, LoadSpec
from mlscale.progress import Display, time_left
from mlscale.runs import (
    ClosedLoop,
    MlscaleError,
    OpenLoop,
    ResourceSample,
    Run,
    RunClock,
    RunInfo,
    RunWriter,
    StimulusReport,
    load_run,
)

_LEAD_S: Final = 0.5
_SAMPLE_S: Final = 0.5
_CONNECT_S: Final = 5.0
_LINE_EVERY_S: Final = 10.0


def load(
    url: str,
    schedule: ClosedLoop | OpenLoop,
    *,
    out: Path | str,
    bodies: Path | str | None = None,
    options: LoadOptions | None = None,
) -> Run:
    """Send ``schedule`` to ``url`` and record what was sent and how it was answered.

    If it fails or is interrupted while sending, the run is kept as incomplete; before that, nothing is kept.

    Args:
        out: folder of the new run.
        bodies: folder of files to POST, or one file; None: send GET requests.

    Raises:
        MlscaleError: the address, the bodies, the check or ``out`` is unusable, or a load worker failed.
    """
    chosen, folder = options or LoadOptions(), Path(out)
    if chosen.body is not None and bodies is not None:
        raise MlscaleError("give a body or bodies, not both", "body", "remove one of them")
    check_needs_labels(chosen.check, bodies)
    spec = LoadSpec(url=url, schedule=schedule, bodies=Path(bodies) if bodies else None, **dict(chosen))
    check_address(url)
    body_set = bodies_of(spec)
    if body_set is not None:
        load_check(spec.check, body_set.labels)
    split(schedule, spec.workers)
    prefix = ray_job.prefix(spec.ray) if spec.ray is not None else []
    existed = folder.exists()
    writer = RunWriter(folder, _info(spec, body_set))
    sending = False
    workers = LoadProcess()
    try:
        with workers:
            workers.start(spec, prefix, [writer.request_stream(worker) for worker in range(spec.workers)])
            workers.wait_ready()
            lead_s = max(_LEAD_S, workers.not_before_s - time.monotonic())
            clock = RunClock(time.monotonic() + lead_s, datetime.now(UTC) + timedelta(seconds=lead_s))
            workers.release(clock.origin_s, 0.0)
            sending = True
            writer.update(wall_start=clock.wall_start)
            for event in load_events(schedule, 0.0):
                writer.observe(event)
            report = _watch(workers, spec, writer, clock)
        writer.update(stimulus=report)
        writer.flush()
        writer.seal(validity=judge(Run(writer.path, writer.info)))
    except BaseException as error:
        try:
            writer.abandon_for(error, stimulus=workers.report())
        finally:
            if not sending:
                _discard(folder, existed=existed)
        raise
    return load_run(folder)


def check_address(url: str) -> None:
    """Raise MlscaleError unless ``url`` is an http(s) address that accepts connections, with a trusted certificate."""
    try:
        parsed = URL(url)
        host, port = parsed.host, parsed.port
    except ValueError as error:
        raise MlscaleError(f"not an address: {error}", url, "use one such as http://127.0.0.1:8080/decode") from error
    if parsed.scheme not in ("http", "https") or not host or not port:
        raise MlscaleError("not an http address", url, "use one such as http://127.0.0.1:8080/decode")
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_S) as plain:
            if parsed.scheme == "https":
                ssl.create_default_context().wrap_socket(plain, server_hostname=host).close()
    except ssl.SSLCertVerificationError as error:
        what = f"its certificate is not trusted: {error.verify_message}"
        raise MlscaleError(what, url, "name the authority that signed it: SSL_CERT_FILE=authority.pem") from error
    except ssl.SSLError as error:
        raise MlscaleError(
            f"no TLS there: {error.reason or error}", url, "use http://, or correct the server"
        ) from error
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MlscaleError(f"can't connect: {reason}", url, "start the server, or correct the address") from error


def _watch(load: LoadProcess, spec: LoadSpec, writer: RunWriter, clock: RunClock) -> StimulusReport:
    sampler, last = Sampler(), Beat(t_s=0.0)
    for observation in sampler.sample(clock, "", dict):  # the first interval begins: a run of a second has few samples
        writer.observe(observation)
    with Display(line_every_s=_LINE_EVERY_S) as display:
        while not load.join(_SAMPLE_S):
            now = load.progress()
            for observation in sampler.sample(clock, "", dict):
                writer.observe(observation)
            if last.rss_bytes and now.t_s > last.t_s:
                cores = (now.cpu_s - last.cpu_s) / (now.t_s - last.t_s)
                writer.observe(ResourceSample(now.t_s, "", "load_generator", "load_generator", cores, now.rss_bytes))
            _show(display, clock(), spec.schedule.duration_s, now, last)
            last = now
    return load.wait()


def _show(display: Display, elapsed_s: float, duration_s: float, now: Beat, last: Beat) -> None:
    left_s = duration_s - elapsed_s
    counts = f"{now.begun:,} sent, {now.failed:,} failed, {now.open:,} open"
    if now.t_s > last.t_s:
        counts += f", {(now.begun - last.begun) / (now.t_s - last.t_s):,.0f}/s"
        answered = now.answered - last.answered
        if answered:
            counts += f", mean {1000 * (now.response_sum_s - last.response_sum_s) / answered:,.0f} ms"
    share = min(max(elapsed_s / duration_s, 0.0), 1.0)
    display.update(counts, share, time_left(left_s) if left_s > 0 else "waiting for open requests")


def _info(spec: LoadSpec, bodies: BodySet | None) -> RunInfo:
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
        bodies=dict(bodies.facts) if bodies else {},
        seed=spec.seed,
        wall_start=datetime.now(UTC),
        host=dict(host_facts()),
        facts={"request": {"method": spec.method or ("GET" if bodies is None else "POST"), "headers": [*spec.headers]}},
    )


def _discard(out: Path, *, existed: bool) -> None:
    for file in out.iterdir():
        file.unlink()
    if not existed:
        shutil.rmtree(out)
