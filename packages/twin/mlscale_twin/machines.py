"""Machines in virtual time: they join, hold replicas, fail and leave; a pod without room waits for one."""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from mlscale_twin.durations import Duration
from mlscale_twin.policies.karpenter import InstanceType, Machine, PodRequest, Resources
from mlscale_twin.replicas import Log, Replica
from mlscale_twin.timeline import Timeline

# Component of machine events: machines are shared by all.
POOL = ""


class PodOwner(Protocol):
    """Owner of pods, which replaces those that have to leave a machine."""

    def evict(self, replica: Replica) -> None: ...
    def fail(self, replica: Replica) -> None: ...


@dataclass(slots=True)
class Pod:
    """A replica, or reserved room (``replica`` None), and its resource request."""

    name: str
    requests: Resources
    created_s: float
    replica: Replica | None = None
    owner: PodOwner | None = None
    on_placed: Callable[[], None] | None = None

    @property
    def request(self) -> PodRequest:
        return PodRequest(self.name, self.requests, self.created_s)


@dataclass(slots=True)
class Host:
    """A machine, from its request until it is gone."""

    name: str
    type: InstanceType
    registered: bool = False
    ready: bool = False
    draining: bool = False
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
    """Durations until a machine is ready. ``boot`` may have two parts: a nominal time and an overhead. Machines finish
    booting at least ``spacing_s`` apart."""

    boot: Sequence[Duration]
    registration: Duration
    readiness: Duration
    spacing_s: float = 0.0


class Fleet:
    """Places pods on machines; pods without room wait in order of arrival."""

    def __init__(self, arrival: Arrival, timeline: Timeline, log: Log, rng: np.random.Generator) -> None:
        self._arrival, self._timeline, self._log, self._rng = arrival, timeline, log, rng
        self.hosts: list[Host] = []
        self.pending: dict[str, Pod] = {}
        self.desired = 0
        self._count = 0
        self._boot_times_s: list[float] = []
        self._on_pending: Callable[[Pod], None] | None = None

    @property
    def now_s(self) -> float:
        return self._timeline.now_s

    @property
    def present(self) -> list[Host]:
        return [host for host in self.hosts if not host.gone]

    @property
    def active(self) -> list[Host]:
        """Machines that are present or requested, and not draining."""
        return [host for host in self.present if not host.draining]

    def on_pending(self, action: Callable[[Pod], None]) -> None:
        """Registers a callback for each pod without room."""
        self._on_pending = action

    def add_initial(self, instance_type: InstanceType) -> Host:
        """Adds a machine that is present from the start."""
        host = self._new_host(instance_type)
        host.registered = host.ready = True
        self.desired = len(self.present)
        return host

    def place(self, pod: Pod) -> None:
        """Places a pod on a machine with room, displacing reserved room if necessary; otherwise it waits."""
        host = self._find_host(pod) or (self._displace_reserved(pod) if pod.replica is not None else None)
        if host is not None:
            self._bind(pod, host)
            return
        self.pending[pod.name] = pod
        if self._on_pending is not None:
            self._on_pending(pod)

    def release(self, name: str) -> None:
        """Frees the room of a pod that is gone."""
        self.pending.pop(name, None)
        for host in self.hosts:
            if host.pods.pop(name, None) is not None:
                host.quiet_since_s = self.now_s
                self._place_pending()

    def request(self, instance_type: InstanceType) -> Host:
        """Requests a machine."""
        host = self._new_host(instance_type)
        self.desired = len(self.active)
        self._record("machine_requested", host)
        self._timeline.after(self._next_boot_s() - self.now_s, lambda: self._on_booted(host))
        return host

    def _next_boot_s(self) -> float:
        """Time at which a machine requested now has booted: later if others finish at about that time."""
        spacing_s = self._arrival.spacing_s
        boot_s = self.now_s + sum(part.draw(self._rng) for part in self._arrival.boot)
        for other_s in self._boot_times_s:
            if abs(boot_s - other_s) < spacing_s:
                boot_s = other_s + spacing_s
        insort(self._boot_times_s, boot_s)
        return boot_s

    def drain(self, host: Host) -> None:
        """Drains a machine: it gets no new pods, its pods start elsewhere, then it is removed."""
        host.draining = True
        self.desired = len(self.active)
        for pod in list(host.pods.values()):
            if pod.replica is not None and pod.owner is not None:
                pod.owner.evict(pod.replica)
            else:
                self.release(pod.name)
                self._reserve_elsewhere(pod)
        self._remove_when_empty(host)

    def fail(self, host: Host) -> None:
        """A machine fails without warning."""
        if host.gone:
            return
        host.gone = True
        self.desired = len(self.active)
        self._record("machine_failed", host)
        for pod in list(host.pods.values()):
            host.pods.pop(pod.name)
            if pod.replica is not None and pod.owner is not None:
                pod.owner.fail(pod.replica)
            else:
                self._reserve_elsewhere(pod)

    def _reserve_elsewhere(self, pod: Pod) -> None:
        """Requests reserved room again, as of now."""
        self.place(Pod(pod.name, pod.requests, self.now_s))

    def _new_host(self, instance_type: InstanceType) -> Host:
        self._count += 1
        host = Host(f"machine-{self._count}", instance_type)
        self.hosts.append(host)
        return host

    def _on_booted(self, host: Host) -> None:
        if host.gone:
            return
        self._record("machine_booted", host)
        self._timeline.after(self._arrival.registration.draw(self._rng), lambda: self._on_registered(host))

    def _on_registered(self, host: Host) -> None:
        if host.gone:
            return
        host.registered = True
        host.quiet_since_s = self.now_s
        self._record("machine_registered", host)
        self._timeline.after(self._arrival.readiness.draw(self._rng), lambda: self._on_ready(host))
        self._place_pending()

    def _on_ready(self, host: Host) -> None:
        if not host.gone:
            host.ready = True
            self._record("machine_ready", host)

    def _place_pending(self) -> None:
        """Places waiting pods in the available room, replicas before reserved room."""
        for pod in sorted(self.pending.values(), key=lambda pod: (pod.replica is None, pod.created_s)):
            host = self._find_host(pod)
            if host is not None:
                del self.pending[pod.name]
                self._bind(pod, host)

    def _find_host(self, pod: Pod) -> Host | None:
        return next((host for host in self.active if host.registered and pod.requests.fits(host.room)), None)

    def _displace_reserved(self, pod: Pod) -> Host | None:
        """Displaces reserved room, which is requested elsewhere."""
        for host in self.active:
            if not host.registered:
                continue
            for reserved in [held for held in host.pods.values() if held.replica is None]:
                if pod.requests.fits(host.room + reserved.requests):
                    del host.pods[reserved.name]
                    self._timeline.after(0.0, lambda reserved=reserved: self.place(reserved))  # type: ignore[misc]
                    return host
        return None

    def _bind(self, pod: Pod, host: Host) -> None:
        host.pods[pod.name] = pod
        host.quiet_since_s = self.now_s
        if pod.on_placed is not None:
            pod.on_placed()

    def _remove_when_empty(self, host: Host) -> None:
        if host.gone:
            return
        if host.pods:
            self._timeline.after(_DRAIN_CHECK_S, lambda: self._remove_when_empty(host))
            return
        host.gone = True
        self._record("machine_removed", host)

    def _record(self, kind: str, host: Host) -> None:
        self._log.record(self.now_s, POOL, kind, host.name, type=host.type.name)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class FleetPlacer:
    """The fleet for the replicas of one component (`replicas.Placer`)."""

    fleet: Fleet
    requests: Resources

    def place(self, replica: Replica, owner: PodOwner, on_placed: Callable[[], None]) -> None:
        self.fleet.place(Pod(replica.name, self.requests, self.fleet.now_s, replica, owner, on_placed))

    def release(self, replica: Replica) -> None:
        self.fleet.release(replica.name)


# Period at which a draining machine is checked.
_DRAIN_CHECK_S = 0.25
