"""Checks that grade an answer and give a hint if it is wrong in one of the usual ways, and keep what was answered.

A lab's questions come from `mlscale_lab.teacher`, which computes right answers and usual mistakes (by formulas, a
framework's own rule, or the twin) when an answer is checked. A student's copy lacks it and has them sealed (`sealed`).
"""

from __future__ import annotations

import html
import math
import reprlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, Final, Protocol

from mlscale.errors import MlscaleError
from mlscale_lab.kept import Kept

# Of a check's output in a notebook: what `mlscale lab grade` reads.
MIME: Final = "application/vnd.mlscale.answer+json"
_COLOURS: Final = {True: "#1a7f37", False: "#b35900", None: "#555"}


@dataclass(frozen=True)
class Verdict:
    """``right``: None if nothing is said about it. ``text``: a hint, or why the answer is right.

    ``answer``: as it was understood, for JSON; None: there is none, or it is of the wrong kind. ``record``: for `MIME`.
    """

    right: bool | None
    text: str
    answer: Any = None
    record: Mapping[str, Any] | None = None

    @property
    def word(self) -> str:
        if self.right is None:
            return "No answer yet." if self.answer is None else "Kept."
        return "Right." if self.right else "Not yet."

    def __str__(self) -> str:
        return f"{self.word} {self.text}"

    def _repr_html_(self) -> str:
        style = f"border-left: 4px solid {_COLOURS[self.right]}; padding: 4px 10px; max-width: 60em"
        return f'<div role="status" style="{style}"><b>{self.word}</b> {html.escape(self.text)}</div>'

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        return {} if self.record is None else {MIME: dict(self.record)}


class Question(Protocol):
    """Anything that grades an answer."""

    def grade(self, answer: Any) -> Verdict: ...


@dataclass(frozen=True)
class Mistake:
    """``answer``: what a usual misunderstanding gives."""

    answer: float
    hint: str


def as_number(answer: Any) -> float | Verdict:
    """``answer`` as a float, or the verdict that says why it is none."""
    match answer:
        case str() if _reads_as_number(answer):
            return Verdict(False, "Write the number without quotation marks, with a decimal point: 0.25.")
        case (int(), int()) if not isinstance(answer, list):
            return Verdict(False, "Python reads 0,25 as two numbers. Write a decimal point, not a comma: 0.25.")
        case bool():
            return Verdict(False, f"A number is expected, not {bool(answer)}.")
        case Real():
            try:
                value = float(answer)
            except (OverflowError, ValueError):
                return Verdict(False, "That number is larger than anything that could be an answer here.")
            return Verdict(False, "A number is expected, not nan.") if math.isnan(value) else value
    return Verdict(False, f"A number is expected, not {_shown(answer)}.")


@dataclass(frozen=True)
class Number:
    """A number that must be within a share of the right one.

    ``because``: shown with a right answer. ``otherwise``: the hint where no usual mistake fits. ``seconds``: the unit,
    so an answer in milliseconds gets a hint of its own.
    """

    right: float
    mistakes: Sequence[Mistake]
    because: str
    otherwise: str
    within: float = 0.05
    seconds: bool = False

    def grade(self, answer: Any) -> Verdict:
        value = as_number(answer)
        if isinstance(value, Verdict):
            return value
        for place, (expected, text) in enumerate(self.outcomes()):
            if near(value, expected, self.within):
                return Verdict(place == 0, text, value)
        direction = "too large" if value > self.right else "too small"
        return Verdict(False, f"Your number is {direction}. {self.otherwise}", value)

    def outcomes(self) -> list[tuple[float, str]]:
        """Answers that get a text of their own, the right one first."""
        usual = [(mistake.answer, mistake.hint) for mistake in self.mistakes]
        in_ms = [(1000 * self.right, "That is in milliseconds; give seconds.")] if self.seconds else []
        return [(self.right, self.because), *usual, *in_ms]


def near(value: float, other: float, within: float) -> bool:
    """Whether ``value`` is ``other``, or differs from it by at most the share ``within``."""
    return value == other or (math.isfinite(other) and abs(value - other) <= within * abs(other))


@dataclass(frozen=True)
class Choice:
    """One of several options. ``hints``: one for each wrong option."""

    right: str
    hints: Mapping[str, str]
    because: str

    def grade(self, answer: Any) -> Verdict:
        chosen = as_option(answer, self.options())
        if isinstance(chosen, Verdict):
            return chosen
        right = chosen == self.right
        return Verdict(right, self.because if right else self.hints[chosen], chosen)

    def options(self) -> list[str]:
        return sorted([self.right, *self.hints])


def as_option(answer: Any, options: Sequence[str]) -> str | Verdict:
    """The option that ``answer`` names, in capitals or not, or the verdict that names them all."""
    chosen = str.strip(answer).lower() if isinstance(answer, str) else ""
    if chosen not in options:
        return Verdict(False, f"Choose one of {', '.join(map(repr, options))}, not {_shown(answer)}.")
    return chosen


@dataclass(frozen=True)
class Task:
    """An answer that is tried out. ``judge``: gives the hint that fits, or why it is right."""

    judge: Callable[[Any], Verdict]

    def grade(self, answer: Any) -> Verdict:
        return self.judge(answer)


@dataclass(frozen=True)
class Own:
    """A number of which only the kind is checked: about a student's own numbers, which is graded once it is handed in,
    or (``drawn`` False) a prediction that nothing but the experiment judges.
    """

    drawn: bool = True

    def grade(self, answer: Any) -> Verdict:
        value = as_number(answer)
        if isinstance(value, Verdict):
            return value
        if not math.isfinite(value):
            return Verdict(False, "A finite number is expected.")
        return Verdict(None, f"{value:.6g}{' is graded once you hand this notebook in' if self.drawn else ''}.", value)


class Checks:
    """``check = lesson.checks("name")``, then ``check("question", answer)`` as the last line of a cell.

    Args:
        questions: by name, made when they are needed. student: name or number, or None. lesson: of `Kept`.
    """

    def __init__(
        self, lesson: str, questions: Mapping[str, Callable[[], Question]], student: Any = None, folder: str = "."
    ) -> None:
        self._questions = dict(questions)
        self._kept = Kept(lesson, student, folder)

    def __call__(self, name: str, answer: Any) -> Verdict:
        if name not in self._questions:
            return Verdict(None, f"There is no question {name!r}; there are: {', '.join(self._questions)}.")
        if answer is None:
            return _unanswered(self._kept.answers.get(name))
        question = self._questions[name]()
        if question == Own() and not self._kept.student:
            return Verdict(False, "Fill in your name in the first cell and run it: it chooses your numbers.")
        verdict = question.grade(answer)
        if verdict.answer is None:
            return verdict
        record = self._kept.answer(name, verdict.answer, verdict.right)
        before = f" Your prediction was {record['prediction']}." if "prediction" in record else ""
        return replace(verdict, text=verdict.text + before, record=record)

    def predicted(self, *names: str) -> None:
        """Lock predictions: the first line of a cell that shows what they are about.

        Raises:
            MlscaleError: one of the questions has no answer yet.
        """
        left = [name for name in names if name not in self._kept.answers]
        if left:
            raise MlscaleError(f"{left[0]!r} is not answered yet", "prediction", "predict first, in a cell above")
        for name in names:
            self._kept.lock(name)

    def explain(self, name: str, text: str) -> Verdict:
        """Keep an explanation for whoever reads the notebook; nothing grades it."""
        if not isinstance(text, str):
            return Verdict(False, "Words between the quotation marks are expected.")
        if not text.strip():
            return Verdict(None, "Write between the quotation marks, and run this cell again.")
        record = self._kept.text(name, text.strip())
        return Verdict(None, f"{len(text.split())} words.", text, record)

    def question(self, name: str) -> Question:
        """The question of that name, with its right answer and usual mistakes computed."""
        return self._questions[name]()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._questions)

    def summary(self) -> Verdict:
        """How many are right, and which are not; own numbers need only be there."""
        done = {name for name, kept in self._kept.answers.items() if kept["right"] is not False}
        left = [name for name in self._questions if name not in done]
        number = f"{len(self._questions) - len(left)} of {len(self._questions)} checks are done."
        return Verdict(not left, f"{number} Left: {', '.join(left)}." if left else number)


def _unanswered(kept: Mapping[str, Any] | None) -> Verdict:
    before = f" (Kept from before: {kept['answer']}.)" if kept else ""
    return Verdict(None, f"Replace None by your answer, and run this cell again.{before}")


def _reads_as_number(text: str) -> bool:
    try:
        float(str.strip(text).replace(",", "."))
    except ValueError:
        return False
    return True


def _shown(answer: Any) -> str:
    return reprlib.repr(answer) if isinstance(answer, str | list | tuple | dict) else type(answer).__name__
