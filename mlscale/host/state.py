"""Where mlscale keeps what outlives a command: state that can't be made again, and a cache that can."""

from __future__ import annotations

import os
from pathlib import Path


def state_home() -> Path:
    """``${XDG_STATE_HOME:-~/.local/state}/mlscale``."""
    return _home("XDG_STATE_HOME", ".local/state")


def cache_home() -> Path:
    """``${XDG_CACHE_HOME:-~/.cache}/mlscale``."""
    return _home("XDG_CACHE_HOME", ".cache")


def own_cluster() -> Path:
    """The folder of the cluster that ``make cluster`` makes: one, however its path is spelt."""
    return (state_home() / "cluster" / "default").resolve()


def own_kubeconfig() -> Path:
    """Where ``make cluster`` writes its kubeconfig."""
    return own_cluster() / "kubeconfig"


def _home(variable: str, otherwise: str) -> Path:
    named = os.environ.get(variable, "")
    return (Path(named) if named.startswith("/") else Path.home() / otherwise) / "mlscale"
