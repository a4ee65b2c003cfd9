"""The last lines of a log, for error messages."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_TAIL_BYTES: Final = 16_384


def last_lines(text: str, count: int) -> list[str]:
    """The last ``count`` non-empty lines, without trailing white space."""
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def log_tail(log: Path, count: int) -> list[str]:
    """`last_lines` of a file; [] if it can't be read."""
    try:
        with log.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL_BYTES))
            return last_lines(file.read().decode(errors="replace"), count)
    except OSError:
        return []
