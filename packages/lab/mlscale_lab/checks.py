"""Checks that grade an answer and give a hint if it is wrong in one of the usual ways.

A lesson defines its questions as functions, since right answers and usual mistakes are computed (by formulas, a
framework's own rule, or the twin) when an answer is checked, and written down nowhere.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, Final, Protocol

_WORDS: Final = {True: ("Right.", "#1a7f37"), False: ("Not yet.", "#b35900"), None: ("No answer yet.", "#555")}


@dataclass(frozen=True)
class Verdict:
    """``right``: None if there is no answer yet. ``text``: a hint, or why the answer is right."""

    right: bool | None
    text: str

    def __str__(self) -> str:
        return f"{_WORDS[self.right][0]} {self.text}"

    def _repr_html_(self) -> str:
        word, colour = _WORDS[self.right]
        style = f"border-left: 4px solid {colour}; padding: 4px 10px; max-width: 60em"
        return f'<div role="status" style="{style}"><b>{word}</b> {html.escape(self.text)}</div>'


class Question(Protocol):
    """Anything that grades an answer."""

    def grade(self, answer: Any) -> Verdict: ...


@dataclass(frozen=True)
class Mistake:
    """``answer``: what a usual misunderstanding gives."""

    answer: float
    hint: str


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
        if isinstance(answer, bool) or not isinstance(answer, Real) or math.isnan(float(answer)):
            return Verdict(False, f"A number is expected, not {answer!r}.")
        value = float(answer)
        if self._near(value, self.right):
            return Verdict(True, self.because)
        for mistake in self.mistakes:
            if self._near(value, mistake.answer):
                return Verdict(False, mistake.hint)
        if self.seconds and self._near(value, 1000 * self.right):
            return Verdict(False, "That is in milliseconds; give seconds.")
        direction = "too large" if value > self.right else "too small"
        return Verdict(False, f"Your number is {direction}. {self.otherwise}")

    def _near(self, value: float, other: float) -> bool:
        return value == other or (math.isfinite(other) and abs(value - other) <= self.within * abs(other))


@dataclass(frozen=True)
class Choice:
    """One of several options. ``hints``: one for each wrong option."""

    right: str
    hints: Mapping[str, str]
    because: str

    def grade(self, answer: Any) -> Verdict:
        if answer == self.right:
            return Verdict(True, self.because)
        known = sorted([self.right, *self.hints])
        return Verdict(False, self.hints.get(answer, f"Choose one of {', '.join(map(repr, known))}."))


@dataclass(frozen=True)
class Task:
    """An answer that is tried out. ``judge``: gives the hint that fits, or None and why it is right."""

    judge: Callable[[Any], Verdict]

    def grade(self, answer: Any) -> Verdict:
        return self.judge(answer)


class Checks:
    """``check = lesson.checks()``, then ``check("name", answer)`` as the last line of a cell."""

    def __init__(self, questions: Mapping[str, Callable[[], Question]]) -> None:
        self._questions = dict(questions)
        self._verdicts = {name: Verdict(None, "") for name in questions}

    def __call__(self, name: str, answer: Any) -> Verdict:
        if name not in self._questions:
            return Verdict(None, f"There is no question {name!r}; there are: {', '.join(self._questions)}.")
        verdict = self._questions[name]().grade(answer) if answer is not None else _unanswered()
        self._verdicts[name] = verdict
        return verdict

    def question(self, name: str) -> Question:
        """The question of that name, with its right answer and usual mistakes computed."""
        return self._questions[name]()

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._questions)

    def summary(self) -> Verdict:
        """How many are right, and which are not."""
        left = [name for name, verdict in self._verdicts.items() if not verdict.right]
        number = f"{len(self._verdicts) - len(left)} of {len(self._verdicts)} checks are right."
        return Verdict(not left, f"{number} Left: {', '.join(left)}." if left else number)


def _unanswered() -> Verdict:
    return Verdict(None, "Replace None by your answer, and run this cell again.")
