"""Files that are replaced as a whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mlscale.errors import MlscaleError


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A path beside ``file`` to write to; it replaces ``file`` when the block ends without an error. Raises OSError."""
    partial = file.with_name(f"{file.name}.partial")
    yield partial
    sync(partial)
    partial.rename(file)
    sync(file.parent)


def write_text(file: Path, text: str) -> None:
    """`write_whole`, readable by everybody (as far as the umask allows)."""
    write_whole(file, text, 0o666)


def write_whole(file: Path, content: str | bytes, mode: int = 0o600) -> bool:
    """Replace the content of ``file``; missing parent folders are created.

    Args:
        mode: of the file, from its first byte on: it may hold a private key. By default a new folder is private, too.

    Returns:
        False if it already held ``content``.

    Raises:
        MlscaleError: it can't be written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        file.parent.mkdir(mode=0o777 if mode & 0o077 else 0o700, parents=True, exist_ok=True)
        if file.is_file() and file.read_bytes() == data:
            return False
        with replacing(file) as partial:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
            with os.fdopen(descriptor, "wb") as out:
                out.write(data)
    except OSError as error:
        raise MlscaleError(error.strerror or str(error), str(file), "make room there, or make it writable") from error
    return True


def sync(path: Path) -> None:
    """Flush a file or folder to the disk. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
