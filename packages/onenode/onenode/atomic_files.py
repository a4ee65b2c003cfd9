"""Files that are whole or not there, also when the writer is killed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def write_whole(path: Path, content: str | bytes, mode: int = 0o600) -> bool:
    """Make ``path`` hold ``content``; False where it did already. Its folder is made where it is missing."""
    data = content.encode() if isinstance(content, str) else content
    try:
        if path.read_bytes() == data:
            return False
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        beside.rename(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return True
