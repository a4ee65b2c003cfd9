"""What a student has answered in a lab, in a small file beside the notebook: it survives a restart of the kernel."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mlscale.atomic import write_text
from mlscale.errors import MlscaleError

_MOST_CHARACTERS = 60


def identity(student: Any) -> str:
    """A student's name or number as it is compared: one case, one space between words; "" for None.

    Raises:
        MlscaleError: neither a name nor a number.
    """
    if student is None:
        return ""
    text = " ".join(str(student).split()).casefold() if isinstance(student, str | int) else ""
    if not text or len(text) > _MOST_CHARACTERS or not text[0].isalnum():
        remedy = 'write your name or student number, in quotation marks: student = "Ada Lovelace"'
        raise MlscaleError("no name or number", "student", remedy)
    return text


class Kept:
    """``answers``: by question: answer, right (None: not known here), at (UTC), and a locked prediction.

    Raises:
        MlscaleError: the file is there and can't be read.
    """

    def __init__(self, lesson: str, student: Any, folder: str | Path) -> None:
        self.student = identity(student)
        self._lesson = lesson
        self._file = Path(folder) / f"{lesson}.answers.json"
        self.answers: dict[str, dict[str, Any]] = {}
        self._texts: dict[str, dict[str, Any]] = {}
        if self._file.exists():
            try:
                content = json.loads(self._file.read_text(encoding="utf-8"))
                self.answers, self._texts = content["answers"], content["texts"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                remedy = "move it elsewhere; the answers in the notebook's cells are not lost"
                raise MlscaleError("not readable", str(self._file), remedy) from error

    def answer(self, name: str, answer: Any, right: bool | None) -> dict[str, Any]:
        """Keep an answer, and give its record; a locked prediction stays."""
        if answer in (math.inf, -math.inf):
            answer = str(answer)  # JSON has none
        locked = {key: value for key, value in self.answers.get(name, {}).items() if key == "prediction"}
        self.answers[name] = {"answer": answer, "right": right, "at": _now(), **locked}
        self._write()
        told = {key: value for key, value in self.answers[name].items() if key != "right"}
        return {"lesson": self._lesson, "student": self.student, "question": name, **told}

    def lock(self, name: str) -> None:
        """Make the answer as it is now the prediction, unless there is one."""
        kept = self.answers[name]
        if "prediction" not in kept:
            kept["prediction"] = kept["answer"]
            self._write()

    def text(self, name: str, text: str) -> dict[str, Any]:
        """Keep an explanation, and give its record."""
        self._texts[name] = {"text": text, "at": _now()}
        self._write()
        return {"lesson": self._lesson, "student": self.student, "question": name, **self._texts[name]}

    def _write(self) -> None:
        content = {"student": self.student, "answers": self.answers, "texts": self._texts}
        write_text(self._file, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
