"""Machines that Ray's own autoscaler adds in a rehearsal, as events. Pure: does not import Ray."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from mlscale.environments.emit import Emitter

HEAD: Final = "head"
HEAD_TYPE: Final = "ray.head.default"  # as Ray's provider of nodes on one host calls it
# What machines and replicas are counted in: Ray wants whole numbers of a machine's resources.
MILLICORES: Final = "millicores"


def millicores(cores: float) -> int:
    return round(cores * 1000)


class MachineWatch:
    """Turns the provider's reports and Ray's list of nodes into events of machines."""

    def __init__(self, component: str, emitter: Emitter) -> None:
        self._component, self._emitter = component, emitter
        self._joining: set[str] = set()
        self._names: dict[str, str] = {}

    @property
    def awaited(self) -> bool:
        """Whether Ray's list of nodes may have news: a machine was requested that has not joined, or it was not read
        yet."""
        return bool(self._joining) or not self._names

    def name(self, node_id: str | None) -> str | None:
        """The machine that is Ray's node ``node_id``; None if it has not been listed."""
        return self._names.get(node_id) if node_id else None

    def reported(self, message: Mapping[str, Any]) -> None:
        """Process a report of the provider (node_provider.py)."""
        kind, name = message["kind"], message["subject"]
        if kind == "machine_requested":
            self._joining.add(name)
        elif kind != "machine_booted":
            self._joining.discard(name)
        self._emitter.event(self._component, kind, name, t=message["t"], detail=message["detail"])

    def listed(self, nodes: Iterable[Mapping[str, Any]], t: float, since: float) -> None:
        """Process Ray's list of nodes, read at ``t``; the one before was read at ``since`` (time.monotonic()). A
        machine on it takes replicas: Ray knows no step between joining and being ready."""
        alive = {str(node["NodeID"]): str(node["NodeName"]) for node in nodes if node["Alive"]}
        self._names |= alive
        for name in sorted(self._joining & set(alive.values())):
            self._joining.remove(name)
            for kind in ("machine_registered", "machine_ready"):
                self._emitter.event(self._component, kind, name, t=t, known_within_s=t - since)
