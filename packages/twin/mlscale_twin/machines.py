"""Machines in virtual time: they join, hold replicas, fail and leave; a pod without room waits for one."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mlscale_twin.durations import Spread
from mlscale_twin.policies.karpenter import InstanceType, Machine, PodRequest, Resources
from mlscale_twin.replicas import Log, Replica
from mlscale_twin.timeline import Timeline

# The component of what is told of machines: all share them.
POOL = ""


class Evicts(Protocol):
    """Owners of the replicas that must leave a machine."""

    def evict(self, replica: Replica) -> None: ...
    def die(self, replica: Replica) -> None: ...


@dataclass(slots=True)
class Pod:
    """A replica, or reserved room (``replica`` None), and its resource request."""

    name: str
    requests: Resources
    created_s: float
    replica: Replica | None = None
    owner: Evicts | None = None
    placed: Callable[[], None] | None = None

    @property
    def request(self) -> PodRequest:
        return PodRequest(self.name, self.requests, self.created_s)


@dataclass(slots=True)
class Host:
    """A machine, from its request until it is gone."""

    name: str
    type: InstanceType
    asked_s: float
    registered: bool = False
    ready: bool = False
    going: bool = False
    gone: bool = False
    quiet_since_s: float = 0.0
    pods: dict[str, Pod] = field(default_factory=dict)

    @property
    def room(self) -> Resources:
        return self.type.allocatable - sum((pod.requests for pod in self.pods.values()), Resources())

    @property
    def machine(self) -> Machine:
        """The machine as the policies see it."""
        pods = tuple(pod.request for pod in self.pods.values())
        return Machine(self.name, self.type, pods, self.ready, self.quiet_since_s)


@dataclass(frozen=True, slots=True)
class Arrival:
    """The successive parts of a machine's arrival. ``boot`` may have two: a nominal time, and an overhead. Machines
    finish booting at least ``apart_s`` apart."""

    boot: Sequence[Spread]
    registers: Spread
    turns_ready: Spread
    apart_s: float = 0.0


class Fleet:
    """Places pods on machines; pods without room wait in order of arrival."""

    def __init__(self, arrival: Arrival, timeline: Timeline, log: Log, rng: np.random.Generator) -> None:
        self._arrival, self._timeline, self._log, self._rng = arrival, timeline, log, rng
        self.hosts: list[Host] = []
        self.pending: dict[str, Pod] = {}
        self.desired = 0
        self._count = 0
        self._due: list[float] = []
        self._on_pending: Callable[[Pod], None] | None = None

    @property
    def now_s(self) -> float:
        return self._timeline.now_s

    @property
    def there(self) -> list[Host]:
        return [host for host in self.hosts if not host.gone]

    @property
    def staying(self) -> list[Host]:
        """Machines that are present or on their way, and not draining."""
        return [host for host in self.there if not host.going]

    def when_pending(self, action: Callable[[Pod], None]) -> None:
        """Registers a callback for each pod without room."""
        self._on_pending = action

    def begin(self, kind: InstanceType) -> Host:
        """Adds a machine that is present from the start."""
        host = self._new(kind)
        host.registered = host.ready = True
        self.desired = len(self.there)
        return host

    def place(self, pod: Pod) -> None:
        """Places a pod on a machine with room, displacing reserved room if necessary; otherwise it waits."""
        host = self._with_room(pod) or (self._made_room(pod) if pod.replica is not None else None)
        if host is not None:
            self._bind(pod, host)
            return
        self.pending[pod.name] = pod
        if self._on_pending is not None:
            self._on_pending(pod)

    def free(self, name: str) -> None:
        """A pod is gone."""
        self.pending.pop(name, None)
        for host in self.hosts:
            if host.pods.pop(name, None) is not None:
                host.quiet_since_s = self.now_s
                self._settle()

    def ask(self, kind: InstanceType) -> Host:
        """Requests a machine."""
        host = self._new(kind)
        self.desired = len(self.staying)
        self._tell("machine_requested", host)
        self._timeline.after(self._due_s() - self.now_s, lambda: self._booted(host))
        return host

    def _due_s(self) -> float:
        """Time at which the next machine has booted: the end of its parts, or later to keep the distance from all
        others."""
        apart_s = self._arrival.apart_s
        due_s = self.now_s + sum(part.draw(self._rng) for part in self._arrival.boot)
        for other_s in self._due:
            if abs(due_s - other_s) < apart_s:
                due_s = other_s + apart_s
        insort(self._due, due_s)
        return due_s

    def drain(self, host: Host) -> None:
        """Takes a machine away: it gets no new pods, its pods start elsewhere, then it is gone."""
        host.going = True
        self.desired = len(self.staying)
        for pod in list(host.pods.values()):
            if pod.replica is not None and pod.owner is not None:
                pod.owner.evict(pod.replica)
            else:
                self.free(pod.name)
                self._keep_free_elsewhere(pod)
        self._gone_when_empty(host)

    def fail(self, host: Host) -> None:
        """A machine fails without warning."""
        if host.gone:
            return
        host.gone = True
        self.desired = len(self.staying)
        self._tell("machine_failed", host)
        for pod in list(host.pods.values()):
            host.pods.pop(pod.name)
            if pod.replica is not None and pod.owner is not None:
                pod.owner.die(pod.replica)
            else:
                self._keep_free_elsewhere(pod)

    def _keep_free_elsewhere(self, pod: Pod) -> None:
        """Requests reserved room again, as of now."""
        self.place(Pod(pod.name, pod.requests, self.now_s))

    def _new(self, kind: InstanceType) -> Host:
        self._count += 1
        host = Host(f"machine-{self._count}", kind, self.now_s)
        self.hosts.append(host)
        return host

    def _booted(self, host: Host) -> None:
        if host.gone:
            return
        self._tell("machine_booted", host)
        self._timeline.after(self._arrival.registers.draw(self._rng), lambda: self._registered(host))

    def _registered(self, host: Host) -> None:
        if host.gone:
            return
        host.registered = True
        host.quiet_since_s = self.now_s
        self._tell("machine_registered", host)
        self._timeline.after(self._arrival.turns_ready.draw(self._rng), lambda: self._ready(host))
        self._settle()

    def _ready(self, host: Host) -> None:
        if not host.gone:
            host.ready = True
            self._tell("machine_ready", host)

    def _settle(self) -> None:
        """Places waiting pods in the available room, replicas before reserved room."""
        for pod in sorted(self.pending.values(), key=lambda each: (each.replica is None, each.created_s)):
            host = self._with_room(pod)
            if host is not None:
                del self.pending[pod.name]
                self._bind(pod, host)

    def _with_room(self, pod: Pod) -> Host | None:
        able = [each for each in self.staying if each.registered and pod.requests.fits(each.room)]
        return able[0] if able else None

    def _made_room(self, pod: Pod) -> Host | None:
        """Displaces reserved room, which is requested elsewhere."""
        for host in self.staying:
            if not host.registered:
                continue
            for other in [each for each in host.pods.values() if each.replica is None]:
                if pod.requests.fits(host.room + other.requests):
                    del host.pods[other.name]
                    self._timeline.after(0.0, lambda other=other: self.place(other))  # type: ignore[misc]
                    return host
        return None

    def _bind(self, pod: Pod, host: Host) -> None:
        host.pods[pod.name] = pod
        host.quiet_since_s = self.now_s
        if pod.placed is not None:
            pod.placed()

    def _gone_when_empty(self, host: Host) -> None:
        if host.gone:
            return
        if host.pods:
            self._timeline.after(_LOOK_S, lambda: self._gone_when_empty(host))
            return
        host.gone = True
        self._tell("machine_removed", host)

    def _tell(self, kind: str, host: Host) -> None:
        self._log.tell(self.now_s, POOL, kind, host.name, type=host.type.name)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class RoomFor:
    """A fleet as the replicas of one component see it (`replicas.Room`)."""

    fleet: Fleet
    requests: Resources

    def place(self, replica: Replica, owner: Evicts, placed: Callable[[], None]) -> None:
        self.fleet.place(Pod(replica.name, self.requests, self.fleet.now_s, replica, owner, placed))

    def free(self, replica: Replica) -> None:
        self.fleet.free(replica.name)


# How often a machine that drains is looked at.
_LOOK_S = 0.25
