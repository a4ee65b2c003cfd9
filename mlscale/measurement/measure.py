"""measure(): one environment, one load schedule, everything observed, one Run.

The run's clock starts at zero with the load schedule. So times in the schedule are times of the run (``step_s`` is the
schedule's second boundary), and earlier observations (deployment, idle) have negative times. If the load generator is
not ready in time, the schedule and ``step_s`` are shifted by the delay (``waits["load_late_s"]``).
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic import Field, field_validator

from mlscale import environments
from mlscale.defaults import defaults
from mlscale.environments import App, Deployed, Environment, Scaling
from mlscale.environments.base import raise_fatal
from mlscale.host.facts import host_facts
from mlscale.host.ledger import Ledger, active_runs
from mlscale.host.quiet import wait_until_quiet
from mlscale.host.reap import cleanup
from mlscale.importing import add_working_folder, offered
from mlscale.loadgen.bodies import BodySet, load_check
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.schedules import load_events, split
from mlscale.loadgen.spec import LoadSpec, SendOptions
from mlscale.measurement.default_load import announcement, default_load, is_for, long_enough
from mlscale.measurement.labels import Labels
from mlscale.measurement.model_load import load_for, misfit
from mlscale.measurement.observer import Observer
from mlscale.measurement.settings import settings_of
from mlscale.measurement.trial import try_model
from mlscale.runs import (
    Arm,
    ClosedLoop,
    MlscaleError,
    Mode,
    OpenLoop,
    Run,
    RunClock,
    RunInfo,
    RunWriter,
    load_run,
)

# How long before time zero the load generator is started (it imports, reads bodies and draws its send times), s.
LOAD_LEAD_S: Final = 4.0
# How long before the schedule's start the load generator is released, s.
_RELEASE_S: Final = 0.3
_POLL_S: Final = 0.25
_DAY_S: Final = 86_400.0
# How long the host has to be quiet before a run starts, s (METHOD §6).
QUIET_FOR_S: Final = 5.0

Progress = Callable[[str, float], None]
"""Called with the current step and the share of it that is done (0 to 1)."""


def no_progress(step: str, share: float) -> None:
    """Report nothing."""


class MeasureSettings(SendOptions):
    """Keys of ``mlscale measure --set``."""

    idle_s: float = Field(
        default=30.0,
        ge=0,
        le=_DAY_S,
        allow_inf_nan=False,
        description="how long the idle framework is observed before the load",
    )
    quiet_at_most_s: float = Field(
        default=60.0,
        ge=0,
        le=_DAY_S,
        allow_inf_nan=False,
        description="longest wait for a quiet host; whether it became quiet is recorded",
    )
    content_type: str | None = Field(default=None, description="of all bodies; default: by each file's name")

    @field_validator("content_type")
    @classmethod
    def _one_line(cls, text: str | None) -> str | None:
        if text is not None and not re.fullmatch(r"[!-.0-~]+/[!-~][ -~]*", text):
            raise ValueError("use one such as image/png")
        return text


class MeasureOptions(MeasureSettings):
    """Options that rarely need changing.

    Attributes:
        labels: what identifies the run within an experiment.
        trial: first load the model in a separate process and have it answer a few bodies, so that a broken model is an
            error before anything is deployed, instead of a line in a framework's log.
        progress: called with the current step and its share done.
    """

    mode: Mode = "live"
    labels: Labels = Labels()
    trial: bool = False
    progress: Progress = no_progress


@dataclass(frozen=True)
class _Request:
    """A validated call of `measure`."""

    environment: Environment
    app: App
    scalings: Mapping[str, Scaling]
    schedule: ClosedLoop | OpenLoop
    bodies: BodySet
    bodies_folder: Path
    out: Path
    arm: Arm
    options: MeasureOptions


def measure(
    environment: str | Environment,
    app: App,
    schedule: ClosedLoop | OpenLoop | None = None,
    *,
    bodies: Path | str,
    out: Path | str,
    scaling: Mapping[str, Any] | Scaling | None = None,
    arm: Arm = "matched",
    options: MeasureOptions | None = None,
) -> Run:
    """Deploy ``app`` under an environment's autoscaler, send load, record what happens, tear it down. Blocks.

    Works where an event loop is already running (Jupyter): load runs in its own process, observation in a thread.

    Args:
        environment: a name (`mlscale.environments.names`) or an environment.
        schedule: None: for the defaults' application theirs (`mlscale.measurement.default_load`); the replicas of an
            environment given by name then have the sizes that it is made for, unless ``scaling`` says otherwise. A
            model of the user's own is tried first, and the load fitted to it (`mlscale.measurement.model_load`).
        bodies: folder of the files to send; labels.jsonl in it holds the right answers, if they are known
            (`mlscale.loadgen.bodies.BodySet`).
        out: folder for the new run; must be empty or not exist.
        scaling: overrides the arm's settings ("readers.max_replicas": of one component), or a whole `Scaling`.

    Raises:
        MlscaleError: something a user can fix; nothing was left running.
        KeyboardInterrupt, SystemExit: passed on after teardown; the run's folder then says that it is incomplete.
    """
    options = options or MeasureOptions()
    chosen = environments.get(environment) if isinstance(environment, str) else environment
    if (in_mode := getattr(chosen, "in_mode", None)) is not None:
        chosen = in_mode(options.mode)
    body_set = BodySet.read(bodies)
    load_check(app.check, body_set.labels)
    add_working_folder()
    fits = schedule is None and not is_for(app)
    if schedule is None and not fits and isinstance(environment, str) and not isinstance(scaling, Scaling):
        scaling = defaults().sized(environment, scaling or {}, None)
    scalings = settings_of(chosen, app, arm, scaling)
    if not fits:
        schedule = schedule or default_load(chosen, scalings)
        chosen = _for_load(chosen, schedule, body_set)
    _preflight(chosen, app, scalings, Path(out), options)
    if options.trial or fits:
        trial = try_model(app, body_set, bodies, options.progress, options.timeout_s)
        options.progress(trial.said, 0.0)
        if schedule and (warning := misfit(schedule, trial.cost, min(one.cpu_cores for one in scalings.values()))):
            options.progress(warning, 0.0)
    if fits:
        fitted = load_for(trial.cost, _given(scaling))
        options.progress(fitted.said, 0.0)
        options.progress(f"the same load for another framework: --schedule {out} {fitted.options}", 0.0)
        if not isinstance(scaling, Scaling):
            scalings = settings_of(chosen, app, arm, {**chosen.settings.sized(fitted.sizes), **(scaling or {})})
        if "timeout_s" not in options.model_fields_set:
            options = options.model_copy(update={"timeout_s": fitted.timeout_s})
        schedule = long_enough(fitted.schedule, chosen, scalings)
        chosen = _for_load(chosen, schedule, body_set)
    assert schedule is not None
    request = _Request(
        environment=chosen,
        app=app,
        scalings=scalings,
        schedule=schedule,
        bodies=body_set,
        bodies_folder=Path(bodies),
        out=Path(out),
        arm=arm,
        options=options,
    )
    split(request.schedule, options.workers)  # refuses more workers than the schedule can be split among
    options.progress(announcement(request.schedule, options.idle_s), 0.0)
    return _execute(request)


def _for_load(environment: Environment, schedule: ClosedLoop | OpenLoop, bodies: BodySet) -> Environment:
    """The environment, told what will be sent if it asks for that (`mlscale.environments.base.Environment`)."""
    told: Callable[[ClosedLoop | OpenLoop, BodySet], Environment] | None = getattr(environment, "for_load", None)
    return environment if told is None else told(schedule, bodies)


def _given(scaling: Mapping[str, Any] | Scaling | None) -> Mapping[str, Any]:
    """What the user says of the replicas' sizes, which a load is then fitted to."""
    return scaling.model_dump() if isinstance(scaling, Scaling) else scaling or {}


def _execute(request: _Request) -> Run:
    progress, at_most_s = request.options.progress, request.options.quiet_at_most_s
    progress("waiting for a quiet host", 0.0)
    # What is on a stopped cluster or in an account out of reach must not stop a run.
    cleanup(reapers=environments.reapers(), unreachable=lambda error: progress(f"left for later: {error}", 0.0))
    host = wait_until_quiet(for_s=min(QUIET_FOR_S, at_most_s), at_most_s=at_most_s)
    if at_most_s > 0 and not host.quiet:
        progress(f"other programs still use {host.busy_fraction:.0%} of the host's CPU; measuring all the same", 0.0)
    writer = RunWriter(request.out, _info(request))
    waits = {"quiet_s": host.waited_s, "quiet": float(host.quiet), "busy_fraction": host.busy_fraction}
    try:
        with Ledger.create(writer.info.run_id) as ledger:
            changes = _run_deployed(request, writer, ledger, waits)
        progress("sealing", 1.0)
        return _seal(writer, changes, waits)
    except BaseException as error:
        writer.abandon_for(error, waits=waits)
        raise


def _run_deployed(request: _Request, writer: RunWriter, ledger: Ledger, waits: dict[str, float]) -> dict[str, Any]:
    """Deploy, observe, load, tear down. Returns what goes into run.json."""
    start_s, options = time.monotonic(), request.options
    others = _other_runs(writer)
    if others:
        options.progress(
            f"another run is in progress on this host, and each will disturb the other: {', '.join(sorted(others))}",
            0.0,
        )
    options.progress("deploying", 0.0)
    with request.environment.deploy(
        request.app, request.scalings, options.mode, ledger, request.bodies.bodies
    ) as deployed:
        waits["deploy_s"] = time.monotonic() - start_s
        clock = _clock_from(options.idle_s + LOAD_LEAD_S)
        writer.update(
            wall_start=clock.wall_start,
            step_s=step_of(request.schedule),
            facts=dict(deployed.facts),
            versions=dict(deployed.versions),
        )
        changes = _observe_load(request, writer, deployed, clock, waits)
        others |= _other_runs(writer)
        # Some are known only now: how late an observation was.
        changes["facts"] = {**deployed.facts, **({"other_runs": sorted(others)} if others else {})}
        start_s = time.monotonic()
        options.progress("tearing down", 0.0)
    waits["teardown_s"] = time.monotonic() - start_s
    return changes


def _other_runs(writer: RunWriter) -> set[str]:
    """Other runs that are in progress on this host."""
    persistent = {entry.name for entry in offered(environments.REAPER_GROUP)}
    return set(active_runs(persistent)) - {writer.info.run_id}


def _observe_load(
    request: _Request, writer: RunWriter, deployed: Deployed, clock: RunClock, waits: dict[str, float]
) -> dict[str, Any]:
    """Observe the idle framework, then send the load. If observation fails, stops the load and raises its error."""
    schedule, options = request.schedule, request.options
    with Observer(deployed, clock, writer) as observer, LoadProcess() as load:
        options.progress("watching at idle", 0.0)
        observer.wait(-LOAD_LEAD_S - clock())
        waits["idle_s"] = clock() + LOAD_LEAD_S + options.idle_s
        load.start(
            _load_spec(request, deployed),
            deployed.load_prefix,
            [writer.request_stream(worker) for worker in range(options.workers)],
        )
        load.wait_ready()
        start_s = max(0.0, clock() + _RELEASE_S, load.not_before_s - clock.origin_s)
        load.release(clock.origin_s, start_s)
        waits["load_late_s"] = start_s
        for event in load_events(schedule, start_s):
            writer.observe(event)
        while not load.join(0.0):
            observer.wait(_POLL_S)
            options.progress("under load", min(max((clock() - start_s) / schedule.duration_s, 0.0), 1.0))
        report = load.wait()
        waits["drain_s"] = max(clock() - start_s - schedule.duration_s, 0.0)
    return {"stimulus": report, "step_s": step_of(schedule, start_s)}


def _load_spec(request: _Request, deployed: Deployed) -> LoadSpec:
    options = request.options
    return LoadSpec(
        url=deployed.url,
        headers={**deployed.headers, **({"Content-Type": options.content_type} if options.content_type else {})},
        schedule=request.schedule,
        bodies=request.bodies_folder,
        check=request.app.check,
        block=options.labels.block or 0,
        **{name: getattr(options, name) for name in SendOptions.model_fields},
    )


def _preflight(
    environment: Environment, app: App, scalings: Mapping[str, Scaling], out: Path, options: MeasureOptions
) -> None:
    if out.is_dir() and any(out.iterdir()):
        raise MlscaleError("the folder is not empty", str(out), "choose another --out, or delete it")
    mode = options.mode
    if mode not in environment.modes:
        if not environment.modes:
            remedy = f"run mlscale simulate {environment.name}"
            raise MlscaleError("it can only be simulated so far", environment.name, remedy)
        modes = ", ".join(sorted(environment.modes))
        raise MlscaleError(f"unsupported mode {mode!r}", environment.name, f"choose one of: {modes}")
    problems = environment.preflight(app, scalings, mode)
    raise_fatal(problems)
    for problem in problems:
        options.progress(f"{problem.where}: {problem.what} ({problem.remedy})", 0.0)


def _info(request: _Request) -> RunInfo:
    return RunInfo(
        run_id=f"{request.environment.name}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
        environment=request.environment.name,
        level=request.environment.level,
        mode=request.options.mode,
        app=request.app.name,
        app_version=request.app.version,
        components=tuple(component.name for component in request.app.components),
        entries={component.name: component.entry for component in request.app.components},
        schedule=request.schedule,
        step_s=step_of(request.schedule),
        arm=request.arm,
        scaling={name: scaling.model_dump() for name, scaling in request.scalings.items()},
        connections=request.options.connections,
        timeout_s=request.options.timeout_s,
        bodies=dict(request.bodies.facts),
        seed=request.options.seed,
        wall_start=datetime.now(UTC),
        host=dict(host_facts()),
        **request.options.labels.model_dump(),
    )


def _seal(writer: RunWriter, changes: Mapping[str, Any], waits: Mapping[str, float]) -> Run:
    from mlscale.analysis.validity import judge

    rounded = {name: round(value, 3) for name, value in waits.items()}
    writer.update(**changes, waits=rounded)
    writer.flush()
    run = Run(writer.path, writer.info)
    writer.seal(idle=_idle(run), validity=judge(run))
    return load_run(writer.path)


def _idle(run: Run) -> dict[str, float]:
    """What an idle framework uses, by role, before the load begins (METHOD §6): ``control_plane_cores``,
    ``control_plane_rss_bytes`` and so on, the sum of the means of the role's subjects."""
    used = run.resources.rename(columns={"cpu_cores": "cores"})
    used = used[(used["t_s"] <= -LOAD_LEAD_S) & (used["role"] != "load_generator")]
    means = used.groupby(["role", "subject"])[["cores", "rss_bytes"]].mean().groupby("role").sum(min_count=1)
    return {f"{role}_{name}": round(float(value), 6) for (role, name), value in means.stack().dropna().items()}


def _clock_from(seconds: float) -> RunClock:
    """A clock whose zero is ``seconds`` from now."""
    return RunClock(time.monotonic() + seconds, datetime.now(UTC) + timedelta(seconds=seconds))


def step_of(schedule: ClosedLoop | OpenLoop, start_s: float = 0.0) -> float | None:
    """t0, the start of the second load stage, on the run's clock; None if there is only one stage, or if the load falls
    again within the window over which responses are averaged: then the second is a pulse and no step."""
    _, *later = schedule.boundaries_s
    if len(later) > 1 and schedule.levels[2] < schedule.levels[1]:  # a ramp goes on rising
        from mlscale.analysis.moving import WINDOW_S  # with pandas, which nothing else needs before a load

        if later[1] - later[0] <= WINDOW_S:
            return None
    return start_s + later[0] if later else None
