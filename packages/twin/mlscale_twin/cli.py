"""``mlscale simulate``, ``sweep`` and ``calibrate``. Imports are local, so that ``mlscale --help`` stays fast."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mlscale.commands.options import Arm, AsJson, OwnModel, ScalingChanges, refuse
from mlscale.errors import MlscaleError

if TYPE_CHECKING:
    from mlscale.measurement.measure import Progress
    from mlscale.runs import Run
    from mlscale_twin.profile import Compared, Profile


def simulate(
    environment: Annotated[str | None, typer.Argument(help="torchserve, rayserve, k3s, keda, eks or ecs")] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the new run; required without --advised")] = None,
    arm: Arm = "matched",
    app: Annotated[
        str | None, typer.Option(help="your own model, of which --profile is; default: the code reader")
    ] = None,
    schedule: Annotated[Path | None, typer.Option(help="JSON schedule or CSV trace; default: as for measure")] = None,
    scaling: ScalingChanges = None,
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
    advised: Annotated[
        str | None,
        typer.Option(
            metavar="FILE:LINE",
            help="a line of an advice, such as advice/strategies.csv:2, with its arrivals, seeds, profile and prices; "
            "--schedule: if its traffic was moved; --out: also the run with the first seed",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Simulate a run: the framework's own scaling decisions on a calibrated model. Nothing is deployed or measured.

    Example: mlscale simulate k3s --scaling max_replicas=6 --out runs/simulated
    """
    from mlscale.cost import read_prices, usage_of, usd_per_month
    from mlscale.defaults import defaults
    from mlscale.environments import get
    from mlscale.environments.base import own_model
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.measurement.default_load import default_load
    from mlscale.measurement.settings import parse_settings, settings_of
    from mlscale.notebook.parameters import MeasureParameters, checked
    from mlscale.progress import Shown
    from mlscale_twin.simulate import SimulateOptions, simulate

    if advised is not None:
        own: dict[str, object] = {
            "ENVIRONMENT": environment,
            "--arm": arm != "matched",
            "--app": app,
            "--scaling": scaling,
        }
        own |= {"--photos": photos, "--connections": connections != "fresh", "--seed": seed, "--profile": profile}
        refuse({**own, "--set": changes, "--machine-failures": machine_failures}, "with --advised")
        _simulate_advised(advised, schedule, out, as_json)
        return
    if environment is None or out is None:
        missing = "ENVIRONMENT" if environment is None else "--out"
        raise MlscaleError("it is required without --advised", missing, "mlscale simulate k3s --out runs/simulated")
    if app and not profile:
        what = "a simulation needs a profile of your model: without one it is of the code reader"
        remedy = "measure runs of it, mlscale calibrate them, and give --profile; or remove --app"
        raise MlscaleError(what, f"--app {app}", remedy)
    given = {"mode": "simulated", "arm": arm, "connections": connections, "scaling": parse_settings(scaling or [])}
    parameters = checked(MeasureParameters, given)
    platform = get(environment)
    application = own_model(app) if app else defaults().application()
    sized = defaults().sized(environment, parameters.scaling, schedule)
    if schedule:
        load = read_schedule(schedule)
    else:
        load = default_load(platform, settings_of(platform, application, parameters.arm, sized))
    with Shown() as shown:
        run = simulate(
            environment,
            application,
            load,
            out=out,
            scaling=sized,
            arm=parameters.arm,
            profile=Path(profile) if profile and Path(profile).exists() else profile,
            options=SimulateOptions(
                connections=parameters.connections,
                seed=seed,
                photos=photos,
                changes=_parse_changes(changes or []),
                machine_failures_per_h=machine_failures,
                progress=shown,
            ),
        )
    answered = int((run.requests.status == "ok").sum())
    usage = usage_of(run, 0.0, run.info.schedule.duration_s)
    usd = usd_per_month(environment, next(iter(run.info.scaling.values())), usage, read_prices())
    if as_json:
        counts = {"requests": len(run.requests), "answered": answered}
        print(json.dumps({"run": str(run.path), "mode": "simulated", **counts, **asdict(usage), "usd_per_month": usd}))
        return
    print(f"{run.path}: SIMULATED, {len(run.requests)} requests, {answered} answered; nothing was measured")
    print(f"  {usage.replicas:.2f} replicas on average; {usd:.2f} USD a month if this load went on")


def _simulate_advised(which: str, schedule: Path | None, out: Path | None, as_json: bool) -> None:
    from mlscale.progress import Shown
    from mlscale_twin.strategy.advised import read_line

    with Shown() as shown:
        line = read_line(which, schedule, shown)
        again = line.again()
        run = line.run(out, shown) if out is not None else None
    said = line.compared(again)
    if as_json:
        runs = [asdict(figures) for figures in again.runs or (again.figures,)]
        print(json.dumps({"mode": "simulated", "figures": asdict(again.figures), "runs": runs, "compared": said}))
        return
    print(f"{which}: SIMULATED, {again.strategy.name}, {again.place}, seeds: {line.seeds}; nothing was measured")
    print(f"  {again.figures.usd_per_month:.2f} USD a month, {again.figures.replicas:.2f} replicas")
    print(f"  {line.question.objective.told(again.figures)}")
    print(f"  {said}")
    if run is not None:
        print(f"  {run.path}: the run with seed {run.info.seed}")


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
    as_json: AsJson = False,
) -> None:
    """Simulate a grid of settings; print each combination's mean figures, the best first. Nothing is measured.

    Example: mlscale sweep k3s --scaling target_in_flight=0.5,1,2 --out sweep.jsonl
    """
    import pandas as pd

    from mlscale.defaults import defaults
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.measurement.measure import step_of
    from mlscale.progress import Shown
    from mlscale_twin.profile_files import read_profile, read_profiles
    from mlscale_twin.studies.sweep import grid, sweep

    presets, file = defaults(), out.with_suffix(".csv")
    if file == out or (schedule is not None and file.resolve() == schedule.resolve()):
        taken = "the results" if file == out else "the schedule"
        raise MlscaleError(f"the table would replace {taken}", str(file), "choose another --out, such as sweep.jsonl")
    load = read_schedule(schedule) if schedule else presets.schedule()
    figures = [name for name in _SWEEP_FIGURES if name != "t_slo_s" or step_of(load) is not None]
    if sort not in figures:
        raise MlscaleError(f"no column {sort!r}", "--sort", f"choose one of: {', '.join(figures)}")
    settings, numbers = _parse_values(scaling or [], "--scaling"), _parse_values(changes or [], "--set")
    profiles = read_profiles(profile or [], environments)
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
    # By position, since values can be lists or null: the draws of a combination follow each other.
    values = [{"environment": task.environment, **task.scaling, **dict(task.changes)} for task in tasks[::draws]]
    means = runs[figures].groupby([index // draws for index in range(len(runs))]).mean()
    whole = pd.concat([pd.DataFrame(values, dtype=object)[keys], means], axis=1).sort_values(sort, kind="stable")
    table = whole.assign(**{key: whole[key].map(_text) for key in keys}).set_index(keys)
    table.to_csv(file)
    if as_json:
        print(whole.to_json(orient="records"))
        return
    print(table.head(_SWEEP_ROWS).to_string(float_format="{:.3g}".format))
    more = f", the best {_SWEEP_ROWS} are shown" if len(table) > _SWEEP_ROWS else ""
    print(f"{file}: SIMULATED, {len(table)} combinations{more}; means of {draws} draws, nothing was measured")
    for name in environments:
        error = (profiles.get(name) or read_profile(name)).error_of(sort)
        print(f"  {name}, known error of {sort}: {error}")


# Columns of a sweep's table; those of the step are there if the schedule has one.
_SWEEP_FIGURES = (
    "mean_response_s", "sd_response_s", "p50_response_s", "p95_response_s", "p99_response_s", "slow_share",
    "failure_share", "t_slo_s", "mean_replicas", "replica_hours", "usd_per_month",
)  # fmt: skip
_SWEEP_ROWS = 40


def _text(value: Any) -> str:
    """A value as it is written on the command line."""
    return value if isinstance(value, str) else json.dumps(value)


def calibrate(
    what: Annotated[
        list[str],
        typer.Argument(
            help="an environment, to measure a run of it now (up to 5 minutes); or "
            "live runs of one environment, or folders of them"
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="file of the new profile; default: ENVIRONMENT.json")] = None,
    app: OwnModel = None,
    bodies: Annotated[Path | None, typer.Option(help="folder of files to send; required with --app")] = None,
    schedule: Annotated[
        Path | None, typer.Option(help="JSON schedule or CSV trace with a step; default: the protocol's")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fit an environment's profile to live runs: service times and the durations of a replica's start. Named an
    environment, it measures the run first.

    Example: mlscale calibrate k3s --out my-profile.json
    """
    from mlscale.environments import names
    from mlscale.progress import Shown
    from mlscale.runs import load_runs
    from mlscale_twin.calibration import calibrate
    from mlscale_twin.profile_files import read_profile, write_profile
    from mlscale_twin.studies.validation import compare_profile

    environment = what[0] if len(what) == 1 and what[0] in names() and not Path(what[0]).exists() else None
    ignored = [name for name, given in (("--app", app), ("--bodies", bodies), ("--schedule", schedule)) if given]
    if ignored and environment is None:
        raise MlscaleError("these runs are measured already", ignored[0], "give it with an environment to measure")
    runs = [] if environment else load_runs(what)
    file = out or Path(f"{environment or runs[0].info.environment}.json")
    if file.exists():
        raise MlscaleError("the file exists already", str(file), "choose another --out, or delete it")
    with Shown() as progress:
        if environment:
            runs = [_measured(environment, file.with_name(f"{file.stem}-run"), app, bodies, schedule, progress)]
        before = read_profile(runs[0].info.environment)
        fitted = calibrate(runs, before)
        valid = [run for run in runs if run.info.valid]
        compared = compare_profile(fitted, valid, "runs that it was fitted to", progress=progress)
    here = fitted.model_copy(update={"compared": compared})
    after = fitted.model_copy(update={"compared": _carried(compared, before.compared)})
    write_profile(after, file)
    if as_json:
        print(json.dumps({"profile": str(file), **compared.model_dump(mode="json")}))
        return
    print(f"{file}: fitted to {len(valid)} live runs of {after.environment}")
    for name, value, shipped, unit in (
        ("CPU per answer", 1000 * _work_s(after), 1000 * _work_s(before), "ms"),
        ("a replica's start", _start_s(after), _start_s(before), "s"),
    ):
        print(f"  {name}: {value:.1f} {unit}, {value / shipped:.2f} times the shipped profile's {shipped:.1f} {unit}")
    print(f"  mean response: {here.error_of('mean_response_s')}{_beyond(before, here)}")
    print(f"  known error of simulations with it: {after.error_of('mean_response_s')}")
    print(f"  use it with mlscale simulate {after.environment} --profile {file}, or sweep and advise")


def _measured(
    environment: str, folder: Path, app: str | None, bodies: Path | None, schedule: Path | None, progress: Progress
) -> Run:
    """A live run to calibrate by, kept in ``folder``."""
    from mlscale.defaults import defaults
    from mlscale.environments.base import own_model
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.measurement.measure import MeasureOptions, measure

    default = defaults()
    if app and bodies is None:
        raise MlscaleError("required with --app", "--bodies", "name a folder of files that your model can answer")
    load = read_schedule(schedule) if schedule else default.schedule()
    run = measure(
        environment,
        own_model(app) if app else default.application(),
        load,
        bodies=bodies or default.bodies(),
        out=folder,
        scaling=default.sized(environment, {}, schedule),
        options=MeasureOptions(mode="rehearsal" if environment == "eks" else "live", idle_s=_IDLE_S, progress=progress),
    )
    if run.info.validity is not None and not run.info.validity.valid:
        why = "; ".join(run.info.validity.reasons)
        raise MlscaleError(f"the run is invalid: {why}", str(folder), "quiet the host, delete the folder and try again")
    return run


# How long the idle framework is observed before the load, s.
_IDLE_S = 10.0


def _work_s(profile: Profile) -> float:
    return next(reversed(profile.work.values())).mean_s.value


def _start_s(profile: Profile) -> float:
    return sum(step.takes.mean_s for step in profile.starts.steps)


def _carried(own: Compared, shipped: Compared | None) -> Compared:
    """The error that a fitted profile carries: at least the shipped one's, since runs do not show how far a profile
    that was fitted to them is from others."""
    from mlscale_twin.profile import Compared

    if shipped is None:
        return own
    known = shipped.ratios
    ratios = {name: (min(low, known[name][0]), max(high, known[name][1])) for name, (low, high) in own.ratios.items()}
    what = f"{own.what}; the shipped profile: {shipped.runs} {shipped.what}"
    return Compared(what=what, runs=own.runs, ratios=ratios)


def _beyond(shipped: Profile, own: Profile) -> str:
    """Whether a new profile is further from its runs than the shipped one was from those."""
    if shipped.compared is None or own.compared is None:
        return ""
    known_low, known_high = shipped.compared.ratios["mean_response_s"]
    low, high = own.compared.ratios["mean_response_s"]
    known = f"{known_low:.2f} to {known_high:.2f}, where the shipped profile was compared ({shipped.compared.what})"
    return f"; WARNING: outside {known}" if low < known_low or high > known_high else f"; inside {known}"


def _parse_values(texts: Sequence[str], option: str) -> dict[str, list[Any]]:
    """``["max_replicas=2,4"]`` to ``{"max_replicas": [2, 4]}``."""
    from mlscale.measurement.settings import parse_settings

    values_of: dict[str, list[Any]] = {}
    for name, text in parse_settings(texts, option, "max_replicas=2,4").items():
        if not text:
            raise MlscaleError(f"{name!r} has no values", option, "write KEY=VALUE,VALUE,...")
        try:
            values = json.loads(f"[{text}]")  # one of them may be a list itself
        except ValueError:
            values = [_parse_value(value) for value in text.split(",")]
        values_of[name] = [_possible(name, value) for value in values] if option == "--set" else values
    return values_of


def _parse_changes(texts: Sequence[str]) -> list[tuple[str, Any]]:
    """``["work.app.mean_s.value=0.05"]`` to ``[("work.app.mean_s.value", 0.05)]``."""
    from mlscale.measurement.settings import parse_settings

    changes = parse_settings(texts, "--set", "work.app.mean_s.value=0.05")
    return [(path, _possible(path, _parse_value(text))) for path, text in changes.items()]


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _possible(path: str, value: Any) -> Any:
    """The value, if it can be one of a profile's: times, shares, numbers, of which none is negative."""
    if isinstance(value, int | float) and not 0 <= value < math.inf:
        raise MlscaleError(f"{value} is not possible", f"--set {path}", "use a number of 0 or more")
    return value
