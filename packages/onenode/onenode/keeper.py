"""Our own cluster during an experiment: up for runs on it, stopped (with its state kept) for others (METHOD §6)."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Protocol, Self, runtime_checkable

from mlscale import environments
from onenode.settings import DEFAULT_CFS_PERIOD_S, DEFAULT_HPA_SYNC_S


@runtime_checkable
class OnCluster(Protocol):
    """An environment that may run on our own cluster."""

    def on_own_cluster(self) -> bool: ...


class ClusterKeeper:
    """``with ClusterKeeper() as keeper:`` then ``keeper.prepare(...)`` before each run.

    On leaving, the cluster is up or stopped as before. Without a cluster, nothing is done.
    """

    def __init__(self) -> None:
        self._was_up = False

    def __enter__(self) -> Self:
        self._was_up = _up()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._was_up and not _up():
            _start({})
        elif not self._was_up and _up():
            _stop()

    def prepare(self, environment: str, scaling: Mapping[str, Any]) -> None:
        """Start the cluster for a run on it, with the run's CFS period and HPA sync period or the defaults; stop it
        for any other run.

        Raises:
            MlscaleError: it does not start, or does not stop.
        """
        if _absent():
            return
        target = environments.get(environment)
        if isinstance(target, OnCluster) and target.on_own_cluster():
            _start(scaling)
        elif _up():
            _stop()


def _absent() -> bool:
    from onenode.layout import default_layout

    return not default_layout().settings.exists()


def _up() -> bool:
    """Whether its node runs."""
    from onenode.layout import default_layout
    from onenode.node import Node

    return not _absent() and Node(default_layout()).init is not None


def _start(scaling: Mapping[str, Any]) -> None:
    from onenode.commands import up_command

    period_s = float(scaling.get("cpu_period_s") or DEFAULT_CFS_PERIOD_S)
    sync_s = float(scaling.get("sync_period_s") or DEFAULT_HPA_SYNC_S)
    up_command(f"{1000 * period_s:g}ms", f"{sync_s:g}s")


def _stop() -> None:
    from onenode.commands import stop_command

    stop_command()
