"""Each student notebook: the teacher's answers pass, blank ones are asked for, usual wrong ones get their own hint."""

from __future__ import annotations

import importlib
import itertools
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from lab_notebooks import LABS, answers, blanks, executed, kernel, said
from nbclient import NotebookClient

from mlscale.runs import MlscaleError
from mlscale_lab import Sandbox, experiments
from mlscale_lab.checks import Choice, Mistake, Number

LESSONS = {lab: lab.split("_", 2)[2] for lab in LABS}
NUMBERS = [
    (lab, name)
    for lab, lesson in LESSONS.items()
    for name in importlib.import_module(f"mlscale_lab.lessons.{lesson}").checks().names
]


class EqualToAll:
    """It claims to be any answer."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = object.__hash__


NONSENSE = [
    "nonsense", ["a"], {"a": 1}, {1: 2}, set(), 10**400, -(10**5000), math.nan, True, EqualToAll(), (0, 25), 1j, b"a",
    {"arm": "static-max"}, {"environment": "k3s"}, {"min_replicas": [1]}, {"min_replicas": math.nan}, [1, 2, 3],
]  # fmt: skip


def lesson_of(lab: str):  # noqa: ANN201
    return importlib.import_module(f"mlscale_lab.lessons.{LESSONS[lab]}")


@pytest.fixture(scope="module")
def client() -> Iterator[NotebookClient]:
    with kernel() as made:
        yield made


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are kept in the working folder."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("lab", LABS)
def test_a_teachers_answers_are_right(client: NotebookClient, lab: str, tmp_path: Path) -> None:
    assert set(answers(lab)) == set(blanks(lab))
    notebook = executed(lab, answers(lab), tmp_path, skip="live_run", client=client)
    verdicts = [text for text in said(notebook) if "Write between the quotation marks" not in text]
    assert len(verdicts) == len(blanks(lab)), "all but the name, and the summary"
    assert not [text for text in verdicts if "Right." not in text and "Kept." not in text]
    assert "Right." in verdicts[-1], "the summary"
    shown = executed(lab, {"student": "'Ada Lovelace'"}, tmp_path, skip="live_run", client=client)
    assert f"{len(verdicts) - 1} checks are done" in said(shown)[-1], "answers survive a restart"


@pytest.mark.parametrize("lab", LABS)
def test_without_answers_nothing_is_shown_before_it_is_predicted(
    client: NotebookClient, lab: str, tmp_path: Path
) -> None:
    notebook = executed(lab, {}, tmp_path, skip="live_run", client=client)
    verdicts = said(notebook)
    assert all("No answer yet." in text for text in verdicts[:-1])
    assert "Not yet." in verdicts[-1]
    for cell in notebook.cells:
        failed = [output for output in cell.outputs if output.output_type == "error"]
        assert bool(failed) == cell.source.startswith(("check.predicted", "lesson.own_numbers")), cell.source
        assert all(len(error.traceback) == 1 and error.traceback[0].startswith("mlscale: ") for error in failed)


@pytest.mark.parametrize(("lab", "name"), NUMBERS)
def test_a_usual_mistake_gets_its_own_hint_and_is_told_from_the_right_answer(lab: str, name: str) -> None:
    check = lesson_of(lab).checks("Ada Lovelace")
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
    for nonsense in NONSENSE:
        assert check(name, nonsense).right is False, nonsense
        assert len(str(check(name, nonsense))) < 600
    assert check(name, None).right is None


@pytest.mark.parametrize(
    ("lab", "name", "answer", "hint"),
    [
        ("lab_1_queues", "replicas", 2, "grows for ever"),
        ("lab_1_queues", "replicas", 3, "100 % load"),
        ("lab_1_queues", "replicas", 4, "are asked for"),
        ("lab_1_queues", "replicas", 9, "Enough, but fewer would do"),
        ("lab_1_queues", "replicas", 4.5, "A whole number"),
        ("lab_1_queues", "replicas", 10**9, "Enough, but fewer would do"),
        ("lab_1_queues", "replicas", 10**400, "larger than anything"),
        ("lab_1_queues", "mean_at_80", (0, 25), "a decimal point, not a comma"),
        ("lab_1_queues", "mean_at_80", "0,25", "without quotation marks, with a decimal point"),
        ("lab_1_queues", "own_mean", "0.25", "without quotation marks"),
        ("lab_1_queues", "own_mean", math.inf, "A finite number"),
        ("lab_2_thresholds", "most_changes", "d", "Choose one of 'a', 'b', 'c', not 'd'"),
        ("lab_2_thresholds", "first_decision", 15, "still of before"),
        ("lab_2_thresholds", "first_decision", 30, "worst case"),
        ("lab_2_thresholds", "settings", {"cpu_cores": 8.0}, "Replicas of the same size"),
        ("lab_2_thresholds", "settings", {"cpu_budget": "total"}, "Replicas of the same size"),
        ("lab_2_thresholds", "settings", {"min_replicas": 3}, "Hardly anything is scaled"),
        ("lab_2_thresholds", "settings", {"min_replicas": 2, "max_replicas": 5}, "At most 4 workers"),
        ("lab_2_thresholds", "settings", {"arm": "static-max"}, "unknown setting 'arm'"),
        ("lab_2_thresholds", "settings", {3: 4}, "in quotation marks"),
        ("lab_2_thresholds", "settings", ["a"], "A dictionary is expected"),
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
    verdict = lesson_of(lab).checks("Ada Lovelace")(name, answer)
    assert verdict.right is False
    assert hint in verdict.text


def test_capitals_of_an_option_do_not_matter() -> None:
    assert lesson_of("lab_2_thresholds").checks()("most_changes", " A ").right is True


def test_a_prediction_is_locked_once_it_is_looked_at(tmp_path: Path) -> None:
    check = lesson_of("lab_1_queues").checks()
    with pytest.raises(MlscaleError, match="predict first"):
        check.predicted("mean_at_80")
    check("mean_at_80", 0.1)
    check("mean_at_80", 0.09)
    check.predicted("mean_at_80")
    assert "Your prediction was 0.09" in check("mean_at_80", 0.25).text
    check.predicted("mean_at_80")
    again = lesson_of("lab_1_queues").checks()
    assert "Your prediction was 0.09" in again("mean_at_80", 0.25).text, "after a restart, too"
    assert "0.25" in again("mean_at_80", None).text
    (tmp_path / "queues.answers.json").write_text("{")
    with pytest.raises(MlscaleError, match="not readable"):
        lesson_of("lab_1_queues").checks()


def test_an_explanation_is_kept() -> None:
    check = lesson_of("lab_1_queues").checks()
    assert check.explain("growth", "\n\n").right is None
    assert "4 words" in check.explain("growth", "What is left shrinks.\n").text
    assert check.explain("growth", 7).right is False


@pytest.mark.parametrize("student", ["", "   ", "=1+1", 1.5, "x" * 61, []])
def test_a_name_that_is_none_is_refused_in_one_line(student: object) -> None:
    with pytest.raises(MlscaleError, match="write your name"):
        lesson_of("lab_1_queues").checks(student)


def test_own_numbers_are_the_same_for_a_name_however_it_is_written() -> None:
    for lab in LABS:
        own = lesson_of(lab).own_numbers
        assert own("Ada Lovelace") == own(" ada  LOVELACE ")
        assert len({str(own(f"student {place}")) for place in range(20)}) > 15
        with pytest.raises(MlscaleError, match="first cell"):
            own(None)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: lesson_of("lab_1_queues").simulated([80]), "give shares of the capacity: 0.8"),
        (lambda: experiments.run("torchserve", "wavs"), "no such load: 'wavs'"),
        (lambda: experiments.run("torchserve", [1, 2]), "or give 12 rates"),
        (lambda: experiments.run("torchserve", 5), "no such load: 5"),
        (lambda: Sandbox(load="wavs"), "no such load: 'wavs'"),
        (lambda: experiments.run("torchserve", min_replica=2), "unknown setting 'min_replica'"),
    ],
)
def test_an_experiment_that_is_none_is_refused_in_one_line(call: Callable[[], object], said: str) -> None:
    with pytest.raises(MlscaleError, match=re.escape(said)):
        call()
