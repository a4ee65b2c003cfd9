"""Where a user's own code is imported from."""

from __future__ import annotations

import sys
from pathlib import Path


def add_working_folder() -> None:
    """Make the working folder importable, as for ``python -m``: a command's own first entry is its program's folder."""
    folder = str(Path.cwd())
    if "" not in sys.path and folder not in sys.path:
        sys.path.append(folder)
