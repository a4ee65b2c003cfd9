"""One command at a time for one cluster."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlscale.runs import MlscaleError


@contextmanager
def locked(file: Path, waiting: Callable[[], None] = lambda: None, variable: str = "XDG_STATE_HOME") -> Iterator[int]:
    """Hold ``file`` locked; yields its descriptor. ``waiting`` is called once if another process holds it.

    The lock outlasts this process while a child has the descriptor open. ``variable``: the environment
    variable that sets the folder, for the error.

    Raises:
        MlscaleError: the folder is not writable.
    """
    descriptor = _open(file, variable)
    reported = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not reported:
                    waiting()
                    reported = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same(descriptor, file):
                break
            os.close(descriptor)  # `down`, which held it, removed the file
            descriptor = _open(file, variable)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(file: Path, variable: str) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MlscaleError(
            f"it is not writable: {error.strerror}", str(file), f"set {variable} to a writable folder"
        ) from error


def _same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
