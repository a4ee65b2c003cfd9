"""Replicas of one component: requested, started step by step, ready, drained, gone; and the events recorded of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal, Protocol

import numpy as np

from mlscale.runs import Event, EventKind, ReplicaSample
from mlscale_twin.durations import Duration
from mlscale_twin.profile import StartStep
from mlscale_twin.timeline import Timeline

State = Literal["waiting", "starting", "ready", "draining", "gone"]
_ACTIVE: tuple[State, ...] = ("waiting", "starting", "ready")


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """How replicas of a platform start and end.

    ``steps``: from requested to loaded. ``probe_period_s``: a loaded replica becomes ready at its next probe; 0: at
    once. ``shared_variance``: share of the variance of start times that is common to replicas requested together.
    ``crowding``: relative slow-down of a step per other replica that is starting when it begins. ``routing_delay``:
    from ready until the first request can arrive. ``max_starting``: most replicas in limited steps at a time, the
    others wait; without limited steps, the whole start is limited. ``removal_delay``: from the decision to remove a
    replica until it gets no more requests. ``sequential_removal``: a replica is removed only when the one before is
    gone.
    """

    steps: Sequence[StartStep]
    routing_delay: Duration
    removal_delay: Duration
    probe_period_s: float = 0.0
    max_starting: int = 1_000_000
    sequential_removal: bool = False
    shared_variance: float = 0.0
    crowding: float = 0.0


@dataclass(slots=True)
class Replica:
    name: str
    requested_s: float
    shared_deviate: float
    state: State = "waiting"
    limited: bool = False
    slot: int = -1
    ready_s: float = float("nan")
    started_s: float = float("nan")


@dataclass(slots=True)
class Log:
    """Receives what is recorded, in the terms of a live run. ``names``: of replicas, by their number in the engine."""

    events: list[Event] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def record(self, t_s: float, component: str, kind: EventKind, subject: str = "", **detail: Any) -> None:
        self.events.append(Event(t_s, component, kind, subject, detail=detail))


class Placer(Protocol):
    """Machines, as replicas see them."""

    def place(self, replica: Replica, owner: Replicas, on_placed: Callable[[], None]) -> None:
        """Calls back when a machine has room for the replica."""

    def release(self, replica: Replica) -> None:
        """The replica is gone, or no longer waits."""


class Replicas:
    """``placer``: finds a machine for a replica; None: there is always room. ``index``: of the component in the
    engine. ``on_change``: called when the desired number or a replica's state changes."""

    def __init__(
        self,
        name: str,
        index: int,
        lifecycle: Lifecycle,
        timeline: Timeline,
        log: Log,
        rng: np.random.Generator,
        placer: Placer | None = None,
    ) -> None:
        self.name, self._index, self._lifecycle = name, index, lifecycle
        self._timeline, self._log, self._rng, self._placer = timeline, log, rng, placer
        self.all: list[Replica] = []
        self.desired = 0
        self.scheduled_min = 0
        self.on_change: Callable[[], None] = lambda: None
        self._removing = False
        self._shared_deviate = 0.0
        self._created = 0

    def in_state(self, *states: State) -> list[Replica]:
        return [replica for replica in self.all if replica.state in states]

    def start_initial(self, number: int) -> None:
        """State at the start of the run: this many replicas are ready."""
        self.desired = number
        for _ in range(number):
            replica = self._new()
            replica.state = "starting"
            replica.requested_s = replica.started_s = self._timeline.now_s - float(self._rng.uniform(60, 120))
            if self._placer is not None:
                self._placer.place(replica, self, lambda: None)
            self._start_serving(replica)

    def scale(self, number: int, detail: Mapping[str, Any]) -> None:
        """Sets the desired number of replicas; ``detail``: of the decision."""
        self._log.record(
            self._timeline.now_s, self.name, "scale_decision", **{"from": self.desired, "to": number, **detail}
        )
        self.desired = number
        self.on_change()
        self._shared_deviate = float(self._rng.standard_normal())
        self.reconcile()

    def schedule_min(self, replicas: int) -> None:
        """From now on, at least this many, whatever the control loop decides."""
        self.scheduled_min = replicas
        if self.desired < replicas:
            self.scale(replicas, {"rule": "scheduled", "reason": f"scheduled minimum {replicas}"})

    def reconcile(self) -> None:
        """Requests missing replicas and removes surplus ones, newest first."""
        active = self.in_state(*_ACTIVE)
        for _ in range(self.desired - len(active)):
            replica = self._new()
            self._record("replica_created", replica)
            if self._placer is None:
                self._on_placed(replica)
            else:
                self._place(self._placer, replica)
        for replica in reversed(active[self.desired :]):
            if replica.state == "ready":
                if self._lifecycle.sequential_removal and self._removing:
                    return
                self._start_draining(replica)
            else:
                self._remove(replica, "replica_removed")
        self._start_waiting()

    def sample(self) -> ReplicaSample:
        states = [replica.state for replica in self.all]
        starting = states.count("waiting") + states.count("starting")
        return ReplicaSample(self._timeline.now_s, self.name, self.desired, starting, states.count("ready"))

    def fail(self, replica: Replica) -> None:
        """Ends a replica without warning; it is replaced."""
        if replica.slot >= 0 and replica.state in ("ready", "draining"):
            self._timeline.engine.kill_replica(replica.slot)
        self._remove(replica, "replica_failed")
        self.reconcile()

    def evict(self, replica: Replica) -> None:
        """Drains a replica that has to leave its machine, and requests another."""
        if replica.state == "ready":
            self._start_draining(replica)
        elif replica.state in ("waiting", "starting"):
            self._remove(replica, "replica_removed")
        self.reconcile()

    def _new(self) -> Replica:
        self._created += 1
        replica = Replica(f"{self.name}-{self._created}", self._timeline.now_s, self._shared_deviate)
        self.all.append(replica)
        return replica

    def _place(self, placer: Placer, replica: Replica) -> None:
        def on_placed() -> None:
            self._record("replica_scheduled", replica)
            self._on_placed(replica)

        placer.place(replica, self, on_placed)

    def _on_placed(self, replica: Replica) -> None:
        replica.started_s = float("inf")  # placed, not started yet
        self._start_waiting()

    def _start_waiting(self) -> None:
        free = self._lifecycle.max_starting - sum(replica.limited for replica in self.in_state("starting"))
        for replica in self.in_state("waiting"):
            if free > 0 and replica.started_s == float("inf"):
                free -= 1
                replica.state, replica.limited = "starting", True
                replica.started_s = self._timeline.now_s
                self._run_step(replica, 0)

    def _run_step(self, replica: Replica, number: int) -> None:
        if replica.state == "gone":
            return
        if number == len(self._lifecycle.steps):
            self._timeline.after(self._probe_delay_s(replica), lambda: self._ready(replica))
            return
        step = self._lifecycle.steps[number]
        if replica.limited and not step.limited and any(step.limited for step in self._lifecycle.steps):
            replica.limited = False
            self._start_waiting()
        if step.begins_with is not None:
            self._record(step.begins_with, replica)

        def end_step() -> None:
            if step.ends_with is not None and replica.state != "gone":
                self._record(step.ends_with, replica)
            self._run_step(replica, number + 1)

        others = len(self.in_state("starting")) - 1
        takes_s = step.takes.quantile(self._quantile(replica)) * (1 + self._lifecycle.crowding * others)
        self._timeline.after(takes_s, end_step)

    def _quantile(self, replica: Replica) -> float:
        """The replica's quantile in a step's distribution: near those of the replicas requested with it."""
        shared_variance = self._lifecycle.shared_variance
        own = float(self._rng.standard_normal())
        return NormalDist().cdf(
            math.sqrt(shared_variance) * replica.shared_deviate + math.sqrt(1 - shared_variance) * own
        )

    def _probe_delay_s(self, replica: Replica) -> float:
        """Time until the next probe; each replica's probes have their own phase."""
        period_s = self._lifecycle.probe_period_s
        return float(self._rng.uniform(0, period_s)) if period_s else 0.0

    def _ready(self, replica: Replica) -> None:
        if replica.state == "gone":
            return
        self._record("replica_ready", replica)
        self._timeline.after(self._lifecycle.routing_delay.draw(self._rng), lambda: self._start_serving(replica))
        replica.state = "ready"
        replica.ready_s = self._timeline.now_s
        self._start_waiting()

    def _start_serving(self, replica: Replica) -> None:
        if replica.state in ("draining", "gone"):
            return
        replica.slot = self._timeline.engine.add_replica(self._index)
        self._log.names[self._timeline.engine.serial(replica.slot)] = replica.name
        if replica.state != "ready":
            replica.state, replica.ready_s = "ready", self._timeline.now_s

    def _start_draining(self, replica: Replica) -> None:
        self._removing = True
        replica.state = "draining"
        self._record("replica_draining", replica)
        self._timeline.after(self._lifecycle.removal_delay.draw(self._rng), lambda: self._stop_routing(replica))

    def _stop_routing(self, replica: Replica) -> None:
        if replica.state == "gone":
            return
        if replica.slot >= 0:
            self._timeline.engine.drain_replica(replica.slot)
        self._remove_when_idle(replica)

    def _remove_when_idle(self, replica: Replica) -> None:
        if replica.state == "gone":
            return
        if replica.slot >= 0 and self._timeline.engine.is_present(replica.slot):
            self._timeline.after(_DRAIN_CHECK_S, lambda: self._remove_when_idle(replica))
            return
        self._removing = False
        self._remove(replica, "replica_removed")
        self.reconcile()

    def _remove(self, replica: Replica, kind: EventKind) -> None:
        replica.state = "gone"
        self.all.remove(replica)
        if self._placer is not None:
            self._placer.release(replica)
        self._record(kind, replica)

    def _record(self, kind: EventKind, replica: Replica) -> None:
        self._log.record(self._timeline.now_s, self.name, kind, replica.name)
        self.on_change()


# Period at which a draining replica is checked.
_DRAIN_CHECK_S = 0.25
