"""Each student notebook: the teacher's answers pass, blank ones are asked for, usual wrong ones get their own hint."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator

import pytest
from lab_notebooks import LABS, answers, blanks, executed, kernel, said
from nbclient import NotebookClient

from mlscale_lab.checks import Choice, Mistake, Number

LESSONS = {lab: lab.split("_", 2)[2] for lab in LABS}
NUMBERS = [
    (lab, name)
    for lab, lesson in LESSONS.items()
    for name in importlib.import_module(f"mlscale_lab.lessons.{lesson}").checks().names
]


def lesson_of(lab: str):  # noqa: ANN201
    return importlib.import_module(f"mlscale_lab.lessons.{LESSONS[lab]}")


@pytest.fixture(scope="module")
def client() -> Iterator[NotebookClient]:
    with kernel() as made:
        yield made


@pytest.mark.parametrize("lab", LABS)
def test_a_teachers_answers_are_right(client: NotebookClient, lab: str) -> None:
    assert set(answers(lab)) == set(blanks(lab))
    verdicts = said(executed(lab, answers(lab), skip="live_run", client=client))
    assert len(verdicts) >= len(blanks(lab)) - 1
    assert not [text for text in verdicts if "Right." not in text], "the last one is the summary"


@pytest.mark.parametrize("lab", LABS)
def test_without_answers_every_cell_runs_and_nothing_is_given_away(client: NotebookClient, lab: str) -> None:
    verdicts = said(executed(lab, {}, skip="live_run", client=client))
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


@pytest.mark.parametrize(
    ("lab", "name", "answer", "hint"),
    [
        ("lab_1_queues", "replicas", 2, "grows for ever"),
        ("lab_1_queues", "replicas", 3, "100 % load"),
        ("lab_1_queues", "replicas", 4, "are asked for"),
        ("lab_1_queues", "replicas", 9, "Enough, but fewer would do"),
        ("lab_1_queues", "replicas", 4.5, "A whole number"),
        ("lab_1_queues", "inside_at_80", 4000, "too large"),
        ("lab_1_queues", "mean_at_80", 250, "milliseconds"),
        ("lab_2_thresholds", "settings", {"upscale_delay_s": 0.0, "downscale_delay_s": 0.0}, "It oscillates"),
        ("lab_2_thresholds", "settings", {"downscale_delay_s": 120.0}, "Calm and slow"),
        ("lab_2_thresholds", "settings", {"min_replicas": 3, "target_ongoing": 0.2}, "Calm and too expensive"),
        ("lab_2_thresholds", "settings", {"min_replicas": 4}, "Nothing is scaled any more"),
        ("lab_2_thresholds", "settings", {"min_replica": 4}, "unknown setting 'min_replica'"),
        ("lab_3_cold_starts", "settings", {}, "Too slow"),
        ("lab_3_cold_starts", "settings", {"min_replicas": 3}, "Fast and too expensive"),
        ("lab_3_cold_starts", "settings", {"cpu_cores": 1.0}, "Replicas of the same size"),
        ("lab_4_machines", "settings", {"buffer_replicas": 2}, "Room alone still leaves the pod to start"),
        ("lab_4_machines", "settings", {"min_replicas": 3}, "Fast and too expensive"),
        ("lab_4_machines", "settings", {"boot": "0s"}, "can't choose how long a machine boots"),
    ],
)
def test_a_typical_wrong_solution_fails_with_the_hint_that_fits(lab: str, name: str, answer: object, hint: str) -> None:
    verdict = lesson_of(lab).checks()(name, answer)
    assert verdict.right is False
    assert hint in verdict.text
