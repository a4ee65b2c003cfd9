"""A cache of built or unpacked folders, named by a digest of their inputs. A folder is either complete or absent."""

from __future__ import annotations

import ctypes
import hashlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.host.scratch import remove_folder
from mlscale.host.state import cache_home
from onenode.locking import locked

_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Cache:
    """The folder ``root``; see `default_cache`."""

    root: Path

    def folder(self, name: str, *recipe: str | bytes) -> Path:
        """The folder for what ``recipe`` builds, whether it exists or not."""
        digest = hashlib.sha256()
        for part in recipe:
            data = part.encode() if isinstance(part, str) else part
            digest.update(len(data).to_bytes(8, "big") + data)
        return self.root / f"{name}-{digest.hexdigest()[:12]}"

    @contextmanager
    def creating(self, folder: Path) -> Iterator[Path]:
        """A fresh folder that becomes ``folder`` when the block succeeds, and is removed when it fails."""
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
        """One builder at a time; waits for another process.

        Raises:
            MlscaleError: the folder is not writable.
        """
        with locked(self.root / "lock", variable="XDG_CACHE_HOME"):
            yield


def default_cache() -> Cache:
    """``${XDG_CACHE_HOME:-~/.cache}/mlscale/cluster``."""
    return Cache(cache_home() / "cluster")


def die_with_parent() -> None:
    """For ``preexec_fn``: the child is killed when its parent dies, so no build outlives its command."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
