"""``codereader decode`` and ``codereader train``, also available as ``mlscale decode`` and ``mlscale train``."""

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

# Interval of progress lines without a terminal: rich shows bars only on one.
_LINE_EVERY_S = 60.0


def decode(
    photos: Annotated[list[Path], typer.Argument(help="JPEG, PNG, WebP, GIF or BMP files")],
    weights: Annotated[
        Path | None, typer.Option(help="folder of weights; default: $MLSCALE_WEIGHTS, else the shipped ones")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: $MLSCALE_DEVICE, else cpu")] = None,
) -> None:
    """Read the codes in photos; prints one JSON line per photo. Exit code 2 if a photo can't be read.

    Example: mlscale decode photo.jpg
    """
    from codereader.decoder import make_decoder
    from codereader.images import MAX_BYTES

    decoder = make_decoder(weights, device)
    code = 0
    for path in photos:
        try:
            with path.open("rb") as file:
                answer = decoder(file.read(MAX_BYTES + 1))  # enough to refuse a larger one
        except (BadPhoto, OSError) as error:
            reason = error.reason if isinstance(error, BadPhoto) else error.strerror or str(error)
            _say(f"{path}: {reason} (give a readable photo)", error=True)
            code = 2
        else:
            row = {"file": str(path), **answer}
            _say(json.dumps(row, ensure_ascii=False), ascii_line=json.dumps(row))
    raise typer.Exit(code)


def _say(line: str, *, error: bool = False, ascii_line: str = "") -> None:
    """Prints ``line``, or ``ascii_line`` where the output's encoding lacks characters of the line."""
    stream = sys.stderr if error else sys.stdout
    try:
        stream.write(line + "\n")
    except UnicodeEncodeError:
        stream.write((ascii_line or ascii(line)) + "\n")
    stream.flush()


def train(
    out: Annotated[
        Path, typer.Option(help="folder for checkpoints, metrics and weights; an interrupted training resumes")
    ] = Path("runs/training"),
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="of samples and initial weights")] = 0,
    length: Annotated[
        float, typer.Option(min=0.001, max=1000, help="factor on the number of steps; the shipped weights took 1")
    ] = 1.0,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="networks trained at once, one core each; default: the number of cores")
    ] = None,
    photos: Annotated[int, typer.Option(min=1, help="validation photos per difficulty after training")] = 200,
) -> None:
    """Train the code reader's networks on generated photos and measure their read rates.

    Example: mlscale train --out training --length 0.1
    """
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

    step_s = {name: task.step_s for name, task in TASKS.items()}
    columns = (TextColumn("{task.description:<12}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    line_s = time.monotonic()
    with Progress(*columns, TextColumn("{task.fields[measures]}"), console=Console(stderr=True)) as progress:
        whole = progress.add_task("all", total=sum(training.steps(name) * step_s[name] for name in TASKS), measures="")
        bars = {name: progress.add_task(name, total=training.steps(name), start=False, measures="") for name in TASKS}
        for name in TASKS:
            if training.is_finished(name):
                progress.update(bars[name], completed=training.steps(name))
                progress.advance(whole, training.steps(name) * step_s[name])

        def report(name: str, step: int, steps: int, measures: dict[str, float]) -> None:
            nonlocal line_s
            progress.start_task(bars[name])
            values = " ".join(f"{key} {value:.3g}" for key, value in measures.items())
            before = progress.tasks[bars[name]].completed
            progress.update(bars[name], completed=step, measures=values)
            progress.advance(whole, (step - before) * step_s[name])
            if not progress.console.is_terminal and time.monotonic() - line_s >= _LINE_EVERY_S:
                line_s = time.monotonic()
                left_s = progress.tasks[whole].time_remaining
                left = "" if left_s is None else f"about {left_s / 60:.0f} min left; "
                _say(f"{left}{name}: step {step} of {steps}, {values}", error=True)

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
    """Entry point of the command ``codereader``; exit code 2 for errors that the user can fix."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, help="Read bar codes and QR codes in photos.")
    app.command()(decode)
    app.command()(train)
    try:
        app()
    except (ApplicationError, OSError) as error:
        if isinstance(error, OSError):
            place = str(error.filename or "the output")
            error = ApplicationError(error.strerror or str(error), place, "choose a place that can be written")
        _say(f"codereader: {error}", error=True)
        raise SystemExit(2) from None
