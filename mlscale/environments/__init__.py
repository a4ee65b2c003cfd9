"""Environments by name. A new one is a module, a notebook and one entry point in the group ``mlscale.environments``."""

from __future__ import annotations

from importlib.metadata import entry_points

from mlscale.environments.base import App, Component, Deployed, Environment, ObservationLost, Problem, Scaling
from mlscale.runs import MlscaleError

__all__ = ["App", "Component", "Deployed", "Environment", "ObservationLost", "Problem", "Scaling", "get", "names"]

_GROUP = "mlscale.environments"


def names() -> list[str]:
    """The names of all installed environments, in order of the alphabet."""
    return sorted(entry_points(group=_GROUP).names)


def get(name: str) -> Environment:
    """The environment called ``name``.

    Raises:
        MlscaleError: there is none of that name.
    """
    found = list(entry_points(group=_GROUP, name=name))
    if not found:
        raise MlscaleError(f"unknown environment {name!r}", "environment", f"choose one of: {', '.join(names())}")
    environment: Environment = found[0].load()()
    return environment
