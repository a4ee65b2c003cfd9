"""Scratch folders: short paths, and removal that holds out against processes that are still dying."""

from __future__ import annotations

import errno
import shutil
import tempfile
import time
from pathlib import Path

from mlscale.runs import MlscaleError


def scratch_root() -> Path:
    """A short folder for scratch: paths of Unix sockets below it must stay under 108 characters (macOS: 104)."""
    own = Path(tempfile.gettempdir())
    return own if len(str(own)) <= 24 or not Path("/tmp").is_dir() else Path("/tmp")


def remove_folder(folder: Path, at_most_s: float = 5.0) -> None:
    """Remove ``folder`` and all below it, if it is there. Idempotent, also beside another removal of the same folder.

    Raises:
        MlscaleError: it can't be removed, or somebody still writes into it after ``at_most_s``.
    """
    deadline_s = time.monotonic() + at_most_s
    while True:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            if not folder.exists():
                return
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EBUSY) or time.monotonic() > deadline_s:
                raise MlscaleError(f"the folder can't be removed: {error}", str(folder), "delete it by hand") from error
        else:
            return
        time.sleep(0.01)
