"""Life cycles of pods as events and numbers of replicas. Pure.

A pod is created, perhaps unschedulable, scheduled, started (its container runs), ready, draining (being deleted),
removed; it has failed if its container ends unasked or can't be started. Each is reported once, or again after a
restart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlscale.environments.kubernetes.client import Json
from mlscale.environments.kubernetes.conditions import condition
from mlscale.environments.kubernetes.list_watch import Change, known_within
from mlscale.environments.kubernetes.names import COMPONENT
from mlscale.runs import Event, EventKind, ReplicaSample


@dataclass
class _Life:
    """Reported state of one pod."""

    component: str
    reported: set[EventKind] = field(default_factory=set)
    restarts: int = 0
    trouble: str = ""
    ready: bool = False
    ending: bool = False


class PodWatch:
    """Turns changes of pods into events on the run's clock.

    Args:
        origin_s: time.monotonic() of the run's zero.
    """

    def __init__(self, origin_s: float) -> None:
        self._origin_s = origin_s
        self._lives: dict[str, _Life] = {}

    def take(self, change: Change) -> list[Event]:
        """The events of a change, in the order of a pod's life cycle."""
        pod = change.thing
        name = str(pod["metadata"]["name"])
        component = str((pod["metadata"].get("labels") or {}).get(COMPONENT, ""))
        life = self._lives.setdefault(name, _Life(component))
        events = list(self._created(change, name, life))
        events += self._running(change, name, life)
        if pod["metadata"].get("deletionTimestamp"):
            life.ending = True
            events += self._once(change, name, life, "replica_draining", None)
        events += self._trouble(change, name, life)
        if change.kind == "DELETED":
            events += self._once(change, name, life, "replica_removed", None)
            del self._lives[name]
        return events

    def sample(self, t_s: float, desired: Mapping[str, int]) -> list[ReplicaSample]:
        """Numbers of replicas now; ``desired``: component -> replicas."""
        return [
            ReplicaSample(
                t_s,
                component,
                wanted,
                sum(not life.ready for life in self._alive(component)),
                sum(life.ready for life in self._alive(component)),
            )
            for component, wanted in desired.items()
        ]

    def component_of(self, pod: str) -> str:
        """The component of a pod; empty if the pod is gone."""
        life = self._lives.get(pod)
        return life.component if life else ""

    def _alive(self, component: str) -> list[_Life]:
        return [life for life in self._lives.values() if life.component == component and not life.ending]

    def _created(self, change: Change, name: str, life: _Life) -> list[Event]:
        pod = change.thing
        at = pod["metadata"].get("creationTimestamp")
        events = self._once(change, name, life, "replica_created", at, uid=str(pod["metadata"]["uid"]))
        scheduled = condition(pod, "PodScheduled")
        if scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable":
            why, since = str(scheduled.get("message", "")), scheduled.get("lastTransitionTime")
            events += self._once(change, name, life, "replica_unschedulable", since, reason=why)
        if scheduled.get("status") == "True":
            node = str((pod.get("spec") or {}).get("nodeName", ""))
            events += self._once(
                change, name, life, "replica_scheduled", scheduled.get("lastTransitionTime"), node=node
            )
        return events

    def _running(self, change: Change, name: str, life: _Life) -> list[Event]:
        pod = change.thing
        container = container_status(pod)
        restarts = int(container.get("restartCount", 0))
        events: list[Event] = []
        if restarts > life.restarts:
            life.restarts = restarts
            life.reported -= {"replica_started", "replica_ready"}
            events += self._failed(change, name, life, termination(container.get("lastState") or {}))
        running = (container.get("state") or {}).get("running")
        if running is not None:
            detail = {"container": str(container.get("containerID", ""))}
            events += self._once(change, name, life, "replica_started", running.get("startedAt"), **detail)
        ready = condition(pod, "Ready")
        life.ready = ready.get("status") == "True" and change.kind != "DELETED"
        if life.ready:
            events += self._once(change, name, life, "replica_ready", ready.get("lastTransitionTime"))
        return events

    def _trouble(self, change: Change, name: str, life: _Life) -> list[Event]:
        state = container_status(change.thing).get("state") or {}
        trouble = str((state.get("waiting") or {}).get("reason", ""))
        if life.ending:  # being deleted
            return []
        if "terminated" in state and (state["terminated"] or {}).get("exitCode") != 0:
            trouble = termination(state)
        if trouble in ("", "ContainerCreating", "PodInitializing", "CrashLoopBackOff", life.trouble):
            return []
        life.trouble = trouble
        return self._failed(change, name, life, trouble)

    def _failed(self, change: Change, name: str, life: _Life, reason: str) -> list[Event]:
        life.ready = False
        return [self._event(change, name, life, "replica_failed", None, reason=reason)]

    def _once(
        self, change: Change, name: str, life: _Life, kind: EventKind, at: str | None, **detail: Any
    ) -> list[Event]:
        if kind in life.reported:
            return []
        life.reported.add(kind)
        return [self._event(change, name, life, kind, at, **detail)]

    def _event(self, change: Change, name: str, life: _Life, kind: EventKind, at: str | None, **detail: Any) -> Event:
        return Event(
            change.t - self._origin_s,
            life.component,
            kind,
            name,
            source_time=at,
            known_within_s=known_within(change, at) if at else change.gap_s,
            detail=detail,
        )


def container_status(pod: Json) -> Json:
    """The status of the pod's only container; empty until it has one."""
    statuses: Sequence[Json] = (pod.get("status") or {}).get("containerStatuses") or ({},)
    return statuses[0]


def termination(state: Json) -> str:
    """How a container ended: "Error, exit code 2", "OOMKilled, exit code 137"."""
    terminated = state.get("terminated") or {}
    return f"{terminated.get('reason') or 'ended'}, exit code {terminated.get('exitCode', 'unknown')}"
