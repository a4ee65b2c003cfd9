"""Files that are replaced as a whole, or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from mlscale.runs import MlscaleError


def write_text(file: Path, text: str) -> None:
    """Replace ``file`` as a whole, or not at all.

    Raises:
        MlscaleError: it can't be written.
    """
    partial = file.with_name(file.name + ".partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("w") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(file)
    except OSError as error:
        raise MlscaleError(
            error.strerror or str(error), str(file), "make room there, or make the folder writable"
        ) from error
