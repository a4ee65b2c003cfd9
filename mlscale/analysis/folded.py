"""Tables that fit a page: a notebook shows the columns that matter, and all of them after a click."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import pandas as pd

from mlscale.runs.rendering import folded


class Folded(pd.DataFrame):  # type: ignore[misc]
    """A data frame that shows some of its columns when it ends a cell; what is computed from it is a plain one."""

    _metadata: ClassVar[list[str]] = ["shown"]

    @classmethod
    def of(cls, frame: pd.DataFrame, shown: Sequence[str]) -> Folded:
        """``shown``: the columns to show, at most eight; those without any value are left out."""
        table = cls(frame)
        table.shown = tuple(shown)
        return table

    def _repr_html_(self) -> str:
        plain = pd.DataFrame(self)
        some = plain[[name for name in self.shown if name in plain and _has_values(plain[name])]]
        rest = [name for name in plain if name not in some and _has_values(plain[name])]
        if not rest:
            return _html(some)
        return _html(some) + folded(
            f"{len(rest)} more columns", _html(plain[rest].T, header=len(plain) > 1, index=True)
        )


def _has_values(column: pd.Series[Any]) -> bool:
    return bool((column.notna() & (column.astype(str) != "")).any())


def _html(frame: pd.DataFrame, *, header: bool = True, index: bool = False) -> str:
    text: str = frame.to_html(index=index, header=header, border=0, float_format="{:.4g}".format, na_rep="-")
    return text
