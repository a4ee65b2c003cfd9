"""Scratch folders: short paths, and removal that waits for processes that are still ending."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from mlscale.runs import MlscaleError

_LONGEST_PATH: Final = 24


def scratch_root(preferred: Path | None = None) -> Path:
    """A folder for scratch where programs can be executed and paths are short.

    Paths of Unix sockets below it must stay under 108 characters (macOS: 104). ``preferred`` (default: what TMPDIR
    says) is used if it fits, else /tmp or /var/tmp. If none fits, ``preferred`` is returned: creating a folder there
    raises the actual error.
    """
    first = preferred or Path(tempfile.gettempdir())
    fitting = (folder for folder in (first, Path("/tmp"), Path("/var/tmp")) if _fits(folder))
    return next(fitting, first)


def _fits(folder: Path) -> bool:
    if len(str(folder)) > _LONGEST_PATH or not os.access(folder, os.W_OK | os.X_OK):
        return False
    return not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 8)


def remove_folder(folder: Path, at_most_s: float = 5.0) -> None:
    """Remove ``folder`` and everything in it, if it exists. Safe beside another removal of the same folder.

    Raises:
        MlscaleError: it can't be removed, or something still writes to it after ``at_most_s``.
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
                raise MlscaleError(f"it can't be removed: {error}", str(folder), "delete it yourself") from error
        else:
            return
        time.sleep(0.01)
