"""One command at a time for one cluster."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mlscale.runs import MlscaleError


@contextmanager
def locked(file: Path, waiting: Callable[[], None] = lambda: None) -> Iterator[int]:
    """Hold ``file`` locked; yields its descriptor. ``waiting`` is called once where another process holds it.

    The lock outlasts this process while a child has the descriptor open.

    Raises:
        MlscaleError: its folder can't be written.
    """
    descriptor = _open(file)
    told = False
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    waiting()
                    told = True
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _same(descriptor, file):
                break
            os.close(descriptor)  # the command before us has removed it
            descriptor = _open(file)
        yield descriptor
    finally:
        os.close(descriptor)


def _open(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MlscaleError(
            f"it can't be written: {error.strerror}", str(file), "set XDG_STATE_HOME to a folder that can be"
        ) from error


def _same(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False
