"""``mlscale lab``. Imports little, since every start of ``mlscale`` loads it."""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from mlscale.errors import MlscaleError

lab_app = typer.Typer(
    no_args_is_help=True, help="The labs as a course: pack them for students, grade what they hand in."
)


@lab_app.callback()
def _root() -> None:
    """The labs as a course: pack them for students, grade what they hand in."""


@lab_app.command()
def pack(out: Annotated[Path, typer.Argument(help="archive to write, such as labs.zip")]) -> None:
    """Pack a student's copy: the labs without their answers, and all that they need to be installed without a network.

    Example: mlscale lab pack labs.zip
    """
    size_bytes = _teacher("pack").pack(out)
    print(f"{out}: {size_bytes / 1e6:.0f} MB; its README.md says how to install it")


@lab_app.command()
def grade(
    folder: Annotated[Path, typer.Argument(help="of the notebooks that were handed in, at any depth")],
    out: Annotated[Path, typer.Option(help="CSV to write: one row per student, one column per question")],
    deadline: Annotated[
        str | None, typer.Option(help="answers after it get no point: 2027-01-15T12:00, local time")
    ] = None,
) -> None:
    """Grade the notebooks that were handed in, by the answers that are saved in them; nothing of theirs is executed.

    Example: mlscale lab grade handed-in --out grades.csv --deadline 2027-01-15T12:00

    Beside the CSV a second one, NAME.texts.csv, holds predictions and explanations to read.
    """
    summary, problems = _teacher("grade").grade(folder, out, deadline)
    for problem in problems:
        print(f"mlscale lab grade: {problem}", file=sys.stderr)
    print(summary)


def _teacher(module: str) -> Any:
    teacher = f"{__package__}.teacher"
    if find_spec(teacher) is None:
        raise MlscaleError("a student's copy can't do that", "mlscale lab", "use a checkout of mlscale")
    return import_module(f"{teacher}.{module}")
