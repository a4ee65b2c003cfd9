"""Environments by name. A new one is a module, a notebook and one entry point in the group ``mlscale.environments``.

The contract's names are imported on first use: replicas and agents import single modules of this package, and must not
spend CPU of their quota on the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlscale.importing import attach, load_offered, offered

if TYPE_CHECKING:
    from mlscale.environments.base import App, Component, Deployed, Environment, ObservationLost, Problem, Scaling
    from mlscale.host.ledger import LedgerEntry

_GROUP = "mlscale.environments"
REAPER_GROUP = "mlscale.reapers"
_CONTRACT = "App Component Deployed Environment ObservationLost Problem Scaling"
__getattr__ = attach(__name__, {"mlscale.environments.base": _CONTRACT})[0]


def names() -> list[str]:
    """The names of all installed environments, sorted."""
    return sorted(entry.name for entry in offered(_GROUP))


def reapers() -> dict[str, Callable[[LedgerEntry], None]]:
    """Kind of ledger entry -> the function that removes it, for `mlscale.host.reap.cleanup`. The kinds are the
    ``ledger_kinds`` of all installed environments that can be loaded, and those that packages register for what they
    keep beyond a run (entry points of the group ``mlscale.reapers``, named after the kind)."""
    functions: dict[str, Callable[[LedgerEntry], None]] = {}
    for name in names():
        try:
            environment = get(name)
        except ImportError:
            continue
        functions |= dict.fromkeys(getattr(environment, "ledger_kinds", ()), environment.reap)
    return functions | {entry.name: entry.load() for entry in offered(REAPER_GROUP)}


def get(name: str) -> Environment:
    """The environment called ``name``.

    Raises:
        MlscaleError: there is no such environment.
    """
    from mlscale.runs import MlscaleError

    environment = load_offered(_GROUP, name)
    if environment is None:
        raise MlscaleError(f"unknown environment {name!r}", "environment", f"choose one of: {', '.join(names())}")
    made: Environment = environment()
    return made
