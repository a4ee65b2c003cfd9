"""``codereader decode`` and ``codereader train``, which are ``mlscale decode`` and ``mlscale train`` too."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from codereader.errors import ApplicationError, BadPhoto

if TYPE_CHECKING:
    from codereader.training.loop import Training

# How often a training says how far it is where there is no terminal.
_LINE_EVERY_S = 60.0


def decode(
    photos: Annotated[list[Path], typer.Argument(help="photos: JPEG, PNG, WebP, GIF or BMP")],
    weights: Annotated[Path | None, typer.Option(help="folder of weights; default: the shipped ones")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: $MLSCALE_DEVICE, else cpu")] = None,
) -> None:
    """Read the codes of photos; one JSON line a photo. Exit code 2 where one can't be read."""
    from codereader.decoder import make_decoder

    decoder = make_decoder(weights, device)
    code = 0
    for path in photos:
        try:
            answer = decoder(path.read_bytes())
        except (BadPhoto, OSError) as error:
            reason = error.reason if isinstance(error, BadPhoto) else error.strerror or str(error)
            _say(f"{path}: {reason} (give a photo that can be read)", error=True)
            code = 2
        else:
            _say(json.dumps({"file": str(path), **answer}, ensure_ascii=False))
    raise typer.Exit(code)


def _say(line: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(line + "\n")
    stream.flush()


def train(
    out: Annotated[Path, typer.Option(help="checkpoints, metrics and weights; stopped, it resumes from there")] = Path(
        "runs/training"
    ),
    seed: Annotated[int, typer.Option(min=0)] = 0,
    length: Annotated[float, typer.Option(min=0.001, help="scales the number of steps; 1 is what is shipped")] = 1.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="networks trained at a time, each on one core; default: one a core")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="validation photos of each difficulty at the end")] = 200,
) -> None:
    """Train the application's models on generated photos and measure them; weights land in OUT."""
    from codereader.training.loop import Training, bfloat16_is_quicker, claim

    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ApplicationError(error.strerror or str(error), str(out), "choose a folder that can be written") from None
    quicker = bfloat16_is_quicker()
    training = Training(out, seed=seed, length=length, bfloat16=quicker)
    claim(training)
    _train(training, jobs or os.cpu_count() or 1)
    _rate(out, photos)


def _train(training: Training, jobs: int) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from codereader.training.side_by_side import train_side_by_side
    from codereader.training.tasks import TASKS

    costs = {name: task.step_cost for name, task in TASKS.items()}
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    line_s = time.monotonic()
    with Progress(*columns, TextColumn("{task.fields[measures]}"), console=Console(stderr=True)) as progress:
        whole = progress.add_task("all", total=sum(training.steps(name) * costs[name] for name in TASKS), measures="")
        bars = {name: progress.add_task(name, total=training.steps(name), start=False, measures="") for name in TASKS}
        for name in TASKS:
            if training.is_finished(name):
                progress.update(bars[name], completed=training.steps(name))
                progress.advance(whole, training.steps(name) * costs[name])

        def report(name: str, step: int, steps: int, measures: dict[str, float]) -> None:
            nonlocal line_s
            progress.start_task(bars[name])
            told = " ".join(f"{key} {value:.3g}" for key, value in measures.items())
            before = progress.tasks[bars[name]].completed
            progress.update(bars[name], completed=step, measures=told)
            progress.advance(whole, (step - before) * costs[name])
            if not progress.console.is_terminal and time.monotonic() - line_s >= _LINE_EVERY_S:
                line_s = time.monotonic()
                left_s = progress.tasks[whole].time_remaining
                left = "" if left_s is None else f"about {left_s / 60:.0f} min left; "
                _say(f"{left}{name}: step {step} of {steps}, {told}", error=True)

        train_side_by_side(training, jobs, report)


def _rate(out: Path, photos: int) -> None:
    from codereader.decoder import make_decoder
    from codereader.difficulties import DIFFICULTIES
    from codereader.evaluation import measure, validation

    decoder = make_decoder(out)
    results = {}
    for difficulty in DIFFICULTIES:
        rates = measure(decoder, validation(difficulty, photos))
        results[difficulty] = rates.as_json()
        _say(f"{difficulty}: {rates.share:.1%} of {rates.codes.total()} codes read, {len(rates.wrong)} wrong")
    (out / "rates.json").write_text(json.dumps(results, indent=1) + "\n")
    _say(f"The weights are in {out}; MLSCALE_WEIGHTS={out} uses them.")


def main() -> None:
    """Entry point of the command ``codereader``: 2 for what a user can fix."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, help="Read bar codes and QR codes in photos.")
    app.command()(decode)
    app.command()(train)
    try:
        app()
    except ApplicationError as error:
        _say(f"codereader: {error}", error=True)
        raise SystemExit(2) from None
