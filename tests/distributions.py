"""Which installed packages others need, by their metadata."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, packages_distributions, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed_by(*requirements: str) -> set[str]:
    """The distributions that installing ``requirements`` brings, such as "ray[serve]"."""
    found: set[tuple[str, str]] = set()
    left = [Requirement(text) for text in requirements]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for known, extra in found if known == name}:
            found.add((name, extra))
            try:
                needed = [Requirement(text) for text in requires(name) or ()]
            except PackageNotFoundError:  # another platform's
                continue
            left += [each for each in needed if each.marker is None or each.marker.evaluate({"extra": extra})]
    return {name for name, _ in found}


def distributions_of(modules: Iterable[str]) -> set[str]:
    """The distributions that modules are of; of the standard library and the checkout, none."""
    known = packages_distributions()
    return {canonicalize_name(name) for module in modules for name in known.get(module, ())}
