"""Numbers of the document: each is taken from data, and is a link to an entry that names the data and its command."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mlscale_paper import places

# A number in a text, with a version's "v", or a shortened hash; not the digits of a name, such as k3s or P1.
_NUMBER: Final = re.compile(r"(?<![A-Za-z_0-9])(?:[0-9a-f]{12}\b|-?v?\d+(?:[.,]\d+)*)")


@dataclass(frozen=True)
class Source:
    """Where a number comes from: a field of a file, and the command that writes it."""

    file: str
    field: str
    command: str


class Numbers:
    """Makes Typst markup of texts and values, and remembers the source of each number in it.

    Args:
        contents: name -> content of a file of results, as plain data.
        files: the same names -> (path in the checkout, command that writes it).
    """

    def __init__(self, contents: Mapping[str, Any], files: Mapping[str, tuple[str, str]]) -> None:
        self._contents = contents
        self._files = files
        self._sources: dict[Source, list[str]] = {}

    @property
    def sources(self) -> list[tuple[Source, list[str]]]:
        """Every source used so far, in order of first use, with the numbers taken from it."""
        return [(source, list(dict.fromkeys(numbers))) for source, numbers in self._sources.items()]

    def value(self, name: str, path: str, form: str = "") -> str:
        """The field at ``path`` ("arms.matched.draws", "environments.0.runs") of a file of results.

        Raises:
            KeyError: there is no such field.
        """
        return self.text(shown(field_of(self._contents[name], path), form), name, path)

    def text(self, text: str, name: str, path: str) -> str:
        """A generated text, whose numbers come from the field at ``path``."""
        file, command = self._files[name]
        return self._linked(text, Source(file, path, command))

    def constant(self, place: str, form: str = "") -> str:
        """A constant of the code, "package.module:NAME"."""
        name, constant = place.split(":")
        module = import_module(name)
        command = f'.venv/bin/python -c "from {name} import {constant}; print({constant})"'
        file = Path(str(module.__file__)).relative_to(places.checkout()).as_posix()
        return self._linked(shown(getattr(module, constant), form), Source(file, constant, command))

    def _linked(self, text: str, source: Source) -> str:
        if not _NUMBER.search(text):
            return plain(text)
        numbers = self._sources.setdefault(source, [])
        label = f"s{[*self._sources].index(source) + 1}"
        parts, end = [], 0
        for match in _NUMBER.finditer(text):
            parts += [plain(text[end : match.start()]), f"#number({json.dumps(match[0])}, <{label}>);"]
            numbers.append(match[0])
            end = match.end()
        return "".join([*parts, plain(text[end:])])


def field_of(content: Any, path: str) -> Any:
    """The field of plain data that a dotted path names; numbers are places in a list."""
    for part in path.split("."):
        content = content[int(part)] if isinstance(content, list) else content[part]
    return content


def shown(value: Any, form: str = "") -> str:
    """A value as it is printed: a float to three digits unless ``form`` says otherwise; None as a dash."""
    if value is None:
        return "–"
    return format(value, form or (".3g" if isinstance(value, float) else ""))


def plain(text: str) -> str:
    """Typst markup that shows ``text`` as it is."""
    return f"#{json.dumps(text, ensure_ascii=False)};" if text else ""
