"""The one error type that a user meets."""

from __future__ import annotations


class MlscaleError(Exception):
    """Something a user can mend: printed as one line, exit code 2.

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
