"""Facts as HTML, for the last line of a notebook's cell."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any


def facts_table(facts: Mapping[str, Any]) -> str:
    """A table with a row for each fact; those that are None or empty are left out."""
    rows = [
        f'<tr><th style="text-align: left">{html.escape(name)}</th>'
        f'<td style="text-align: left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
        if value is not None and value != ""
    ]
    return f"<table>{''.join(rows)}</table>"
