"""The checks of a lesson: shared questions, tasks that are tried out, and a student's own numbers."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mlscale.runs import MlscaleError
from mlscale_lab import missing_names
from mlscale_lab.checks import Checks, Own, Question, Task, Verdict
from mlscale_lab.kept import identity
from mlscale_lab.sealed import sealed_questions


def checks_of(
    lesson: str,
    student: Any,
    *,
    tasks: Mapping[str, Callable[[Any], Verdict]] | None = None,
    own: Iterable[str] = (),
    kept: Iterable[str] = (),
) -> Checks:
    """A lesson's checks; answers are kept in the working folder, which is the notebook's.

    Args:
        tasks: judges of answers that are tried out. own: questions about a student's own numbers. kept: predictions
            that only an experiment judges.

    Raises:
        MlscaleError: as `identity`, `sealed_questions` and `Kept`.
    """
    missing_names.explain_always()
    tried = {name: partial(Task, judge) for name, judge in (tasks or {}).items()}
    return Checks(
        lesson,
        {**_shared(lesson), **tried, **dict.fromkeys(own, Own), **dict.fromkeys(kept, partial(Own, drawn=False))},
        student,
    )


def draw_of(lesson: str, student: Any) -> random.Random:
    """The random numbers that a student's own ones are drawn with: the same for the same name and lesson.

    Raises:
        MlscaleError: no name is given.
    """
    name = identity(student)
    if not name:
        raise MlscaleError("it is empty", "student", "fill in your name in the first cell and run it")
    return random.Random(f"{lesson}:{name}")


def _shared(lesson: str) -> Mapping[str, Callable[[], Question]]:
    teacher = f"{__package__}.teacher"
    if find_spec(teacher) is None:
        return sealed_questions(lesson, Path())
    found: Mapping[str, Callable[[], Question]] = import_module(f"{teacher}.{lesson}").QUESTIONS
    return found
