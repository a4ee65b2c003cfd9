"""Karpenter's decisions: which machines to request, and which to remove. Follows its source (v1.9.0).

Provisioning (controllers/provisioning): pods without room are batched, sorted by CPU, then memory, and packed one by
one: onto machines that are present or on their way, onto new machines of this batch (fewest pods first), else onto
another new one. A new machine keeps every type that fits all of its pods; the cheapest is launched.

Consolidation (controllers/disruption): empty machines are removed; else the cheapest to disrupt together, if their pods
fit elsewhere with at most one cheaper machine in their place; else a single one. A decision is validated 15 s later.

One NodePool, on-demand, without affinities or topology, all of whose machines may be disrupted at a time; daemon pods
are part of a type's overhead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

# Polling period of the disruption controller (controller.go).
POLLING_S: Final = 10.0
# Between a decision and its validation (consolidation.go, consolidationTTL).
VALIDATION_S: Final = 15.0
# A batch closes after so long without a further pod, and at the latest after so long (--batch-idle-duration,
# --batch-max-duration).
BATCH_IDLE_S: Final = 1.0
BATCH_MAX_S: Final = 10.0


@dataclass(frozen=True, slots=True, order=True)
class Resources:
    """Requested or available resources; compares by CPU first, as the queue does."""

    cpu_milli: int = 0
    memory_bytes: int = 0

    def __add__(self, other: Resources) -> Resources:
        return Resources(self.cpu_milli + other.cpu_milli, self.memory_bytes + other.memory_bytes)

    def __sub__(self, other: Resources) -> Resources:
        return Resources(self.cpu_milli - other.cpu_milli, self.memory_bytes - other.memory_bytes)

    def fits(self, room: Resources) -> bool:
        return self.cpu_milli <= room.cpu_milli and self.memory_bytes <= room.memory_bytes


@dataclass(frozen=True, slots=True)
class InstanceType:
    """``allocatable``: the capacity left for pods. ``price``: per hour."""

    name: str
    capacity: Resources
    allocatable: Resources
    price: float


@dataclass(frozen=True, slots=True)
class PodRequest:
    """``created_s`` orders pods with equal requests."""

    name: str
    requests: Resources
    created_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """Present or on its way. ``quiet_since_s``: the last time that a pod was added or removed, or its start."""

    name: str
    type: InstanceType
    pods: tuple[PodRequest, ...] = ()
    initialized: bool = True
    quiet_since_s: float = 0.0

    @property
    def room(self) -> Resources:
        return self.type.allocatable - total(self.pods)


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """A NodePool. ``memory_limit_bytes``: of all machines' capacity together."""

    types: tuple[InstanceType, ...]
    memory_limit_bytes: float = math.inf
    consolidate_after_s: float = 0.0
    policy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"] = "WhenEmptyOrUnderutilized"


def batch_ends_s(first_s: float, last_s: float) -> float:
    """Closing time of a batch whose first pod came at ``first_s`` and whose last one came at ``last_s``."""
    return min(first_s + BATCH_MAX_S, last_s + BATCH_IDLE_S)


def total(pods: Iterable[PodRequest]) -> Resources:
    return sum((pod.requests for pod in pods), Resources())


@dataclass(slots=True)
class NewMachine:
    """A machine to request, with every type that fits its pods."""

    options: tuple[InstanceType, ...]
    pods: list[PodRequest]

    @property
    def type(self) -> InstanceType:
        """The cheapest, which is launched."""
        return min(self.options, key=lambda option: option.price)


@dataclass(slots=True)
class Provisioning:
    """The machines to request, and the pods that no type has room for."""

    new: list[NewMachine] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)


def provision(pods: Iterable[PodRequest], machines: Sequence[Machine], settings: PoolSettings) -> Provisioning:
    """One batch (``Scheduler.Solve``)."""
    ordered = sorted(machines, key=lambda machine: (not machine.initialized, machine.name))
    room = {machine.name: machine.room for machine in ordered}
    memory_left = settings.memory_limit_bytes - sum(machine.type.capacity.memory_bytes for machine in machines)
    result = Provisioning()
    for pod in sorted(pods, key=_queue_order):
        host = next((name for name, left in room.items() if pod.requests.fits(left)), None)
        if host is not None:
            room[host] -= pod.requests
        elif not _add_to_new(pod, result.new):
            viable = [candidate for candidate in settings.types if candidate.capacity.memory_bytes <= memory_left]
            options = _types_with_room(viable, pod.requests)
            if options:
                result.new.append(NewMachine(options, [pod]))
                memory_left -= max(option.capacity.memory_bytes for option in options)  # any may be launched
            else:
                result.unplaced.append(pod.name)
    return result


def _queue_order(pod: PodRequest) -> tuple[float, ...]:
    """By CPU, then memory, largest first; then by age."""
    return (-pod.requests.cpu_milli, -pod.requests.memory_bytes, pod.created_s)


def _add_to_new(pod: PodRequest, new: list[NewMachine]) -> bool:
    """Adds a pod to a new machine if a type has room for it; False if none has."""
    new.sort(key=lambda machine: len(machine.pods))
    for machine in new:
        options = _types_with_room(machine.options, total(machine.pods) + pod.requests)
        if options:
            machine.options, machine.pods = options, [*machine.pods, pod]
            return True
    return False


def _types_with_room(types: Iterable[InstanceType], requests: Resources) -> tuple[InstanceType, ...]:
    return tuple(candidate for candidate in types if requests.fits(candidate.allocatable))


@dataclass(frozen=True, slots=True)
class Disruption:
    """Machines to remove, and the type to request in their place."""

    machines: tuple[str, ...] = ()
    replacement: InstanceType | None = None


def disrupt(machines: Sequence[Machine], now_s: float, settings: PoolSettings) -> Disruption:
    """One round of the disruption controller: emptiness, else multi-node, else single-node consolidation."""
    after_s = settings.consolidate_after_s
    quiet = [machine for machine in machines if machine.initialized and now_s - machine.quiet_since_s >= after_s]
    candidates = sorted(quiet, key=lambda machine: len(machine.pods))  # cheapest to disrupt first
    empty = tuple(machine.name for machine in candidates if not machine.pods)
    if empty or settings.policy == "WhenEmpty":
        return Disruption(empty)
    several = _consolidate_several(candidates, machines, settings)
    if several is not None:
        return several
    singles = (_consolidate([machine], machines, settings) for machine in candidates)
    return next((single for single in singles if single is not None), Disruption())


def _consolidate_several(
    candidates: Sequence[Machine], machines: Sequence[Machine], settings: PoolSettings
) -> Disruption | None:
    """The largest number of machines that can be removed together, by bisection (``firstNConsolidationOption``)."""
    low, high = 1, min(len(candidates), 100) - 1
    best: Disruption | None = None
    while low <= high:
        middle = (low + high) // 2
        disruption = _consolidate(candidates[: middle + 1], machines, settings)
        if disruption is None:
            high = middle - 1
        else:
            best, low = disruption, middle + 1
    return best


def _consolidate(
    candidates: Sequence[Machine], machines: Sequence[Machine], settings: PoolSettings
) -> Disruption | None:
    """``computeConsolidation``: moves their pods to the others, with at most one new machine that costs less."""
    names = tuple(machine.name for machine in candidates)
    others = [machine for machine in machines if machine.name not in names]
    result = provision([pod for machine in candidates for pod in machine.pods], others, settings)
    if result.unplaced or len(result.new) > 1:
        return None
    if not result.new:
        return Disruption(names)
    price_limit = sum(machine.type.price for machine in candidates)
    if len(candidates) > 1:
        price_limit = min(price_limit, _cheapest_same_type(candidates, result.new[0]))
    cheaper = [option for option in result.new[0].options if option.price < price_limit]
    return Disruption(names, min(cheaper, key=lambda option: option.price)) if cheaper else None


def _cheapest_same_type(candidates: Sequence[Machine], new: NewMachine) -> float:
    """Price limit that keeps several from being replaced by the type of one of them (``filterOutSameInstanceType``)."""
    shared = {machine.type.name for machine in candidates} & {option.name for option in new.options}
    return min((machine.type.price for machine in candidates if machine.type.name in shared), default=math.inf)
