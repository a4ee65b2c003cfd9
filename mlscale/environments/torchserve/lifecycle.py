"""Each worker's events, from the process table and TorchServe's list, read at the same moment. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlscale.environments.torchserve.api import Worker


@dataclass(frozen=True, slots=True)
class Change:
    """An event of one replica: it happened in [t_s - known_within_s, t_s]."""

    t_s: float
    kind: str
    subject: str
    known_within_s: float = 0.0
    detail: Mapping[str, Any] = field(default_factory=dict)


@dataclass
class _Replica:
    pid: int
    ready: bool = False
    draining: bool = False

    @property
    def subject(self) -> str:
        return f"replica-{self.pid}"


class Lifecycle:
    """Follows the workers' processes. A replica is one process: a worker that TorchServe restarts is a new one."""

    def __init__(self) -> None:
        self._replicas: dict[int, _Replica] = {}
        self._scaled_up_s: float | None = None
        self._known: set[int] = set()
        self._last_s: float | None = None

    def scaled_up(self, t_s: float) -> None:
        """More workers were requested at ``t_s``, which is when those that appear from now on were created."""
        self._scaled_up_s = t_s

    def draining(self, worker: int, t_s: float) -> list[Change]:
        """The worker takes no more client requests and will be removed; may be called repeatedly."""
        replica = self._replicas.get(worker)
        if replica is None or replica.draining:
            return []
        replica.draining = True
        return [Change(t_s, "replica_draining", replica.subject, 0.0, {"worker": worker})]

    def drain_cancelled(self, worker: int) -> None:
        """The worker stays."""
        if worker in self._replicas:
            self._replicas[worker].draining = False

    def update(self, t_s: float, processes: Mapping[int, int], workers: Sequence[Worker]) -> list[Change]:
        """Changes since the last update.

        Args:
            t_s: now; the changes happened since the previous update.
            processes: worker id -> pid, seen before ``workers`` was read.
            workers: TorchServe's list.
        """
        within = 0.0 if self._last_s is None else t_s - self._last_s
        self._last_s = t_s
        changes: list[Change] = []
        for worker, replica in list(self._replicas.items()):
            if processes.get(worker) != replica.pid:
                changes.append(self._disappeared(t_s, within, worker, replica))
        for worker, pid in sorted(processes.items()):
            if worker not in self._replicas:
                changes += self._appeared(t_s, within, worker, pid)
        for row in workers:
            listed = self._replicas.get(row.id)
            if listed is not None and row.ready and row.pid == listed.pid and not listed.ready:
                listed.ready = True
                changes.append(Change(t_s, "replica_ready", listed.subject, within, {"worker": row.id}))
        return changes

    def _appeared(self, t_s: float, within: float, worker: int, pid: int) -> list[Change]:
        replica = self._replicas[worker] = _Replica(pid)
        detail: dict[str, Any] = {"worker": worker}
        if worker in self._known:
            created = Change(
                t_s, "replica_created", replica.subject, within, {**detail, "reason": "restarted by TorchServe"}
            )
        elif self._scaled_up_s is not None:
            created = Change(self._scaled_up_s, "replica_created", replica.subject, 0.0, detail)
        else:
            created = Change(t_s, "replica_created", replica.subject, within, detail)
        self._known.add(worker)
        return [created, Change(t_s, "replica_started", replica.subject, within, detail)]

    def _disappeared(self, t_s: float, within: float, worker: int, replica: _Replica) -> Change:
        del self._replicas[worker]
        if replica.draining:
            return Change(t_s, "replica_removed", replica.subject, within, {"worker": worker, "drained": True})
        stage = "serving" if replica.ready else "starting"
        reason = f"its process ended while it was {stage}"
        detail = {"worker": worker, "stage": stage, "reason": reason}
        return Change(t_s, "replica_failed", replica.subject, within, detail)
