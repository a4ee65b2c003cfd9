"""Grades notebooks that were handed in, by the answers that their checks saved in them. None of their code is run."""

from __future__ import annotations

import ast
import csv
import io
import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mlscale.atomic import write_text
from mlscale.errors import MlscaleError
from mlscale_lab.checks import MIME, Checks, Own, near
from mlscale_lab.kept import identity

# Each lab's number, by its lesson.
LABS: Final[Mapping[str, int]] = {"queues": 1, "thresholds": 2, "cold_starts": 3, "machines": 4, "comparison": 5}
# A student's own numbers: how far an answer may be off, as a share.
WITHIN: Final = 0.02
_LESSON: Final = re.compile(r"^from mlscale_lab import .*?(\w+) as lesson$", re.MULTILINE)
_STUDENT: Final = re.compile(r"^student = (.+)$", re.MULTILINE)
_ASKED: Final = re.compile(r'^(\w+) = (.+?)(?:  #.*)?\ncheck\("(\w+)", \1\)', re.MULTILINE)


@dataclass(frozen=True)
class HandedIn:
    """One notebook. ``records``: by question, as `checks.Verdict` saved them."""

    file: Path
    lesson: str
    student: str
    records: Mapping[str, Mapping[str, Any]]


@dataclass
class _Row:
    """What one student gets. ``points``: by lab and question. ``texts``: lab, question, what, text."""

    points: dict[str, int] = field(default_factory=dict)
    late: int = 0
    texts: list[tuple[str, str, str, str]] = field(default_factory=list)


def grade(folder: Path, out: Path, deadline: str | None = None) -> tuple[str, list[str]]:
    """Write the grades to ``out``, and what is to be read to ``NAME.texts.csv`` beside it.

    Returns:
        One line that says what was done, and one for each thing that a teacher should look at.

    Raises:
        MlscaleError: no notebooks, no date, or ``out`` can't be written.
    """
    last = _moment(deadline) if deadline else None
    files = sorted(file for file in folder.rglob("*.ipynb") if ".ipynb_checkpoints" not in file.parts)
    if not files:
        raise MlscaleError("no notebooks", str(folder), "name the folder of what was handed in")
    problems: list[str] = []
    rows: dict[str, _Row] = defaultdict(_Row)
    by_lab: dict[tuple[str, str], HandedIn] = {}
    for file in files:
        try:
            one = read(file)
        except MlscaleError as error:
            problems.append(str(error))
            continue
        other = by_lab.get((one.student, one.lesson))
        if other is not None:
            problems.append(f"{file}: {other.file.name} is of the same student and lab; the one answered later counts")
        by_lab[one.student, one.lesson] = one if other is None or _latest(one) >= _latest(other) else other
    for one in by_lab.values():
        problems += _grade(one, rows[one.student], last)
    graded = sorted({one.lesson for one in by_lab.values()}, key=lambda lesson: LABS[lesson])
    names = [f"lab_{LABS[lesson]}.{name}" for lesson in graded for name in _graded(lesson)]
    table = [["id", *names, "late", "total"]]
    for student, row in sorted(rows.items()):
        points = [str(row.points.get(name, "")) for name in names]
        table.append([student, *points, str(row.late), str(sum(row.points.values()))])
    write_text(out, _csv(table))
    texts = [["id", "lab", "question", "what", "text"]]
    texts += [[student, *text] for student, row in sorted(rows.items()) for text in row.texts]
    write_text(out.with_suffix(".texts.csv"), _csv(texts))
    return f"{out}: {len(rows)} students, {len(by_lab)} notebooks, {len(names)} questions", problems


def read(file: Path) -> HandedIn:
    """The answers in a notebook: those that its outputs hold, else literals in its cells.

    Raises:
        MlscaleError: no lab, or without a name.
    """
    try:
        cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
        sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
        outputs = [output for cell in cells for output in cell.get("outputs", ())]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise MlscaleError("not a notebook that can be read", str(file), "ask for it again") from error
    lesson = next((str(found[1]) for source in sources if (found := _LESSON.search(source))), "")
    if lesson not in LABS:
        raise MlscaleError("not one of the labs", str(file), "ask for the notebook of a lab")
    given = next((_literal(found[1]) for source in sources if (found := _STUDENT.search(source))), None)
    student = identity(given) if isinstance(given, str | int) else ""
    if not student:
        remedy = 'write it into its first cell, student = "...", and grade again'
        raise MlscaleError("no name", str(file), remedy)
    records: dict[str, Mapping[str, Any]] = {
        name: {"student": student, "answer": value} for name, value in _literals(sources)
    }
    for record in (output.get("data", {}).get(MIME) for output in outputs):
        if isinstance(record, dict) and record.get("lesson") == lesson:
            records[str(record.get("question"))] = record
    return HandedIn(file, lesson, student, records)


def _grade(one: HandedIn, row: _Row, last: datetime | None) -> Iterator[str]:
    """Add a notebook's points and texts to its student's row."""
    lab, right = f"lab_{LABS[one.lesson]}", _right(one.lesson, one.student)
    copied = [name for name, record in one.records.items() if record.get("student") not in (one.student, "")]
    if copied:
        yield f"{one.file}: answered under another name, no points: {', '.join(copied)}"
    unread = [name for name in _graded(one.lesson) if name in one.records and "at" not in one.records[name]]
    if unread:
        yield f"{one.file}: cells were not run or cleared, so when they were answered is not known: {', '.join(unread)}"
    for name in _graded(one.lesson):
        record = one.records.get(name, {})
        late = last is not None and "at" in record and _moment(record["at"]) > last
        row.late += late
        counts = record and not late and name not in copied
        row.points[f"{lab}.{name}"] = int(bool(counts) and right(name, record.get("answer")))
    for name, record in one.records.items():
        for what in ("prediction", "text"):
            if what in record:
                row.texts.append((lab, name, what, str(record[what])))


def _right(lesson: str, student: str) -> Any:
    own = import_module(f"mlscale_lab.teacher.{lesson}").own(_module(lesson).own_numbers(student))

    def right(name: str, answer: Any) -> bool:
        if name not in own:
            return _checked(lesson, name, json.dumps(answer))
        number = Own(drawn=False).grade(answer).answer
        return number is not None and near(number, own[name], WITHIN)

    return right


@cache
def _checked(lesson: str, name: str, answer: str) -> bool:
    """Whether an answer (as JSON) to a question that all share is right; the twin is asked once for each answer."""
    return _checks(lesson).question(name).grade(json.loads(answer)).right is True


@cache
def _checks(lesson: str) -> Checks:
    checks: Checks = _module(lesson).checks()
    return checks


def _graded(lesson: str) -> Sequence[str]:
    """Questions that there is a point for: predictions that only an experiment judges give none."""
    checks = _checks(lesson)
    return [name for name in checks.names if checks.question(name) != Own(drawn=False)]


def _module(lesson: str) -> Any:
    return import_module(f"mlscale_lab.lessons.{lesson}")


def _literals(sources: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for source in sources:
        for found in _ASKED.finditer(source):
            value = _literal(found[2])
            if value is not None:
                yield found[3], value


def _literal(source: str) -> Any:
    try:
        return ast.literal_eval(source.partition("  #")[0].strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return None


def _latest(one: HandedIn) -> str:
    return max((str(record.get("at", "")) for record in one.records.values()), default="")


def _moment(text: Any) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone()
    except (TypeError, ValueError) as error:
        raise MlscaleError(f"no date: {text!r}", "deadline", "write it like 2027-01-15T12:00") from error


def _csv(table: Sequence[Sequence[str]]) -> str:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(table)
    return out.getvalue()
