"""Where mlscale keeps data between commands: state, which can't be recreated, and a cache, which can."""

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
    """The folder of the cluster that ``make cluster`` creates, with symbolic links resolved."""
    return (state_home() / "cluster" / "default").resolve()


def own_kubeconfig() -> Path:
    """Where ``make cluster`` writes its kubeconfig."""
    return own_cluster() / "kubeconfig"


def _home(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    return (Path(value) if value.startswith("/") else Path.home() / default) / "mlscale"
