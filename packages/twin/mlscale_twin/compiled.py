"""Functions compiled by numba, cached beside their source so that they are compiled only once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., object])


# Cached between processes. Without reference counting: nothing is allocated here, and counting took 5/6 of the time
# (numba's own sort disables it the same way, misc/mergesort.py).
_OPTIONS: Final[dict[str, Any]] = {"cache": True, "_nrt": False, "error_model": "numpy"}


def compiled(function: Function) -> Function:
    """Compiled at the first call; for functions that Python calls."""
    return njit(**_OPTIONS)(function)  # type: ignore[no-any-return]


def inlined(function: Function) -> Function:
    """Compiled into its callers: passing a whole `Memory` would take longer than the function itself.

    Only compiled functions can call it; a call from Python crashes. Wrappers for Python, which take a whole `Memory`
    apart, would nearly double the time to compile.
    """
    options = {**_OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return njit(**options, forceinline=True)(function)  # type: ignore[no-any-return]


def is_compiled() -> bool:
    """Whether the kernel is in numba's cache; else the first simulation compiles it (about half a minute)."""
    return any((Path(__file__).parent / "__pycache__").glob("kernel.advance-*.nbi"))


def remove_stale_cache(folder: Path) -> None:
    """Removes cached code older than any source in ``folder``: numba checks only a function's own file."""
    newest = max(file.stat().st_mtime for file in folder.glob("*.py"))
    with suppress(OSError):
        for index in (folder / "__pycache__").glob("*.nbi"):
            if index.stat().st_mtime < newest:
                index.unlink()


remove_stale_cache(Path(__file__).parent)
