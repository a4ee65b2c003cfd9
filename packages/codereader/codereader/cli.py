"""What `mlscale decode` and `mlscale train` do."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from codereader.errors import ApplicationError, BadPhoto

if TYPE_CHECKING:
    from codereader.training.loop import Training

_LINE_EVERY_S = 60.0
"""How often a training says how far it is where there is no terminal."""


def decode_command(photos: list[Path], weights: Path | None, device: str | None) -> int:
    """Prints one JSON line a photo; a photo that can't be read is a line on stderr, and 2 the exit code in the end.

    Raises:
        ApplicationError: weights are missing or corrupt, or there is no such device.
    """
    from codereader.decoder import make_decoder

    decoder = make_decoder(weights, device)
    code = 0
    for path in photos:
        try:
            answer = decoder(path.read_bytes())
        except (BadPhoto, OSError) as error:
            reason = error.reason if isinstance(error, BadPhoto) else error.strerror or str(error)
            _say(f"mlscale: {path}: {reason} (give a photo that can be read)", error=True)
            code = 2
        else:
            _say(json.dumps({"file": str(path), **answer}, ensure_ascii=False))
    return code


def _say(line: str, *, error: bool = False) -> None:
    stream = sys.stderr if error else sys.stdout
    stream.write(line + "\n")
    stream.flush()


def train_command(out: Path, seed: int, length: float, jobs: int | None, photos: int) -> None:
    """Trains what is missing in ``out``, ``jobs`` networks at a time (None: one a core), then measures the models on
    ``photos`` generated photos a difficulty.

    Raises:
        ApplicationError: ``out`` holds a training with other settings, or can't be written.
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
