"""The command line: thin. Parses, calls, prints; errors that a user can fix are one line and exit code 2.

Each command imports what it needs inside its function, so that ``mlscale --help`` is quick.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from mlscale.errors import MlscaleError, as_user_error

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Compare autoscaling frameworks for containerised machine-learning applications.",
)


@app.callback()
def _root() -> None:
    """Compare autoscaling frameworks for containerised machine-learning applications."""


@app.command()
def measure(
    environment: Annotated[str, typer.Argument(help="such as torchserve, rayserve or k3s")],
    out: Annotated[Path, typer.Option(help="folder of the new run")],
    mode: Annotated[str, typer.Option(help="live, rehearsal or simulated")] = "live",
    arm: Annotated[str, typer.Option(help="matched, shipped, static-min or static-max")] = "matched",
    schedule: Annotated[Path | None, typer.Option(help="JSON file; default: the protocol's 60 s schedule")] = None,
    scaling: Annotated[
        list[str] | None,
        typer.Option(help="KEY=VALUE, put over the arm's settings; readers.KEY=VALUE: one component's own"),
    ] = None,
    app: Annotated[
        str | None, typer.Option(help="package.module:factory of your own model; default: the code reader")
    ] = None,
    bodies: Annotated[
        Path | None,
        typer.Option("--bodies", "--photos", help="folder of files to send; default: the protocol's photos"),
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="module:function(label, answer), or none; default: answers as in labels.jsonl")
    ] = None,
    partitioned: Annotated[
        bool, typer.Option("--partitioned", help="the code reader's models apart; they share the arm's replicas")
    ] = False,
    connections: Annotated[str, typer.Option(help="fresh or kept")] = "fresh",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    idle: Annotated[float, typer.Option(min=0, help="seconds at idle before the load")] = 30.0,
    budget_usd: Annotated[
        float | None,
        typer.Option(min=0, help="AWS: what the run may cost at most; without it nothing is created there"),
    ] = None,
) -> None:
    """Deploy the application under one environment's autoscaler, load it, observe it: one run."""
    from mlscale.defaults import defaults
    from mlscale.environments.base import own_model
    from mlscale.loadgen.schedule_files import read_schedule
    from mlscale.measurement.measure import MeasureOptions, measure
    from mlscale.measurement.settings import parse_settings
    from mlscale.notebook.parameters import MeasureParameters, checked
    from mlscale.progress import Shown

    settings = [*(scaling or []), *([f"budget_usd={budget_usd}"] if budget_usd is not None else [])]
    given = {"mode": mode, "arm": arm, "connections": connections, "scaling": parse_settings(settings)}
    asked = checked(MeasureParameters, given)
    usual = defaults()
    if app and bodies is None:
        raise MlscaleError("nothing to send to it is named", "--bodies", "name a folder of files that it can answer")
    application = own_model(app) if app else usual.application(partitioned=partitioned)
    with Shown() as shown:
        run = measure(
            environment,
            replace(application, check=check) if check else application,
            read_schedule(schedule) if schedule else usual.quick_schedule(),
            bodies=bodies or usual.bodies(),
            out=out,
            scaling=usual.sized(environment, asked.scaling, schedule),
            arm=asked.arm,
            options=MeasureOptions(
                mode=asked.mode, connections=asked.connections, seed=seed, idle_s=idle, progress=shown
            ),
        )
    validity = run.info.validity
    verdict = "valid" if validity is None or validity.valid else f"not valid: {'; '.join(validity.reasons)}"
    right = int((run.requests.status == "ok").sum())
    print(f"{run.path}: {len(run.requests)} requests, {right} right answers; {verdict}")


@app.command()
def load(
    url: Annotated[str, typer.Argument(help="http address that the load goes to")],
    out: Annotated[Path, typer.Option(help="folder of the new run")],
    bodies: Annotated[
        Path | None, typer.Option("--bodies", "--photos", help="folder of files to POST; without it, GET")
    ] = None,
    check: Annotated[
        str | None, typer.Option(help="module:function(label, answer) -> bool; default: answers as in labels.jsonl")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="open loop: requests a second")] = None,
    clients: Annotated[int | None, typer.Option(help="closed loop: number of clients")] = None,
    schedule: Annotated[Path | None, typer.Option(help="JSON schedule, or CSV trace")] = None,
    duration: Annotated[float | None, typer.Option(help="seconds; default 60, or the schedule's own")] = None,
    connections: Annotated[str, typer.Option(help="fresh or kept")] = "fresh",
    workers: Annotated[int, typer.Option(help="processes that share the schedule")] = 1,
    timeout: Annotated[float, typer.Option(min=0.001, help="seconds until a request is given up")] = 30.0,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    arrivals: Annotated[str, typer.Option(help="of --rate: even or poisson")] = "poisson",
    think: Annotated[float, typer.Option(help="of --clients: mean think time, s")] = 0.0,
) -> None:
    """Send a load to any HTTP server and record it as a run; says honestly what was sent and how it was answered."""
    from mlscale.load_test import LoadOptions, load
    from mlscale.loadgen.command import schedule_of
    from mlscale.loadgen.outcome import outcome_table

    wanted = schedule_of(
        rate=rate, clients=clients, file=schedule, duration_s=duration, arrivals=arrivals, think_s=think
    )
    options = LoadOptions(check, connections, workers, timeout, seed)
    print(outcome_table(load(url, wanted, out=out, bodies=bodies, options=options)))


@app.command()
def serve(
    host: Annotated[str, typer.Option(help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes a free one")] = 8080,
    entry: Annotated[
        str, typer.Option(help="package.module:factory of your own model; the factory returns a callable of bytes")
    ] = "codereader.decoder:make_decoder",
    max_bytes: Annotated[int, typer.Option(min=1, help="a larger body is refused")] = 10_000_000,
    waiting: Annotated[int, typer.Option(min=0, help="requests that may wait for the model; then 503")] = 100,
    body_timeout: Annotated[float, typer.Option(min=0.001, help="seconds for a body to arrive")] = 20.0,
    drain: Annotated[float, typer.Option(min=0, help="seconds for what is in flight, after SIGTERM")] = 20.0,
    warm_up: Annotated[Path | None, typer.Option(help="file with the body of the first request")] = None,
) -> None:
    """Serve the application over HTTP, as it runs in its container: POST /decode, /healthz, /readyz, /metrics."""
    from mlscale.serving.serve import serve_command

    raise SystemExit(serve_command(host, port, entry, max_bytes, waiting, body_timeout, drain, warm_up))


@app.command()
def doctor() -> None:
    """What can run live here, what is missing, and the command that brings it."""
    from mlscale.doctor import doctor_command

    raise SystemExit(doctor_command())


@app.command()
def cleanup(
    older_than: Annotated[str, typer.Option(help="leave younger runs alone: 90s, 15m, 2h, 1d")] = "0s",
    aws: Annotated[bool, typer.Option("--aws", help="also look for your runs' stacks in the AWS account")] = False,
) -> None:
    """Remove what runs that died have left on this machine; runs that live are not touched."""
    from mlscale.cleaning import cleanup_command

    print(cleanup_command(older_than, aws=aws))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="run folders, or folders that hold some")],
    level: Annotated[float | None, typer.Option(min=0.001, help="L, s; default: the protocol's")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="everything as JSON")] = False,
) -> None:
    """Compare environments over blocks: effects with intervals, the noise floor, p-values where they are allowed."""
    from mlscale.analysis.report import report, to_json
    from mlscale.analysis.report_text import to_text
    from mlscale.analysis.summary import summarise
    from mlscale.defaults import defaults
    from mlscale.runs import load_runs

    level_s = defaults().level_s if level is None else level
    found = report(summarise(load_runs(runs), level_s), level_s)
    print(to_json(found) if as_json else to_text(found))


def _add_commands() -> None:
    """Commands of other packages: functions, or Typer apps, as entry points of the group ``mlscale.commands``."""
    for entry in sorted(entry_points(group="mlscale.commands"), key=lambda entry: entry.name):
        command = entry.load()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=entry.name)
        else:
            app.command(entry.name)(command)


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
        print(line, file=sys.stderr)
        code = 2
    raise SystemExit(code if isinstance(code, int) else 0)


def _on_sigterm(signum: int, frame: FrameType | None) -> None:
    """Leave through every `with` and `finally`, so that what was deployed is torn down. A second one (``timeout`` and
    service managers signal a process, then its group) must not break the teardown off; Ctrl-C still can."""
    signal.signal(signum, _on_another)
    raise SystemExit(128 + signum)


def _on_another(signum: int, frame: FrameType | None) -> None:
    """The end is under way. (A handler, not SIG_IGN, which children would inherit.)"""


def _line(error: Exception) -> str | None:
    """The one line for an error that a user can fix; None for any other."""
    from pydantic import ValidationError
    from typer._click.exceptions import NoArgsIsHelpError, UsageError

    known = as_user_error(error)
    if known is not None:
        return f"mlscale: {known}"
    match error:
        case NoArgsIsHelpError():
            return error.format_message()
        case UsageError():
            command = error.ctx.command_path if error.ctx else "mlscale"
            return f"{command}: {error.format_message()} (see {command} --help)"
        case ValidationError():
            first = error.errors()[0]
            name = ".".join(str(part) for part in first["loc"]) or error.title
            return f"mlscale: {error.title}: {name}: {first['msg']} (give it another value)"
    return None


if __name__ == "__main__":
    main()
