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
            scaling=asked.scaling,
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


def _change(text: str) -> tuple[str, Any]:
    path, sign, value = text.partition("=")
    if not sign:
        raise MlscaleError(f"{text!r} has no value", "--set", "write PATH=VALUE, such as work.app.mean_s.value=0.05")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value
