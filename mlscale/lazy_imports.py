"""Names that a package offers and imports on first use.

As lazy_loader.attach does it, without a dependency: a sandbox's first process imports mlscale without site-packages.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def attach(
    package: str, names: Mapping[str, str], modules: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """``__getattr__``, ``__dir__`` and ``__all__`` of ``package``.

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
