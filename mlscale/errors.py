"""The one error type that a user meets: nothing else is imported, so that a replica can afford it."""

from __future__ import annotations


class MlscaleError(Exception):
    """Something a user can fix: printed as one line, exit code 2.

    Args:
        what: what is wrong, in a few words.
        where: the file, setting, address or step it was found in.
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
    """The error as one that a user can fix: itself, or one of a package that knows nothing of mlscale and says what,
    where and remedy as well; None for any other."""
    if isinstance(error, MlscaleError):
        return error
    try:
        return MlscaleError(error.what, error.where, error.remedy)  # type: ignore[attr-defined]
    except AttributeError:
        return None
