"""The code reader's errors."""

from __future__ import annotations


class BadPhoto(ValueError):  # noqa: N818 (a name that servers and handlers rely on)
    """A body that is not a readable photo.

    Attributes:
        reason: what is wrong, in a few words, for the client.
        http_status: the 4xx that a server answers with.
    """

    def __init__(self, reason: str, http_status: int = 422) -> None:
        super().__init__(reason)
        self.reason = reason
        self.http_status = http_status


class ApplicationError(Exception):
    """An error that the user can fix.

    Args:
        what: what is wrong.
        where: the file or setting it was found in.
        remedy: what to do about it.
    """

    def __init__(self, what: str, where: str, remedy: str) -> None:
        super().__init__(what, where, remedy)
        self.what = what
        self.where = where
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.where}: {self.what} ({self.remedy})"


class BadWeights(ApplicationError):  # noqa: N818
    """A weights file that is missing, corrupt or of another architecture."""
