"""Which folders of this host a container needs to run this Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Programs, shared libraries, the loader's cache, certificates.
_SYSTEM: Final = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ssl", "/etc/ca-certificates")


def package_home() -> Path:
    """The folder that this package is imported from: the checkout, or site-packages."""
    return Path(__file__).resolve().parents[2]


def interpreter_mounts(paths: Iterable[Path] = ()) -> tuple[Path, ...]:
    """What a pod has to mount read-only, each at the same path, so that `sys.executable` runs in it as it does here.

    Args:
        paths: absolute paths to add, such as the checkout.

    Returns:
        Existing folders and files, none inside another one; for a link, its folder and its target.

    Raises:
        ValueError: a path isn't absolute.
    """
    own = [Path(sys.prefix), Path(sys.base_prefix), *_links(Path(sys.executable))]
    candidates = [*map(Path, _SYSTEM), *own, *paths]
    relative = next((path for path in candidates if not path.is_absolute()), None)
    if relative is not None:
        raise ValueError(f"{relative} is not absolute")
    existing = dict.fromkeys(each for path in candidates if path.exists() for each in (path, path.resolve()))
    return tuple(
        path for path in existing if not any(path != other and path.is_relative_to(other) for other in existing)
    )


def _links(file: Path) -> Iterable[Path]:
    """The folders of the links between ``file`` and its target."""
    while file.is_symlink():
        file = file.parent / file.readlink()
        yield Path(os.path.normpath(file.parent))
