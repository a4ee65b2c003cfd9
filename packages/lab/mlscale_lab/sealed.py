"""Right answers and hints as a student's copy has them: a text can be read only with the answer that it belongs to.

That keeps them from being read, not from being tried: whoever tries every number finds the right one, as with
any check. What is graded for each student alone (`checks.Own`) is therefore not in the file at all.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from mlscale.errors import MlscaleError
from mlscale_lab.checks import Choice, Number, Question, Verdict, as_number, as_option

FILE: Final = "hints.json"


@dataclass(frozen=True)
class Sealed:
    """``texts``: as `seal` makes them, the right answer's first. ``options``: a choice's."""

    name: str
    texts: list[dict[str, Any]]
    options: list[str]
    otherwise: str

    def grade(self, answer: Any) -> Verdict:
        value: Any = as_option(answer, self.options) if self.options else as_number(answer)
        if isinstance(value, Verdict):
            return value
        for place, sealed in enumerate(self.texts):
            key = f"{self.name}:{value if self.options else _cell(value, sealed['from'], sealed['width'])}"
            if _digest(key) == sealed["digest"]:
                return Verdict(place == 0, _mixed(bytes.fromhex(sealed["text"]), key).decode(), value)
        return Verdict(False, self.otherwise, value)


def seal(name: str, question: Number | Choice) -> dict[str, Any]:
    """A question for `FILE`."""
    texts = []
    if isinstance(question, Choice):
        for option, text in [(question.right, question.because), *question.hints.items()]:
            texts.append(_sealed(f"{name}:{option}", text))
        return {"texts": texts, "options": question.options(), "otherwise": ""}
    for value, text in question.outcomes():
        # all values within the tolerance are in one cell of a grid of logarithms; where cells begin is given, not which
        width = math.log((1 + question.within) / (1 - question.within))
        start = math.log(abs(value) * (1 - question.within)) % width if value and math.isfinite(value) else 0.0
        grid = {"from": start, "width": width}
        texts.append({**_sealed(f"{name}:{_cell(value, start, width)}", text), **grid})
    return {"texts": texts, "options": [], "otherwise": question.otherwise}


def sealed_questions(lesson: str, folder: Path) -> Mapping[str, Callable[[], Question]]:
    """The questions of a lesson from `FILE`.

    Raises:
        MlscaleError: it is not there.
    """
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))[lesson]
    except (OSError, ValueError, KeyError) as error:
        raise MlscaleError(
            "the labs' hints are not there", str(folder / FILE), "unpack the archive of the labs again"
        ) from error
    return {name: partial(Sealed, name, **found) for name, found in content.items()}


def _cell(value: float, start: float, width: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    # a hair's breadth, so that rounding does not put the bounds themselves outside
    place = math.floor((math.log(abs(value)) - start) / width + 1e-9)
    return f"{math.copysign(1, value):g}:{place}"


def _sealed(key: str, text: str) -> dict[str, Any]:
    return {"digest": _digest(key), "text": _mixed(text.encode(), key).hex()}


def _digest(key: str) -> str:
    return hashlib.sha256(f"digest:{key}".encode()).hexdigest()[:20]


def _mixed(text: bytes, key: str) -> bytes:
    """``text`` combined with as many bytes that follow from ``key``; once more undoes it."""
    stream = hashlib.shake_256(f"text:{key}".encode()).digest(len(text))
    return bytes(one ^ other for one, other in zip(text, stream, strict=True))
