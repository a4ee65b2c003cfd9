"""``mlscale simulate``, ``sweep`` and ``calibrate``. Imports are local, so that ``mlscale --help`` stays fast."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlscale.errors import MlscaleError

if TYPE_CHECKING:
    from mlscale_twin.profile import Profile

Arm = Annotated[str, typer.Option(help="preset of settings: matched, shipped, static-min or static-max")]


def simulate(
    environment: Annotated[str, typer.Argument(help="torchserve, rayserve, k3s, eks or ecs")],
    out: Annotated[Path, typer.Option(help="folder of the new run")],
    arm: Arm = "matched",
    app: Annotated[
        str | None, typer.Option(help="your own model, as package.module:factory; default: the code reader")
    ] = None,
    schedule: Annotated[Path | None, typer.Option(help="JSON file; default: the protocol's 60 s schedule")] = None,
    scaling: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE, overrides a setting of the arm; repeatable")
    ] = None,
    photos: Annotated[
        Path | None, typer.Option(help="folder of a photo set, whose names and cost are used; default: the profile's")
    ] = None,
    connections: Annotated[str, typer.Option(help="fresh (one per request) or kept")] = "fresh",
    seed: Annotated[int, typer.Option(min=0, help="of the clients' behaviour")] = 0,
    profile: Annotated[
        str | None,
        typer.Option(
            help="file written by mlscale calibrate, or one of ecs-fargate, ecs-ec2, eks-karpenter, eks-node-group, "
            "eks-fargate; default: the environment's own"
        ),
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="PATH=VALUE, overrides a number of the profile; repeatable")
    ] = None,
    machine_failures: Annotated[float, typer.Option(min=0, help="random failures per machine and hour")] = 0.0,
) -> None:
    """Simulate a run: the framework's own scaling decisions on a calibrated model. Nothing is deployed or measured."""
    from mlscale.cost import read_prices, usage_of, usd_per_month
    from mlscale.defaults import defaults
    from mlscale.environments.base import own_model
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.measurement.settings import parse_settings
    from mlscale.notebook.parameters import MeasureParameters, checked
    from mlscale.progress import Shown
    from mlscale_twin.simulate import SimulateOptions, simulate

    given = {"mode": "simulated", "arm": arm, "connections": connections, "scaling": parse_settings(scaling or [])}
    parameters = checked(MeasureParameters, given)
    with Shown() as shown:
        run = simulate(
            environment,
            own_model(app) if app else None,
            read_schedule(schedule) if schedule else None,
            out=out,
            scaling=defaults().sized(environment, parameters.scaling, schedule),
            arm=parameters.arm,
            profile=Path(profile) if profile and Path(profile).exists() else profile,
            options=SimulateOptions(
                connections=parameters.connections,
                seed=seed,
                photos=photos,
                changes=[_parse_change(text) for text in changes or []],
                machine_failures_per_h=machine_failures,
                progress=shown,
            ),
        )
    answered = int((run.requests.status == "ok").sum())
    usage = usage_of(run, 0.0, run.info.schedule.duration_s)
    usd = usd_per_month(environment, next(iter(run.info.scaling.values())), usage, read_prices())
    print(f"{run.path}: SIMULATED, {len(run.requests)} requests, {answered} answered; nothing was measured")
    print(f"  {usage.replicas:.2f} replicas on average; {usd:.2f} USD a month if this load went on")


def sweep(
    environments: Annotated[list[str], typer.Argument(help="one or more of torchserve, rayserve, k3s, eks, ecs")],
    out: Annotated[Path, typer.Option(help="file of results, one per line; an interrupted sweep resumes")],
    scaling: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE,VALUE,...: values of a setting; all combinations are simulated")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="PATH=VALUE,VALUE,...: values of a number in the profile")
    ] = None,
    arm: Arm = "matched",
    schedule: Annotated[Path | None, typer.Option(help="JSON schedule or CSV trace; default: the protocol's")] = None,
    profile: Annotated[
        list[Path] | None, typer.Option(help="written by mlscale calibrate, replaces an environment's own; repeatable")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="simulated runs per combination")] = 8,
    sort: Annotated[str, typer.Option(help="column of the table to sort by, lowest first")] = "p95_response_s",
    ray: Annotated[
        str | None, typer.Option(help="address of a Ray cluster, or local; default: processes on this machine")
    ] = None,
) -> None:
    """Simulate a grid of settings; print each combination's mean figures, the best first. Nothing is measured."""
    from mlscale.defaults import defaults
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.progress import Shown
    from mlscale_twin.profile import read_profile
    from mlscale_twin.studies.sweep import grid, sweep

    presets = defaults()
    load = read_schedule(schedule) if schedule else presets.schedule()
    settings, numbers = _parse_values(scaling or [], "--scaling"), _parse_values(changes or [], "--set")
    profiles = {own.environment: own for own in map(read_profile, profile or [])}
    tasks = [
        task
        for name in environments
        for task in grid(
            [name],
            load,
            {key: [value] for key, value in presets.sized(name, {}, schedule).items()} | settings,
            draws,
            arm=arm,
            level_s=presets.level_s,
            changes=numbers,
            profile=profiles.get(name),
        )
    ]
    with Shown() as shown:
        runs = sweep(tasks, out, address=ray, progress=shown)
    keys = ["environment", *settings, *numbers]
    figures = [name for name in _SWEEP_FIGURES if name in runs]
    if sort not in figures:
        raise MlscaleError(f"no column {sort!r}", "--sort", f"choose one of: {', '.join(figures)}")
    table = runs.groupby(keys, sort=False)[figures].mean().sort_values(sort, kind="stable")
    file = out.with_suffix(".csv")
    table.to_csv(file)
    print(table.head(_SWEEP_ROWS).to_string(float_format="{:.3g}".format))
    more = f", the best {_SWEEP_ROWS} are shown" if len(table) > _SWEEP_ROWS else ""
    print(f"{file}: SIMULATED, {len(table)} combinations{more}; means of {draws} draws, nothing was measured")


# Columns of a sweep's table; those of the step are there if the schedule has one.
_SWEEP_FIGURES = (
    "mean_response_s", "sd_response_s", "p50_response_s", "p95_response_s", "p99_response_s", "failure_share",
    "t_slo_s", "mean_replicas", "usd_per_month",
)  # fmt: skip
_SWEEP_ROWS = 40


def calibrate(
    folders: Annotated[list[Path], typer.Argument(help="live runs of one environment, or folders of them")],
    out: Annotated[Path | None, typer.Option(help="file of the new profile; default: ENVIRONMENT.json")] = None,
) -> None:
    """Fit an environment's profile to live runs: service times and the durations of a replica's start."""
    from mlscale.progress import Shown
    from mlscale.runs import load_runs
    from mlscale_twin.calibration import calibrate
    from mlscale_twin.profile import read_profile
    from mlscale_twin.studies.validation import compare_profile

    runs = load_runs(folders)
    if not runs:
        raise MlscaleError("no runs found", ", ".join(map(str, folders)), "name folders of runs")
    before = read_profile(runs[0].info.environment)
    file = out or Path(f"{before.environment}.json")
    if file.exists():
        raise MlscaleError("the file exists already", str(file), "choose another --out, or delete it")
    with Shown() as progress:
        fitted = calibrate(runs, before)
        compared = compare_profile(fitted, runs, "the runs that it was fitted to", progress=progress)
    after = fitted.model_copy(update={"compared": compared})
    file.write_text(after.model_dump_json(indent=2, exclude_none=True) + "\n")
    work_ms, old_ms = (1000 * next(iter(profile.work.values())).mean_s.value for profile in (after, before))
    low, high = compared.ratios["mean_response_s"]
    print(f"{file}: CPU per answer {work_ms:.1f} ms (before: {old_ms:.1f})")
    print(
        f"  mean response, twin / live: {low:.2f} to {high:.2f} over {compared.runs} runs{_beyond(before, low, high)}"
    )
    print(f"  use it with mlscale simulate {after.environment} --profile {file}, or sweep and advise")


def _beyond(before: Profile, low: float, high: float) -> str:
    """A warning if a new profile is further from its runs than the shipped one was from those."""
    if before.compared is None:
        return ""
    known_low, known_high = before.compared.ratios["mean_response_s"]
    if low < known_low or high > known_high:
        return f"; WARNING: outside {known_low:.2f} to {known_high:.2f}, where the shipped profile was compared"
    return f", inside {known_low:.2f} to {known_high:.2f}, where the shipped profile was compared"


def _parse_values(texts: Sequence[str], option: str) -> dict[str, list[Any]]:
    """``["max_replicas=2,4"]`` to ``{"max_replicas": [2, 4]}``."""
    values_of: dict[str, list[Any]] = {}
    for text in texts:
        name, sign, values = text.partition("=")
        if not sign or not values:
            raise MlscaleError(f"{text!r} has no values", option, "write KEY=VALUE,VALUE,...")
        values_of[name] = [_parse_change(f"{name}={value}")[1] for value in values.split(",")]
    return values_of


def _parse_change(text: str) -> tuple[str, Any]:
    path, sign, value = text.partition("=")
    if not sign:
        raise MlscaleError(f"{text!r} has no value", "--set", "write PATH=VALUE, such as work.app.mean_s.value=0.05")
    try:
        return path, json.loads(value)
    except ValueError:
        return path, value
