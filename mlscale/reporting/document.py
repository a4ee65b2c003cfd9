"""What is said of results, apart from how it is shown: texts, tables and pictures, each with the source of its numbers.

Numbers are formatted here, so that every rendering shows the same digits.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Source:
    """Where numbers come from: a ``field`` of a file or folder, and the command that writes it."""

    file: str
    command: str
    field: str


@dataclass(frozen=True)
class Text:
    """Lines: paragraphs, items of a list, notes in small print, warnings, or code as it is in a file."""

    lines: Sequence[str]
    style: Literal["paragraph", "list", "note", "warning", "code"] = "paragraph"
    source: Source | None = None


@dataclass(frozen=True)
class Table:
    """``cells``: texts alone (`table`); its index is shown unless it is a range."""

    heading: str
    cells: pd.DataFrame
    source: Source | None = None

    @property
    def indexed(self) -> bool:
        """Whether rows have labels."""
        return not isinstance(self.cells.index, pd.RangeIndex)

    @property
    def header(self) -> list[str]:
        """The names of the labels and of the columns."""
        labels = [str(name or self.cells.columns.name or "") for name in self.cells.index.names] if self.indexed else []
        return [*labels, *map(str, self.cells)]

    @property
    def rows(self) -> list[list[str]]:
        """The cells of each row, after its labels."""
        frame = self.cells.reset_index(drop=not self.indexed)
        return [[str(cell) for cell in row] for row in frame.itertuples(index=False)]


@dataclass(frozen=True)
class Picture:
    """``data``: a data URI; ``alt``: for those who don't see it."""

    heading: str
    data: str
    alt: str
    caption: str
    source: Source | None = None


Element = Text | Table | Picture


@dataclass(frozen=True)
class Section:
    title: str
    elements: Sequence[Element]


@dataclass(frozen=True)
class Document:
    title: str
    sections: Sequence[Section]


def table(
    heading: str,
    content: pd.DataFrame | Sequence[Mapping[str, Any]],
    *,
    digits: int = 4,
    missing: str = "-",
    source: Source | None = None,
) -> Table:
    """A table of a frame, or of rows with the same keys.

    Args:
        digits: significant ones of each float. missing: shown for None and NaN.
    """
    frame = content if isinstance(content, pd.DataFrame) else pd.DataFrame(list(content), dtype=object)
    return Table(heading, frame.astype(object).map(lambda value: shown(value, digits, missing)), source)


def shown(value: Any, digits: int, missing: str) -> str:
    """A table's cell."""
    if value is None or pd.isna(value):
        return missing
    if isinstance(value, float):
        return f"{value:.0f}" if 10**digits <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return str(value)


def picture(heading: str, figure: Figure, source: Source | None = None) -> Picture:
    """A figure with its label as caption."""
    from mlscale.plots.captions import alternative_text
    from mlscale.plots.style import style

    file = io.BytesIO()
    with style():
        figure.savefig(file, format="svg", bbox_inches="tight", metadata={"Date": None})
    data = f"data:image/svg+xml;base64,{base64.b64encode(file.getvalue()).decode()}"
    return Picture(heading, data, alternative_text(figure) or heading, str(figure.get_label()), source)
