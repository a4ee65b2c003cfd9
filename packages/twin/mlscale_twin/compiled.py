"""Functions compiled by numba, kept beside their source so that no one waits for the compiler twice."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


# Cached between processes. Without reference counts: nothing is allocated here, and counting took 5 of 6 parts of the
# time (numba's own sort does without in the same way, misc/mergesort.py).
_OPTIONS: Final[dict[str, Any]] = {"cache": True, "_nrt": False, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """Compiled when first called: what Python calls."""
    return njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Compiled into its callers: a call that passes a whole `Memory` would take longer than what it does."""
    return njit(**_OPTIONS, forceinline=True)(function)  # type: ignore[no-any-return]


def forget_stale(folder: Path) -> None:
    """Remove what was compiled before any source in ``folder`` changed: numba looks only at a function's own file."""
    newest = max(file.stat().st_mtime for file in folder.glob("*.py"))
    with suppress(OSError):
        for index in (folder / "__pycache__").glob("*.nbi"):
            if index.stat().st_mtime < newest:
                index.unlink()


forget_stale(Path(__file__).parent)
