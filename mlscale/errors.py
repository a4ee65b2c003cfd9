"""The error type that users see. Imports nothing, so that importing it costs a replica nothing."""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError


class MlscaleError(Exception):
    """Something the user can fix: printed as one line, exit code 2.

    Args:
        what: what is wrong, in a few words.
        where: the file, setting, address or step concerned.
        remedy: what to do about it.
    """

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.remedy})"

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the line that the command prints."""
        return [f"mlscale: {self}"]


def as_user_error(error: BaseException) -> MlscaleError | None:
    """``error`` as an MlscaleError if it is one, has the same what, where and remedy (an application's, which
    doesn't import mlscale), or says that a disk is full or read-only; None otherwise."""
    if isinstance(error, MlscaleError):
        return error
    if isinstance(error, OSError) and error.errno in _DISK:
        where = str(error.filename or "the disk")
        return MlscaleError(error.strerror or str(error), where, "make room there; what was written is kept")
    try:
        return MlscaleError(error.what, error.where, error.remedy)  # type: ignore[attr-defined]
    except AttributeError:
        return None


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def first_invalid(error: ValidationError, root: str = "the file") -> str:
    """The first of pydantic's errors as "field: what is wrong"; ``root`` names the whole value."""
    field, message = _first_error(error)
    return f"{field or root}: {message}"


def invalid_value(error: ValidationError, kind: str, where: str, model: type[BaseModel]) -> MlscaleError:
    """The first of pydantic's errors as one line that names the ``kind`` ("setting") it is about."""
    first = error.errors()[0]
    name, message = _first_error(error)
    if first["type"] == "extra_forbidden" and len(first["loc"]) == 1:
        known = ", ".join(sorted(model.model_fields))
        return MlscaleError(f"unknown {kind} {name!r}", where, f"choose one of: {known}")
    if not name:
        return MlscaleError(message, where, f"change one {kind}")
    return MlscaleError(f"{kind} {name!r} is {first['input']!r}", where, message[0].lower() + message[1:])


def _first_error(error: ValidationError) -> tuple[str, str]:
    """The field (empty: the whole value) and what is wrong with it."""
    first = error.errors()[0]
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] in _BOUNDS and not _is_finite(first["input"]):
        message = "Input should be a finite number"  # not that NaN is below the bound
    return ".".join(map(str, first["loc"])), message


_BOUNDS = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "finite_number")


def _is_finite(value: object) -> bool:
    try:
        return math.isfinite(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return True  # another error
