"""A student's hints: the same verdicts as the teacher's questions give, and no text that can be read."""

from __future__ import annotations

import json
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

from mlscale_lab import questions
from mlscale_lab.checks import Choice, Number
from mlscale_lab.sealed import FILE, Sealed, sealed_questions
from mlscale_lab.teacher.grade import LABS
from mlscale_lab.teacher.pack import sealed_hints

hints = cache(sealed_hints)


@pytest.mark.parametrize("lesson", LABS)
def test_a_sealed_question_says_what_the_open_one_says(lesson: str, tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(json.dumps(hints()))
    sealed = sealed_questions(lesson, tmp_path)
    for name, make in import_module(f"mlscale_lab.teacher.{lesson}").QUESTIONS.items():
        question, copy = make(), sealed[name]()
        if isinstance(question, Choice):
            tried = [*question.options(), "nonsense"]
        else:
            assert isinstance(question, Number)
            within = question.within
            tried = [
                right * share for right, _ in question.outcomes() for share in (1, 1 + 0.99 * within, 1 - 0.99 * within)
            ]
            tried += [question.right * (1 + 1.01 * within), -question.right, 0.0, 1e9, 12345.678]
        for answer in tried:
            open_, closed = question.grade(answer), copy.grade(answer)
            assert (closed.right, closed.answer) == (open_.right, open_.answer), (name, answer)
            if not open_.text.startswith("Your number is"):
                assert closed.text == open_.text, (name, answer)


def test_no_answer_and_no_hint_can_be_read_from_the_file() -> None:
    text = json.dumps(hints())
    for lesson in LABS:
        for make in import_module(f"mlscale_lab.teacher.{lesson}").QUESTIONS.values():
            question = make()
            assert question.because not in text
            for hint in (
                question.hints.values() if isinstance(question, Choice) else [m.hint for m in question.mistakes]
            ):
                assert hint not in text


def test_without_the_teachers_part_the_sealed_hints_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / FILE).write_text(json.dumps(hints()))
    monkeypatch.setattr(questions, "find_spec", lambda name: None)
    check = questions.checks_of("queues", "Ada")
    assert isinstance(check.question("mean_at_80"), Sealed)
    assert check("mean_at_80", 0.25).right is True
    assert "milliseconds" in check("mean_at_80", 250).text
