"""The error type that users see. Imports nothing, so that importing it costs a replica nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


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


def as_user_error(error: BaseException) -> MlscaleError | None:
    """``error`` as an MlscaleError if it is one, or has the same what, where and remedy (codereader doesn't import
    mlscale); None otherwise."""
    if isinstance(error, MlscaleError):
        return error
    try:
        return MlscaleError(error.what, error.where, error.remedy)  # type: ignore[attr-defined]
    except AttributeError:
        return None


def first_invalid(error: ValidationError, root: str = "the file") -> str:
    """The first of pydantic's errors as "field: what is wrong"; ``root`` names the whole value."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or root
    return f"{field}: {first['msg'].removeprefix('Value error, ')}"
