"""Each student notebook: the teacher's answers pass, blank ones are asked for, usual wrong ones get their own hint."""

from __future__ import annotations

import importlib
import itertools
import math

import pytest
from lab_notebooks import LABS, answers, blanks, executed, said

from mlscale_lab.checks import Choice, Mistake, Number

LESSONS = {lab: lab.split("_", 2)[2] for lab in LABS}
NUMBERS = [
    (lab, name)
    for lab, lesson in LESSONS.items()
    for name in importlib.import_module(f"mlscale_lab.lessons.{lesson}").checks().names
]


def lesson_of(lab: str):  # noqa: ANN201
    return importlib.import_module(f"mlscale_lab.lessons.{LESSONS[lab]}")


@pytest.mark.parametrize("lab", LABS)
def test_a_teachers_answers_are_right(lab: str) -> None:
    assert set(answers(lab)) == set(blanks(lab))
    verdicts = said(executed(lab, answers(lab), skip="live_run"))
    assert len(verdicts) >= len(blanks(lab)) - 1
    assert not [text for text in verdicts if "Right." not in text], "the last one is the summary"


@pytest.mark.parametrize("lab", LABS)
def test_without_answers_every_cell_runs_and_nothing_is_given_away(lab: str) -> None:
    verdicts = said(executed(lab, {}, skip="live_run"))
    assert all("No answer yet." in text for text in verdicts[:-1])
    assert "Not yet." in verdicts[-1]


@pytest.mark.parametrize(("lab", "name"), NUMBERS)
def test_a_usual_mistake_gets_its_own_hint_and_is_told_from_the_right_answer(lab: str, name: str) -> None:
    check = lesson_of(lab).checks()
    question = check.question(name)
    if isinstance(question, Number):
        assert check(name, question.right).right is True
        for mistake in question.mistakes:
            verdict = check(name, mistake.answer)
            assert (verdict.right, verdict.text) == (False, mistake.hint)
        assert len({mistake.hint for mistake in question.mistakes}) == len(question.mistakes)
        finite = [mistake for mistake in question.mistakes if math.isfinite(mistake.answer)]
        for one, other in itertools.combinations([Mistake(question.right, ""), *finite], 2):
            assert abs(one.answer - other.answer) > question.within * abs(other.answer), (one, other)
    elif isinstance(question, Choice):
        assert check(name, question.right).right is True
        assert question.right not in question.hints
        for answer, hint in question.hints.items():
            assert check(name, answer).text == hint
    assert check(name, "nonsense").right is False
    assert check(name, None).right is None
