"""simulate(): the twin of `mlscale.measurement.measure.measure`. It returns the same `Run`, labelled ``simulated``."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pyarrow as pa

from mlscale import environments
from mlscale.analysis.validity import judge
from mlscale.defaults import defaults
from mlscale.environments import App, Scaling
from mlscale.environments.machine_types import RESERVED_CORES, RESERVED_MIB, catalogue
from mlscale.host.facts import host_facts
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.schedules import load_events
from mlscale.measurement.labels import Labels
from mlscale.measurement.measure import Progress, no_progress, step_of
from mlscale.measurement.settings import settings_of
from mlscale.runs import (
    SCHEMAS,
    Arm,
    ClosedLoop,
    Connections,
    Event,
    MlscaleError,
    Observation,
    OpenLoop,
    Run,
    RunInfo,
    RunWriter,
    StimulusReport,
    TableName,
    TableWriter,
    load_run,
)
from mlscale_twin.cloud import variant_of
from mlscale_twin.compiled import is_compiled
from mlscale_twin.durations import Duration, Measured
from mlscale_twin.layout import LOST, OK, REFUSED, TIMED_OUT
from mlscale_twin.policies.karpenter import InstanceType, Resources
from mlscale_twin.profile import Profile, with_changes
from mlscale_twin.profile_files import read_profile
from mlscale_twin.twin import Setup, Twin, TwinResult

_STATUS: Final = {OK: "ok", TIMED_OUT: "timeout", REFUSED: "http_5xx", LOST: "http_5xx"}
_BATCH_ROWS: Final = 100_000


@dataclass(frozen=True)
class SimulateOptions:
    """Rarely changed options of a simulation.

    Args:
        connections: as for `measure`; "kept" is simulated only if it does not pin a client to a replica.
        seed: of client behaviour, as for `measure`; draw: seed of everything else.
        hpa_sync_at_s: a time, on the run's clock, at which the HPA decides; None: drawn.
        timeout_s: a request without an answer after that long is a failure, s.
        photos: folder of a photo set, for its names and cost; None: as many photos as the profile has.
        changes: values that replace the profile's, by dotted path (`mlscale_twin.profile.with_changes`).
        machine_failures_per_h: random failures per machine and hour.
        labels: the run's place in an experiment. progress: called from time to time.
    """

    connections: Connections = "fresh"
    seed: int = 0
    draw: int = 0
    hpa_sync_at_s: float | None = None
    timeout_s: float = 30.0
    photos: Path | str | None = None
    changes: Sequence[tuple[str, Any]] = ()
    machine_failures_per_h: float = 0.0
    labels: Labels = field(default_factory=Labels)
    progress: Progress = no_progress


def simulate(
    environment: str,
    app: App | None = None,
    schedule: ClosedLoop | OpenLoop | None = None,
    *,
    out: Path | str | None = None,
    scaling: Mapping[str, Any] | Scaling | None = None,
    arm: Arm = "matched",
    profile: Profile | Path | str | None = None,
    options: SimulateOptions | None = None,
) -> Run:
    """Simulates a run of ``environment`` by its profile; nothing is deployed or sent.

    Args:
        out: folder of the new run; None: it is kept in memory.
        scaling, arm: as for `measure`. profile: or its file or name; None: the environment's own.

    Raises:
        MlscaleError: something the user can fix.
    """
    chosen = options or SimulateOptions()
    platform = environments.get(environment)
    application = app or defaults().application()
    scalings = {
        name: settings.model_dump() for name, settings in settings_of(platform, application, arm, scaling).items()
    }
    own = variant_of(environment, next(iter(scalings.values())))
    base = profile if isinstance(profile, Profile) else read_profile(profile or own)
    used = with_changes(base, chosen.changes) if chosen.changes else base
    if used.environment != environment:
        raise MlscaleError(f"it is for {used.environment}", "profile", f"choose one of {environment}")
    failures_per_h = chosen.machine_failures_per_h
    if not 0 <= failures_per_h < math.inf:
        raise MlscaleError(f"{failures_per_h:g} is not possible", "machine failures", "use a number of 0 or more")
    if chosen.connections == "kept" and used.requests.routing == "random":
        remedy = "use fresh connections, or measure live"
        raise MlscaleError("kept connections, which pin a client to a pod, are not simulated", "connections", remedy)
    photo_set = BodySet.read(Path(chosen.photos)) if chosen.photos is not None else None
    if used.machines is not None and not machines_of(scalings)[0]:
        raise MlscaleError("it has machines, the settings do not", "profile", "choose another, or set launch=ec2")
    if failures_per_h and used.machines is None:
        raise MlscaleError("no machines are simulated here", "machine failures", "leave them out")
    setup = setup_of(
        used,
        schedule or defaults().quick_schedule(),
        scalings,
        photos=_photo_names(photo_set, used),
        work_factor=_work_factor(photo_set, used),
        machine_failures_per_h=failures_per_h,
        timeout_s=chosen.timeout_s,
        seed=chosen.seed,
        draw=chosen.draw,
        hpa_sync_at_s=chosen.hpa_sync_at_s,
        block=chosen.labels.block or 0,
    )
    return run_of(setup, application, out, arm, chosen, photo_set)


def setup_of(
    profile: Profile, schedule: ClosedLoop | OpenLoop, scalings: Mapping[str, Mapping[str, Any]], **others: Any
) -> Setup:
    """The setup of a profile under a schedule, with the machines that the settings name.

    Args:
        scalings: every setting, by component. others: further fields of `Setup`; photos: the profile's unless given.

    Raises:
        MlscaleError: an unknown type of machine.
    """
    types, boot = machines_of(scalings)
    photos = others.pop("photos", None) or _photo_names(None, profile)
    return Setup(profile=profile, schedule=schedule, scalings=scalings, photos=photos, types=types, boot=boot, **others)


def run_of(
    setup: Setup,
    app: App,
    out: Path | str | None,
    arm: Arm = "matched",
    options: SimulateOptions | None = None,
    photos: BodySet | None = None,
) -> Run:
    """Simulates a setup; ``out`` and ``arm`` as of `simulate`, ``options``: its connections, labels and progress.

    Raises:
        MlscaleError: a setting is not supported, or ``out`` can't be written.
    """
    chosen = options or SimulateOptions()
    if not is_compiled():
        chosen.progress("compiling the twin, once (about half a minute)", 0.0)
    info = _info(app, setup, arm, chosen.connections, photos, chosen.labels)
    outcome = Twin(setup).run(lambda share: chosen.progress("simulating", share))
    if out is None:
        return _in_memory(info, setup, outcome)
    return _on_disk(RunWriter(Path(out), info), setup, outcome)


def _info(
    app: App, setup: Setup, arm: Arm, connections: Connections, photos: BodySet | None, labels: Labels
) -> RunInfo:
    profile = setup.profile
    facts = {
        "profile": {"sha256": profile.sha256, "what": profile.what, "validated": profile.validated},
        "machine_failures_per_h": setup.machine_failures_per_h,
    }
    return RunInfo(
        run_id=f"{profile.environment}-simulated-{_digest(setup)}",
        environment=profile.environment,
        level=environments.get(profile.environment).level,
        mode="simulated",
        app=app.name,
        app_version=app.version,
        components=tuple(component.name for component in app.components),
        schedule=setup.schedule,
        step_s=step_of(setup.schedule),
        arm=arm,
        scaling={name: dict(scaling) for name, scaling in setup.scalings.items()},
        connections=connections,
        timeout_s=setup.timeout_s,
        bodies=dict(photos.facts) if photos is not None else {"count": len(setup.photos)},
        seed=setup.seed,
        wall_start=datetime.now(UTC),
        host=dict(host_facts()),
        versions={name: version(name) for name in ("mlscale", "numba", "numpy")},
        facts=facts,
        **labels.model_dump(),
    )


# Settings of live runs alone: they change nothing that is simulated. And those that matter at zero replicas only.
_UNREAD: Final = ("address", "prices", "working_dir", "load_from", "in_flight_metric")
_OF_ZERO: Final = ("downscale_to_zero_delay_s", "polling_interval_s", "cooldown_s")


def _unread(scaling: Mapping[str, Any]) -> tuple[str, ...]:
    return _UNREAD if scaling["min_replicas"] == 0 else (*_UNREAD, *_OF_ZERO)


def _digest(setup: Setup) -> str:
    """Identifies the simulation's inputs."""
    inputs = {
        "profile": setup.profile.sha256,
        "schedule": setup.schedule.model_dump(mode="json"),
        "scalings": {
            name: {key: value for key, value in scaling.items() if key not in _unread(scaling)}
            for name, scaling in setup.scalings.items()
        },
        "others": [
            setup.machine_failures_per_h,
            setup.timeout_s,
            setup.seed,
            setup.block,
            setup.draw,
            setup.hpa_sync_at_s,
            *([list(setup.scheduled_min), setup.initial] if setup.scheduled_min or setup.initial is not None else []),
        ],
        "photos": [*setup.photos, setup.work_factor],
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()[:16]


def _in_memory(info: RunInfo, setup: Setup, outcome: TwinResult) -> Run:
    """The run in memory."""
    requests = pa.Table.from_batches([_requests(setup, outcome, outcome.rows)]).to_pandas()
    events = _events(setup, outcome)
    details = [json.dumps(event.detail, sort_keys=True) for event in events]
    tables: dict[TableName, pd.DataFrame] = {
        "events": _frame("events", events, detail=details),
        "replicas": _frame("replicas", outcome.samples),
        "resources": _frame("resources", outcome.resources),
        "hops": _frame("hops", ()),
    }
    tables["requests"] = requests.sort_values("intended_s", kind="stable", ignore_index=True)
    run = Run.in_memory(info.model_copy(update={"stimulus": _stimulus(setup, outcome), "complete": True}), tables)
    judged = run.info.model_copy(update={"validity": judge(run)})
    return Run.in_memory(judged, tables)


def _frame(name: TableName, observations: Sequence[Observation], **columns: list[str]) -> pd.DataFrame:
    """A table of a run with a row for each observation; ``columns`` replace the observations' fields."""
    fields = SCHEMAS[name].names
    values = {field: columns.get(field) or [getattr(row, field) for row in observations] for field in fields}
    frame: pd.DataFrame = pa.table(values, schema=SCHEMAS[name]).to_pandas()
    return frame


def _events(setup: Setup, outcome: TwinResult) -> list[Event]:
    return sorted([*load_events(setup.schedule, 0.0), *outcome.events], key=lambda event: event.t_s)


def _stimulus(setup: Setup, outcome: TwinResult) -> StimulusReport:
    sent = len(outcome.rows)
    return StimulusReport(
        due=sent, sent=sent, finished=sent, lateness_p50_s=0.0, lateness_p99_s=0.0, lateness_max_s=0.0,
        client_change_error_s=0.0 if isinstance(setup.schedule, ClosedLoop) else None, load_cpu_cores=0.0,
    )  # fmt: skip


def _on_disk(writer: RunWriter, setup: Setup, outcome: TwinResult) -> Run:
    observations: list[Observation] = [*outcome.samples, *_events(setup, outcome), *outcome.resources]
    for observation in observations:
        writer.observe(observation)
    with TableWriter(writer.request_stream(0), SCHEMAS["requests"]) as table:
        for first in range(0, len(outcome.rows), _BATCH_ROWS):
            table.write(_requests(setup, outcome, outcome.rows[first : first + _BATCH_ROWS]))
    writer.update(stimulus=_stimulus(setup, outcome))
    writer.flush()
    writer.seal(validity=judge(Run(writer.path, writer.info)))
    return load_run(writer.path)


def _requests(setup: Setup, outcome: TwinResult, rows: Any) -> pa.RecordBatch:
    """Rows of the kernel as a batch of the requests table."""
    answered = rows["status"] == OK
    bounds = np.array(setup.schedule.boundaries_s)
    names = np.array([outcome.names.get(serial, "") for serial in range(max(outcome.names, default=-1) + 1)] + [None])
    columns = {
        "request_id": rows["number"],
        "client_id": rows["client"].astype(np.int32),
        "body_id": np.array(setup.photos, dtype=object)[rows["photo"]],
        "load_stage": (np.searchsorted(bounds, rows["intended_s"], side="right") - 1).astype(np.int32),
        "intended_s": rows["intended_s"],
        "sent_s": rows["intended_s"],
        "connect_s": np.zeros(len(rows)),
        "first_byte_s": np.where(answered, rows["done_s"], np.nan),
        "done_s": rows["done_s"],
        "status": np.array([_STATUS[status] for status in range(4)], dtype=object)[rows["status"]],
        "replica_id": names[np.where(answered, rows["replica"], -1)],
        "queue_s": rows["queue_s"],
        "inference_s": rows["inference_s"],
        "bytes_in": np.zeros(len(rows), np.int64),
    }
    arrays = [pa.array(columns[field.name], type=field.type) for field in SCHEMAS["requests"]]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMAS["requests"])


def _photo_names(photos: BodySet | None, profile: Profile) -> tuple[str, ...]:
    if photos is not None:
        return tuple(photos.names)
    count = len(next(iter(profile.work.values())).photos)
    return tuple(f"photo-{index:03d}.jpg" for index in range(count))


def _work_factor(photos: BodySet | None, profile: Profile) -> float:
    """Work of this set's photos relative to the profile's, from the times measured for both at full speed."""
    reference = next(iter(profile.work.values())).reference_cpu_s
    own = photos.facts.get("cpu_s") if photos is not None else None
    return float(own) / reference.value if own and reference is not None else 1.0


def machines_of(scalings: Mapping[str, Mapping[str, Any]]) -> tuple[tuple[InstanceType, ...], Duration | None]:
    """The machine types available and their boot time, if the scaling has any."""
    front = next(iter(scalings.values()))
    if front.get("launch") == "ec2":
        room = Resources(round(1000 * front["instance_cores"]), front["instance_memory_mib"] * 2**20)
        return (InstanceType("instance", room, room, 1.0),), None
    if "machine_types" not in front:
        return (), None
    known = catalogue()
    unknown = [name for name in front["machine_types"] if name not in known.types]
    if unknown:
        choice = ", ".join(known.types)
        raise MlscaleError(f"unknown machine type {unknown[0]!r}", "machine_types", f"choose one of: {choice}")
    types = [known.types[name] for name in front["machine_types"]]
    return tuple(
        InstanceType(
            kind.name,
            Resources(round(1000 * kind.cpu_cores), kind.memory_mib * 2**20),
            Resources(round(1000 * (kind.cpu_cores - RESERVED_CORES)), (kind.memory_mib - RESERVED_MIB) * 2**20),
            kind.usd_per_hour,
        )
        for kind in types
    ), boot_duration(front["boot"])


def boot_duration(name: str) -> Duration:
    """The boot times called ``name`` of `mlscale.environments.machine_types`, or a constant such as "60s".

    Raises:
        MlscaleError: it is neither.
    """
    boot = catalogue().boot_times_of(name)
    return Measured(samples_s=boot.samples_s, source=boot.source, date=boot.date or "2026-11")
