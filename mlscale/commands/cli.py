"""The command line: parses, calls, prints. Errors that a user can fix are one line and exit code 2.

Each command imports what it needs inside its function, so that ``mlscale --help`` is quick.
"""

from __future__ import annotations

import errno
import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from mlscale.commands.options import (
    Arm,
    AsJson,
    OwnModel,
    ScalingChanges,
    Settings,
    SettingsCommand,
    finite,
    formerly,
    present_spelling,
    read_set,
    refuse,
    takes,
)
from mlscale.errors import MlscaleError, as_user_error, first_invalid

Level = Annotated[
    float | None,
    typer.Option(min=0.001, callback=finite, help="mean response that counts as good, s; default: the protocol's"),
]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Compare autoscaling frameworks for containerised machine-learning applications.",
)


@app.callback()
def _root() -> None:
    """Compare autoscaling frameworks for containerised machine-learning applications."""


@app.command(cls=SettingsCommand)
@takes("mlscale.measurement.measure:MeasureSettings")
@formerly("connections", "seed", "content_type", idle="--set idle_s=", budget_usd="--scaling budget_usd=")
def measure(
    environment: Annotated[str, typer.Argument(help="such as torchserve, rayserve or k3s")],
    out: Annotated[Path, typer.Option(help="folder for the new run")],
    mode: Annotated[str, typer.Option(help="live or rehearsal")] = "live",
    arm: Arm = "matched",
    schedule: Annotated[
        Path | None,
        typer.Option(
            help="JSON file, CSV trace, or the folder of a run that had it; default: the protocol's quick load, longer "
            "where machines boot; with --app one that fits what the model costs"
        ),
    ] = None,
    scaling: ScalingChanges = None,
    app: OwnModel = None,
    calls: Annotated[
        list[str] | None,
        typer.Option(help="NAME=package.module:factory, a component that your model calls; repeatable"),
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="file in pip's format: packages that your model needs and mlscale does not have")
    ] = None,
    bodies: Annotated[
        Path | None,
        typer.Option("--bodies", "--photos", help="folder of files to send; default: those of the protocol"),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(help="module:function(label, answer), or none; default: compare with labels.jsonl"),
    ] = None,
    partitioned: Annotated[
        bool,
        typer.Option("--partitioned", help="the code reader as two components that share the arm's replicas"),
    ] = False,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Measure one run: deploy the application under an environment's autoscaler, send load, record what happens.

    Example: mlscale measure torchserve --arm matched --out runs/one
    """
    from mlscale.defaults import defaults
    from mlscale.environments.base import own_model
    from mlscale.loadgen.bodies import check_needs_labels
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.measurement.measure import MeasureOptions, MeasureSettings, measure
    from mlscale.measurement.requirements import use_requirements
    from mlscale.measurement.settings import parse_settings
    from mlscale.notebook.parameters import MeasureParameters, checked
    from mlscale.progress import Shown

    parameters = checked(MeasureParameters, {"mode": mode, "arm": arm, "scaling": parse_settings(scaling or [])})
    chosen = read_set(MeasureSettings, settings)
    default = defaults()
    if app:
        refuse({"--partitioned": partitioned}, "with --app")
    else:
        refuse({"--calls": calls, "--requirements": requirements}, "without --app")
    if app and bodies is None:
        raise MlscaleError("required with --app", "--bodies", "name a folder of files that your model can answer")
    if requirements is not None:
        use_requirements(requirements)
    parts = parse_settings(calls or [], "--calls", "boxes=my_package.my_model:boxes")
    application = own_model(app, **parts) if app else default.application(partitioned=partitioned)
    application = replace(application, check=check) if check else application
    files = bodies or default.bodies()
    check_needs_labels(check, files)
    stopped = f"mlscale: stopped; {out} keeps what was measured, marked incomplete"
    with _told_if_stopped(out, lambda: print(stopped, file=sys.stderr)), Shown() as shown:
        run = measure(
            environment,
            application,
            read_schedule(schedule) if schedule else None,
            bodies=files,
            out=out,
            scaling=parameters.scaling,
            arm=parameters.arm,
            options=MeasureOptions(
                mode=parameters.mode,
                trial=app is not None,
                progress=shown,
                **chosen.model_dump(exclude_unset=True),
            ),
        )
    validity = run.info.validity
    reasons = validity.reasons if validity else ()
    right = int((run.requests.status == "ok").sum())
    if as_json:
        counts = {"requests": len(run.requests), "answered": right}
        print(json.dumps({"run": str(run.path), "mode": mode, **counts, "valid": run.info.valid, "reasons": reasons}))
        return
    verdict = ": ".join(filter(None, ("valid" if run.info.valid else "invalid", "; ".join(reasons))))
    if validity and validity.pre_scaled:
        verdict += "; pre-scaled: it scaled up before the step (docs/glossary.md)"
    print(f"{run.path}: {len(run.requests)} requests, {right} answered correctly; {verdict}")


@contextmanager
def _told_if_stopped(out: Path, tell: Callable[[], None]) -> Iterator[None]:
    """If Ctrl-C or SIGTERM ends the block, print where the incomplete run that it began lies."""
    run = out / "run.json"
    before = run.exists()
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if not before and run.exists():
            tell()
        raise


@app.command(cls=SettingsCommand)
@takes("mlscale.commands.load:LoadSettings")
@formerly(
    *("check", "speed", "keep", "body", "method", "connections", "workers", "ray", "seed", "arrivals"),
    header="--set headers.NAME=VALUE",
    timeout="--set timeout_s=",
    think="--set think_mean_s=",
)
def load(
    url: Annotated[str, typer.Argument(help="HTTP address to send the load to")],
    out: Annotated[Path, typer.Option(help="folder of the new run")],
    bodies: Annotated[
        Path | None,
        typer.Option("--bodies", "--photos", help="folder of files to POST, or one file; default: send GET requests"),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=0.001, callback=finite, help="open loop: requests per second")
    ] = None,
    clients: Annotated[int | None, typer.Option(min=1, help="closed loop: number of clients")] = None,
    schedule: Annotated[Path | None, typer.Option(help="JSON schedule, or CSV trace")] = None,
    duration: Annotated[
        float | None, typer.Option(min=0.001, callback=finite, help="seconds; default: 60, or the schedule's")
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            help="such as 'p95<0.5' or 'failed<0.01': exit code 99 if it is missed; repeatable. Of mean, sd, p50, p90, "
            "p95, p99, p99.9, max (s; a failure counts as the timeout), failed (share), rps (right answers/s)"
        ),
    ] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Load-test any HTTP server and record it as a run: what was sent, and how it was answered.

    Example: mlscale load http://127.0.0.1:8080/decode --bodies files --rate 50 --duration 60 --out runs/load

    Exit code 99: a threshold was missed, no request was answered correctly, or the load could not be kept up.
    """
    from mlscale.commands.load import LoadSettings, schedule_of
    from mlscale.commands.load_summary import THRESHOLD_MISSED, Threshold, missed, summary_json, summary_table
    from mlscale.measurement.load_test import load
    from mlscale.runs import load_run

    thresholds = [Threshold.parse(text) for text in threshold or []]
    chosen = read_set(LoadSettings, settings)
    load_schedule = schedule_of(chosen, rate=rate, clients=clients, file=schedule, duration_s=duration)
    with _told_if_stopped(out, lambda: print(summary_table(load_run(out, allow_incomplete=True)))):
        run = load(url, load_schedule, out=out, bodies=bodies, options=chosen.options())
    print(summary_json(run) if as_json else summary_table(run))
    lines = missed(run, thresholds)
    for line in lines:
        print(f"mlscale load: {line}", file=sys.stderr)
    raise SystemExit(THRESHOLD_MISSED if lines else 0)


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port")] = 8080,
    entry: Annotated[
        str | None,
        typer.Option(
            help="the model, as package.module:factory, which returns a callable of bytes; default: the paper's"
        ),
    ] = None,
    max_bytes: Annotated[int, typer.Option(min=1, help="larger bodies are refused")] = 10_000_000,
    waiting: Annotated[int, typer.Option(min=0, help="requests that may queue; more are answered 503")] = 100,
    body_timeout: Annotated[float, typer.Option(min=0.001, help="seconds allowed for receiving a body")] = 20.0,
    drain: Annotated[float, typer.Option(min=0, help="seconds allowed to finish requests after SIGTERM")] = 20.0,
    warm_up: Annotated[Path | None, typer.Option(help="file with the body of the warm-up request")] = None,
) -> None:
    """Serve a model over HTTP, as its container does: POST /decode, /healthz, /readyz, /metrics.

    Example: mlscale serve --entry my_package.my_model:factory --port 8080
    """
    from mlscale.defaults import defaults
    from mlscale.serving.serve import serve_command

    entry = entry or defaults().application().components[0].entry
    raise SystemExit(serve_command(host, port, entry, max_bytes, waiting, body_timeout, drain, warm_up))


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check what can run live on this machine, what is missing, and the command that installs it.

    Example: mlscale doctor
    """
    from mlscale.commands.doctor import doctor_command

    raise SystemExit(doctor_command(as_json=as_json))


@app.command()
def cleanup(
    older_than: Annotated[str, typer.Option(help="leave newer runs alone: 90s, 15m, 2h, 1d")] = "0s",
    aws: Annotated[bool, typer.Option("--aws", help="also delete your leftover stacks in the AWS account")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what crashed runs left on this machine; runs in progress are not touched.

    Example: mlscale cleanup --older-than 1h
    """
    from mlscale.commands.cleanup import cleanup_command

    print(cleanup_command(older_than, aws=aws, as_json=as_json))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that contain some")],
    level: Level = None,
    as_json: AsJson = False,
) -> None:
    """Compare environments: effects with intervals, the noise floor, p-values where the design allows them.

    Example: mlscale compare runs/one runs/two --level 0.5
    """
    from mlscale.analysis.report import report, to_json
    from mlscale.analysis.summary import summarise
    from mlscale.defaults import defaults
    from mlscale.reporting.comparison import comparison
    from mlscale.reporting.render import to_text
    from mlscale.runs import load_runs

    level_s = defaults().level_s if level is None else level
    loaded = load_runs(runs)
    found = report(summarise(loaded, level_s), level_s)
    print(to_json(found) if as_json else to_text(comparison(loaded, found)))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that contain some")],
    out: Annotated[Path, typer.Option(help="HTML file to write")] = Path("report.html"),
    level: Level = None,
) -> None:
    """Write figures, tables and generated sentences about runs into one HTML page (for a PDF, print it).

    Example: mlscale report runs/one runs/two --out report.html
    """
    from mlscale.defaults import defaults
    from mlscale.reporting.comparison import write_report
    from mlscale.runs import load_runs

    write_report(load_runs(runs), defaults().level_s if level is None else level, out)
    print(out)


@app.command()
def new_app(name: Annotated[str, typer.Argument(help="of the new folder, importable by Python")]) -> None:
    """Write the skeleton of a model of your own, with files to send and a test, into a new folder.

    Example: mlscale new-app my_model
    """
    from mlscale.commands.new_app import new_app

    folder = new_app(name, Path())
    print(f"{folder}: a working model; {folder / 'README.md'} says what to run next")


def _add_commands() -> None:
    """Add other packages' commands: functions or Typer apps, as entry points of the group ``mlscale.commands``; one
    called GROUP.NAME is added to a group that another package offers."""
    groups = {"": app}
    for entry in sorted(entry_points(group="mlscale.commands"), key=lambda entry: entry.name):
        command, (group, _, name) = entry.load(), entry.name.rpartition(".")
        if isinstance(command, typer.Typer):
            groups[name] = command
            groups[group].add_typer(command, name=name)
        else:
            hidden = (command.__doc__ or "").startswith("Removed")  # it names what to use instead
            groups[group].command(name, cls=SettingsCommand, hidden=hidden)(command)


_add_commands()


def main() -> None:
    """Entry point of the command ``mlscale``: 2 for what a user can fix, 130 for Ctrl-C, 143 for SIGTERM."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        code = app(standalone_mode=False)
    except Exception as error:
        line = _line(error)
        if line is None:
            raise
        if line:
            print(line, file=sys.stderr)
        code = 2
    raise SystemExit(code if isinstance(code, int) else 0)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    """Leave through every `with` and `finally`, so that what was deployed is torn down. A second SIGTERM (``timeout``
    and service managers signal a process, then its group) must not cut the teardown short; Ctrl-C still can."""
    signal.signal(signum, _ignore)
    raise SystemExit(128 + signum)


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Do nothing. (A handler rather than SIG_IGN, which children would inherit.)"""


def _line(error: Exception) -> str | None:
    """The line for an error that a user can fix (empty if it was printed already); None for any other."""
    from pydantic import ValidationError

    known = as_user_error(error)
    if known is not None:
        return f"mlscale: {known}"
    match error:
        case typer.TyperException():
            message = present_spelling(error) or error.format_message()
            context: typer.Context | None = getattr(error, "ctx", None)
            command = context.command_path if context else "mlscale"
            # Without arguments a command prints its help; the error that follows has no message.
            return f"{command}: {message} (see {command} --help)" if message else ""
        case ValidationError():
            return f"mlscale: {error.title}: {first_invalid(error, error.title)} (give it another value)"
        case OSError(errno=errno.ENAMETOOLONG | errno.EACCES, filename=str(place)):
            return f"mlscale: {place}: {error.strerror} (choose another place)"
    return None


if __name__ == "__main__":
    main()
