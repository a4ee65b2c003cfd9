"""Scratch folders: short paths, and removal that holds out against processes that are still dying."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Final

from mlscale.runs import MlscaleError

_LONGEST: Final = 24


def scratch_root(preferred: Path | None = None) -> Path:
    """A folder for scratch where programs can be executed and paths are short.

    Paths of Unix sockets below it must stay under 108 characters (macOS: 104). ``preferred`` (default: what TMPDIR
    says) is taken when it fits, else /tmp or /var/tmp; where none does, ``preferred`` all the same: making a folder
    there will say why not.
    """
    own = preferred or Path(tempfile.gettempdir())
    fitting = (folder for folder in (own, Path("/tmp"), Path("/var/tmp")) if _fits(folder))
    return next(fitting, own)


def _fits(folder: Path) -> bool:
    if len(str(folder)) > _LONGEST or not os.access(folder, os.W_OK | os.X_OK):
        return False
    return not os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 8)


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
