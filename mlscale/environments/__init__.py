"""Environments by name. A new one is a module, a notebook and one entry point in the group ``mlscale.environments``.

The contract's names are imported when they are first used: replicas and agents import single modules of this package,
and what they do not need must not cost them CPU inside their quota.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlscale.environments.base import App, Component, Deployed, Environment, ObservationLost, Problem, Scaling
    from mlscale.host.ledger import LedgerEntry

__all__ = [
    "App",
    "Component",
    "Deployed",
    "Environment",
    "ObservationLost",
    "Problem",
    "Scaling",
    "get",
    "names",
    "reapers",
]

_GROUP = "mlscale.environments"


def __getattr__(name: str) -> Any:
    if name in __all__:
        from mlscale.environments import base

        return getattr(base, name)
    raise AttributeError(f"module 'mlscale.environments' has no attribute {name!r}")


def names() -> list[str]:
    """The names of all installed environments, in order of the alphabet."""
    return sorted(entry_points(group=_GROUP).names)


def reapers() -> dict[str, Callable[[LedgerEntry], None]]:
    """Who removes which kind of ledger entry, for `mlscale.host.reap.cleanup`: of all installed environments, those
    with kinds of their own (``ledger_kinds``). One that can't be loaded removes nothing."""
    found: dict[str, Callable[[LedgerEntry], None]] = {}
    for name in names():
        try:
            environment = get(name)
        except ImportError:
            continue
        found |= dict.fromkeys(getattr(environment, "ledger_kinds", ()), environment.reap)
    return found


def get(name: str) -> Environment:
    """The environment called ``name``.

    Raises:
        MlscaleError: there is none of that name.
    """
    from mlscale.runs import MlscaleError

    found = list(entry_points(group=_GROUP, name=name))
    if not found:
        raise MlscaleError(f"unknown environment {name!r}", "environment", f"choose one of: {', '.join(names())}")
    environment: Environment = found[0].load()()
    return environment
