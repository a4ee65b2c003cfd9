"""What is built or unpacked once: folders named by their content's recipe, there whole or not at all."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.host.scratch import remove_folder
from mlscale.host.state import cache_home
from mlscale.runs import MlscaleError

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder ``root``; see `default_cache`."""

    root: Path

    def folder(self, name: str, *recipe: str | bytes) -> Path:
        """Where what is made by ``recipe`` lies, whether it is there or not."""
        digest = hashlib.sha256()
        for part in recipe:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)
        return self.root / f"{name}-{digest.hexdigest()[:12]}"

    @contextmanager
    def making(self, folder: Path) -> Iterator[Path]:
        """A fresh folder that becomes ``folder`` when the block ends well, and is removed when it does not."""
        partial = folder.with_name(f"{folder.name}.partial")
        remove_folder(partial)
        partial.mkdir(parents=True)
        try:
            yield partial
            partial.rename(folder)
        finally:
            remove_folder(partial)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One maker at a time; waits for another one.

        Raises:
            MlscaleError: the folder can't be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.root / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise MlscaleError(
                f"it can't be written: {error.strerror}", str(self.root), "set XDG_CACHE_HOME to a folder that can be"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def default_cache() -> Cache:
    """``${XDG_CACHE_HOME:-~/.cache}/mlscale/cluster``."""
    return Cache(cache_home() / "cluster")


def die_with_parent() -> None:
    """For ``preexec_fn``: a build ends when the command that asked for it is killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
