"""What ``mlscale simulate`` and ``mlscale calibrate`` do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mlscale.experiment.parameters import MeasureParameters, checked
from mlscale.runs import MlscaleError


def simulate_command(
    environment: str,
    out: Path,
    arm: str,
    schedule: Path | None,
    scaling: Sequence[str],
    photos: Path | None,
    connections: str,
    seed: int,
    profile: Path | None,
    changes: Sequence[str],
    machine_failures_per_h: float,
) -> str:
    """One simulated run; returns the line that says where it lies and what came of it."""
    from mlscale.experiment.progress import Shown
    from mlscale.experiment.protocol import current_protocol
    from mlscale.experiment.settings import parse_settings
    from mlscale.experiment.simulate import simulate
    from mlscale.load.schedule_files import read_schedule

    given = {"mode": "simulated", "arm": arm, "connections": connections, "scaling": parse_settings(scaling)}
    asked = checked(MeasureParameters, given)
    with Shown() as shown:
        run = simulate(
            environment,
            schedule=read_schedule(schedule) if schedule else None,
            out=out,
            photos=photos,
            scaling=current_protocol().sized(environment, asked.scaling, schedule),
            arm=asked.arm,
            connections=asked.connections,
            seed=seed,
            profile=profile,
            changes=[_change(each) for each in changes],
            machine_failures_per_h=machine_failures_per_h,
            progress=shown,
        )
    right = int((run.requests.status == "ok").sum())
    return f"{run.path}: SIMULATED, {len(run.requests)} requests, {right} answered; nothing was measured"


def calibrate_command(folders: Sequence[Path], out: Path | None) -> str:
    """A profile fitted to live runs; returns what changed, and where it lies."""
    from mlscale.runs import load_runs
    from mlscale.simulator.calibration import calibrate
    from mlscale.simulator.profile import read_profile

    runs = load_runs(folders)
    if not runs:
        raise MlscaleError("no run is in there", ", ".join(map(str, folders)), "name folders of runs")
    before = read_profile(runs[0].info.environment)
    after = calibrate(runs, before)
    file = out or Path(f"{after.environment}.json")
    if file.exists():
        raise MlscaleError("it is there already", str(file), "choose another --out, or delete it")
    file.write_text(after.model_dump_json(indent=2, exclude_none=True) + "\n")
    work, old = next(iter(after.work.values())), next(iter(before.work.values()))
    return (
        f"{file}: work of an answer {1000 * work.mean_s.value:.1f} ms (before: {1000 * old.mean_s.value:.1f}); "
        f"use it with mlscale simulate {after.environment} --profile {file}"
    )


def sweep_command(
    environments: Sequence[str],
    out: Path,
    scaling: Sequence[str],
    changes: Sequence[str],
    arm: str,
    schedule: Path | None,
    draws: int,
    address: str | None,
) -> str:
    """A grid of simulated runs; returns the mean figures of each combination."""
    from mlscale.experiment.progress import Shown
    from mlscale.experiment.protocol import current_protocol
    from mlscale.experiment.sweep import grid, sweep
    from mlscale.load.schedule_files import read_schedule

    protocol = current_protocol()
    wanted = read_schedule(schedule) if schedule else protocol.closed_schedule(protocol.baseline_s)
    settings, numbers = _values(scaling, "--scaling"), _values(changes, "--set")
    tasks = [
        task
        for name in environments
        for task in grid(
            [name],
            wanted,
            {key: [value] for key, value in protocol.sized(name, {}, schedule).items()} | settings,
            draws,
            arm=arm,
            level_s=protocol.level_s,
            changes=numbers,
        )
    ]
    with Shown() as shown:
        table = sweep(tasks, out, address=address, say=shown)
    keys = ["environment", *settings, *numbers]
    shown_columns = ["mean_response_s", "sd_response_s", "t_slo_s", "mean_replicas", "failure_share"]
    means = table.groupby(keys, sort=False)[shown_columns].mean().round(3)
    return f"{means.to_string()}\n{out}: SIMULATED, {len(table)} runs, means of {draws} draws; nothing was measured"


def freeze_command(runs: Path) -> str:
    """Fixes the twin's profiles for this host."""
    from mlscale.experiment import places
    from mlscale.experiment.freeze import freeze

    host, new = freeze(runs.resolve())
    if not new:
        return f"{host}: all profiles are as they were frozen"
    return f"{host}: {', '.join(new)} frozen\n{places.twin_file()}: written"


def validate_command(draws: int) -> str:
    """The record of a validation by the published hold-out runs; returns its table."""
    import pandas as pd

    from mlscale.experiment import places
    from mlscale.experiment.freeze import read_frozen, twins_by
    from mlscale.experiment.progress import Shown
    from mlscale.experiment.protocol import read_protocol
    from mlscale.experiment.records import VALIDATION, note_verdicts, write_record
    from mlscale.experiment.twin_lab import calibrations, published
    from mlscale.experiment.validation import validate

    held_out = [run for run in published("holdout") if run.info.valid]
    if not held_out:
        raise MlscaleError("no hold-out runs are published", str(places.reference()), "measure some: --cells holdout")
    before = published("core", "rehearsal", "calibration")
    protocol = read_protocol(places.reference_protocol_file())
    if protocol is None:
        raise MlscaleError("there is no protocol", str(places.reference_protocol_file()), "restore it")
    with Shown() as shown:
        profile_of = twins_by(read_frozen(), calibrations())
        record = validate(held_out, before, protocol.level_s, draws=draws, say=shown, profile_of=profile_of)
    file = write_record(VALIDATION, record)
    note_verdicts(record, held_out)
    table = pd.DataFrame(record["verdicts"])[["environment", "figure", "n", "live", "twin", "low", "high", "verdict"]]
    return f"{table.round(3).to_string(index=False)}\n{file}: written"


def claims_command(draws: int) -> str:
    """The record of the paper's claims by the twin; returns the verdicts."""
    import pandas as pd

    from mlscale.experiment.claims import judge_all
    from mlscale.experiment.progress import Shown
    from mlscale.experiment.protocol import published_protocol
    from mlscale.experiment.records import CLAIMS, write_record
    from mlscale.experiment.twin_lab import cloud_sizes, long_schedule

    protocol = published_protocol()
    with Shown() as shown:
        record = judge_all(long_schedule(), protocol.level_s, draws=draws, say=shown, scaling=cloud_sizes())
    file = write_record(CLAIMS, record)
    tables = [pd.DataFrame(found["verdicts"]).assign(arm=arm) for arm, found in record["arms"].items()]
    return f"{pd.concat(tables).round(3).to_string(index=False)}\n{file}: written"


def _values(texts: Sequence[str], option: str) -> dict[str, list[Any]]:
    """``["max_replicas=2,4"]`` to ``{"max_replicas": [2, 4]}``."""
    found: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        if not sign or not values:
            raise MlscaleError(f"{text!r} has no values", option, "write KEY=VALUE,VALUE,...")
        found[name] = [_change(f"{name}={value}")[1] for value in values.split(",")]
    return found


def _change(text: str) -> tuple[str, Any]:
    path, sign, value = text.partition("=")
    if not sign:
        raise MlscaleError(f"{text!r} has no value", "--set", "write PATH=VALUE, such as work.app.mean_s.value=0.05")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value
