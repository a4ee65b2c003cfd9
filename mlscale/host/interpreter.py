"""Which folders of this host a container must see to run this Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Programs and shared libraries, how the loader finds them, and certificates.
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ssl", "/etc/ca-certificates")


def package_home() -> Path:
    """The folder that this package is imported from: the checkout, or site-packages."""
    return Path(__file__).resolve().parents[2]


def interpreter_mounts(paths: Iterable[Path] = ()) -> tuple[Path, ...]:
    """What a pod mounts, each at the same path and read-only, so that `sys.executable` runs in it as it does here.

    Args:
        paths: what it needs besides, such as the checkout (absolute).

    Returns:
        Folders and files that exist, none below another; a link's target beside the link's own folder.

    Raises:
        ValueError: a path that is not absolute.
    """
    own = [Path(sys.prefix), Path(sys.base_prefix), *_links(Path(sys.executable))]
    wanted = [*map(Path, _SYSTEM), *own, *paths]
    relative = next((path for path in wanted if not path.is_absolute()), None)
    if relative is not None:
        raise ValueError(f"{relative} is not absolute")
    found = dict.fromkeys(place for path in wanted if path.exists() for place in (path, path.resolve()))
    return tuple(path for path in found if not any(path != other and path.is_relative_to(other) for other in found))


def _links(file: Path) -> Iterable[Path]:
    """The folders that a chain of links passes on its way to the file."""
    while file.is_symlink():
        file = file.parent / file.readlink()
        yield Path(os.path.normpath(file.parent))
