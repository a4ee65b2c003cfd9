"""The renderings of a document: plain text for a terminal, Markdown for a block of another document, an HTML page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from mlscale.reporting.document import Document, Element, Picture, Source, Table, Text

WIDE: Final = 130
# A number in a text, with a version's "v", a date, or a shortened hash; not the digits of a name, as in k3s, other-1.
_NUMBER: Final = re.compile(r"(?<![A-Za-z_0-9])(?<!\w-)(?:[0-9a-f]{12}\b|\d{4}-\d\d-\d\d|-?v?\d+(?:[.,]\d+)*)")


def to_text(document: Document) -> str:
    """For a terminal: tables of at most `WIDE` characters a line, without pictures."""
    return _templates().get_template("terminal.txt").render(sections=document.sections).strip("\n")


def to_markdown(elements: Sequence[Element]) -> str:
    """For a marked block of another document, without pictures."""
    return _templates().get_template("block.md").render(elements=elements)


def to_html(document: Document, root: str = "") -> str:
    """A page, with its pictures inside. A number that has a source is a link to an entry at the end of the page, which
    names the source's file, field and command.

    Args:
        root: the folder that the sources' files are in, as seen from the page; empty: they are not linked.
    """
    environment, links = _templates(), _Links()
    environment.filters["linked"] = links.linked
    return environment.get_template("page.html").render(document=document, links=links, root=root)


class _Links:
    """Turns numbers into links, and remembers which were taken from each source."""

    def __init__(self) -> None:
        self._sources: dict[Source, list[str]] = {}

    @property
    def entries(self) -> list[tuple[Source, list[str]]]:
        """Every source used so far with its numbers, in order of first use."""
        return [(source, list(dict.fromkeys(numbers))) for source, numbers in self._sources.items()]

    def linked(self, text: str, source: Source | None) -> Markup:
        """``text`` as HTML."""
        numbers = _NUMBER.findall(text)
        if source is None or not numbers:
            return _marked(escape(text))
        self._sources.setdefault(source, []).extend(numbers)
        link = Markup('<a href="#s{}">{}</a>')
        entry = [*self._sources].index(source) + 1
        between = [escape(part) for part in _NUMBER.split(text)]
        linked = [link.format(entry, number) for number in numbers]
        return _marked(Markup("").join(part for pair in zip(between, [*linked, ""], strict=True) for part in pair))


def _marked(html: Markup) -> Markup:
    """With Markdown's code and bold as HTML."""
    coded = re.sub(r"`([^`]+)`", r"<code>\1</code>", str(html))
    return Markup(re.sub(r"\*\*([^*]+)\*\*", r"<b>\1</b>", coded))


def _templates() -> Environment:
    environment = Environment(
        loader=PackageLoader("mlscale.reporting"),
        autoescape=lambda name: (name or "").endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.tests |= {
        "table": lambda element: isinstance(element, Table),
        "text": lambda element: isinstance(element, Text),
        "picture": lambda element: isinstance(element, Picture),
        "numeric": lambda cell: bool(re.fullmatch(r"[-<\s]*\d[\d.,%\s]*", cell)),
    }
    environment.filters["plain"] = _plain
    return environment


def _plain(table: Table) -> str:
    text: str = table.cells.to_string(line_width=WIDE, index=table.indexed, max_colwidth=60)
    return text
