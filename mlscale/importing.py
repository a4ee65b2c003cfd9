"""Names imported on first use, entry points of installed packages, and a user's own modules.

Uses the standard library alone: the first process of a sandbox imports mlscale without site-packages.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


@cache
def offered(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of a group, read once: reading those of every package takes a tenth of a short simulation."""
    from importlib.metadata import entry_points

    return tuple(entry_points(group=group))


def load_offered(group: str, name: str) -> Any:
    """What the entry point ``name`` of a group names; None if no installed package has it."""
    return next((entry.load() for entry in offered(group) if entry.name == name), None)


def add_working_folder() -> None:
    """Make the working folder importable, as for ``python -m``: a command's own first entry is its program's folder."""
    folder = str(Path.cwd())
    if "" not in sys.path and folder not in sys.path:
        sys.path.append(folder)


def attach(
    package: str, names: Mapping[str, str], modules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of ``package``, as lazy_loader.attach makes them.

    Args:
        names: names by the module that defines them, separated by spaces; modules: modules by the name offered.
    """
    module_of = {name: module for module, offered in names.items() for name in offered.split()}
    modules = modules or {}
    everything = sorted([*module_of, *modules])

    def find(name: str) -> Any:
        if name in modules:
            return import_module(modules[name])
        if name in module_of:
            return getattr(import_module(module_of[name]), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return find, lambda: everything, everything
