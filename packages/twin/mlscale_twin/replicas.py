"""Replicas of one component: requested, started step by step, ready, drained, gone; and the events recorded of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any, Literal, Protocol

import numpy as np

from mlscale.runs import Event, EventKind, ReplicaSample
from mlscale_twin.durations import Spread
from mlscale_twin.engine import Engine
from mlscale_twin.timeline import Timeline

State = Literal["waiting", "starting", "ready", "draining", "gone"]
_LIVING: tuple[State, ...] = ("waiting", "starting", "ready")


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a start, and the events at its beginning and end. ``limited``: counts against `Life.at_once`."""

    takes: Spread
    ends_with: EventKind | None = None
    begins_with: EventKind | None = None
    limited: bool = False


@dataclass(frozen=True, slots=True)
class Life:
    """How replicas of a platform start and end.

    ``steps``: from requested to loaded. ``probe_period_s``: a loaded replica becomes ready at its next probe; 0: at
    once. ``alike``: share of the variation of start times that is common to replicas requested together. ``crowding``:
    relative slow-down of a step per other replica that is starting when it begins. ``noticed``: from ready until the
    first request can arrive. ``at_once``: most replicas in limited steps at a time, the others wait; without limited
    steps, the whole start is limited. ``leaves``: from the decision to remove a replica until it gets no more requests.
    ``one_by_one``: a replica is removed only when the one before is gone.
    """

    steps: Sequence[Step]
    noticed: Spread
    leaves: Spread
    probe_period_s: float = 0.0
    at_once: int = 1_000_000
    one_by_one: bool = False
    alike: float = 0.0
    crowding: float = 0.0


@dataclass(slots=True)
class Replica:
    name: str
    asked_s: float
    common: float
    state: State = "waiting"
    limited: bool = False
    place: int = -1
    ready_s: float = float("nan")
    started_s: float = float("nan")


@dataclass(slots=True)
class Log:
    """Receives what is recorded, in the terms of a live run. ``names``: of replicas, by their number in the engine."""

    events: list[Event] = field(default_factory=list)
    names: dict[int, str] = field(default_factory=dict)

    def tell(self, t_s: float, component: str, kind: EventKind, subject: str = "", **detail: Any) -> None:
        self.events.append(Event(t_s, component, kind, subject, detail=detail))


class Room(Protocol):
    """Machines, as replicas see them."""

    def place(self, replica: Replica, owner: Replicas, placed: Callable[[], None]) -> None:
        """Calls back when a machine has room for the replica."""

    def free(self, replica: Replica) -> None:
        """The replica is gone, or no longer waits."""


class Replicas:
    """``room``: finds a machine for a replica; None: there is always room. ``index``: of the component in the
    engine."""

    def __init__(
        self,
        name: str,
        index: int,
        life: Life,
        engine: Engine,
        timeline: Timeline,
        log: Log,
        rng: np.random.Generator,
        room: Room | None = None,
    ) -> None:
        self.name, self._index, self._life = name, index, life
        self._engine, self._timeline, self._log, self._rng, self._room = engine, timeline, log, rng, room
        self.all: list[Replica] = []
        self.desired = 0
        self._removing = False
        self._common = 0.0
        self._made = 0

    def there(self, *states: State) -> list[Replica]:
        return [each for each in self.all if each.state in states]

    def begin(self, number: int) -> None:
        """State at the start of the run: this many replicas are ready."""
        self.desired = number
        for _ in range(number):
            replica = self._new()
            replica.state = "starting"
            replica.asked_s = replica.started_s = self._timeline.now_s - float(self._rng.uniform(60, 120))
            if self._room is not None:
                self._room.place(replica, self, lambda: None)
            self._serve(replica)

    def scale(self, number: int, detail: Mapping[str, Any]) -> None:
        """Sets the desired number of replicas; ``detail``: of the decision."""
        self._log.tell(
            self._timeline.now_s, self.name, "scale_decision", **{"from": self.desired, "to": number, **detail}
        )
        self.desired = number
        self._common = float(self._rng.standard_normal())
        self.follow()

    def follow(self) -> None:
        """Requests missing replicas and removes surplus ones, newest first."""
        living = self.there(*_LIVING)
        for _ in range(self.desired - len(living)):
            replica = self._new()
            self._tell("replica_created", replica)
            if self._room is None:
                self._placed(replica)
            else:
                self._place(self._room, replica)
        for replica in reversed(living[self.desired :]):
            if replica.state == "ready":
                if self._life.one_by_one and self._removing:
                    return
                self._begin_to_drain(replica)
            else:
                self._gone(replica, "replica_removed")
        self._start_more()

    def sample(self) -> ReplicaSample:
        ready = len(self.there("ready"))
        starting = len(self.there("waiting", "starting"))
        return ReplicaSample(self._timeline.now_s, self.name, self.desired, starting, ready)

    def die(self, replica: Replica) -> None:
        """Ends a replica without warning; it is replaced."""
        if replica.place >= 0 and replica.state in ("ready", "draining"):
            self._engine.die(replica.place)
        self._gone(replica, "replica_failed")
        self.follow()

    def evict(self, replica: Replica) -> None:
        """Drains a replica that has to leave its machine, and requests another."""
        if replica.state == "ready":
            self._begin_to_drain(replica)
        elif replica.state in ("waiting", "starting"):
            self._gone(replica, "replica_removed")
        self.follow()

    def _new(self) -> Replica:
        self._made += 1
        replica = Replica(f"{self.name}-{self._made}", self._timeline.now_s, self._common)
        self.all.append(replica)
        return replica

    def _place(self, room: Room, replica: Replica) -> None:
        def placed() -> None:
            self._tell("replica_scheduled", replica)
            self._placed(replica)

        room.place(replica, self, placed)

    def _placed(self, replica: Replica) -> None:
        replica.started_s = float("inf")  # may start
        self._start_more()

    def _start_more(self) -> None:
        free = self._life.at_once - sum(each.limited for each in self.there("starting"))
        for replica in self.there("waiting"):
            if free > 0 and replica.started_s == float("inf"):
                free -= 1
                replica.state, replica.limited = "starting", True
                replica.started_s = self._timeline.now_s
                self._step(replica, 0)

    def _step(self, replica: Replica, number: int) -> None:
        if replica.state == "gone":
            return
        if number == len(self._life.steps):
            self._timeline.after(self._until_ready_s(replica), lambda: self._ready(replica))
            return
        step = self._life.steps[number]
        if replica.limited and not step.limited and any(each.limited for each in self._life.steps):
            replica.limited = False
            self._start_more()
        if step.begins_with is not None:
            self._tell(step.begins_with, replica)

        def ended() -> None:
            if step.ends_with is not None and replica.state != "gone":
                self._tell(step.ends_with, replica)
            self._step(replica, number + 1)

        others = len(self.there("starting")) - 1
        takes_s = step.takes.quantile(self._share(replica)) * (1 + self._life.crowding * others)
        self._timeline.after(takes_s, ended)

    def _share(self, replica: Replica) -> float:
        """The replica's quantile in a step's distribution: near those of the replicas requested with it."""
        alike = self._life.alike
        own = float(self._rng.standard_normal())
        return NormalDist().cdf(math.sqrt(alike) * replica.common + math.sqrt(1 - alike) * own)

    def _until_ready_s(self, replica: Replica) -> float:
        """Time until the next probe; each replica's probes have their own phase."""
        period_s = self._life.probe_period_s
        return float(self._rng.uniform(0, period_s)) if period_s else 0.0

    def _ready(self, replica: Replica) -> None:
        if replica.state == "gone":
            return
        self._tell("replica_ready", replica)
        self._timeline.after(self._life.noticed.draw(self._rng), lambda: self._serve(replica))
        replica.state = "ready"
        replica.ready_s = self._timeline.now_s
        self._start_more()

    def _serve(self, replica: Replica) -> None:
        if replica.state in ("draining", "gone"):
            return
        replica.place = self._engine.come(self._index)
        self._log.names[self._engine.serial(replica.place)] = replica.name
        if replica.state != "ready":
            replica.state, replica.ready_s = "ready", self._timeline.now_s

    def _begin_to_drain(self, replica: Replica) -> None:
        self._removing = True
        replica.state = "draining"
        self._tell("replica_draining", replica)
        self._timeline.after(self._life.leaves.draw(self._rng), lambda: self._drain(replica))

    def _drain(self, replica: Replica) -> None:
        if replica.state == "gone":
            return
        if replica.place >= 0:
            self._engine.go(replica.place)
        self._leave(replica)

    def _leave(self, replica: Replica) -> None:
        if replica.state == "gone":
            return
        if replica.place >= 0 and self._engine.is_there(replica.place):
            self._timeline.after(_LOOK_S, lambda: self._leave(replica))
            return
        self._removing = False
        self._gone(replica, "replica_removed")
        self.follow()

    def _gone(self, replica: Replica, kind: EventKind) -> None:
        replica.state = "gone"
        self.all.remove(replica)
        if self._room is not None:
            self._room.free(replica)
        self._tell(kind, replica)

    def _tell(self, kind: EventKind, replica: Replica) -> None:
        self._log.tell(self._timeline.now_s, self.name, kind, replica.name)


# How often a replica that drains is looked at.
_LOOK_S = 0.25
