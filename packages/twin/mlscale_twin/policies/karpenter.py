"""Karpenter's decisions: which machines to ask for, and which to take away. After its source (v1.9.0).

Provisioning (controllers/provisioning): pods without room are batched, sorted by CPU, then memory, and packed one by
one: onto machines that are there or on their way, onto those just being asked for (fewest pods first), else onto a new
one. A machine asked for keeps every type that fits all of its pods; the cheapest is launched.

Consolidation (controllers/disruption): empty machines go; else the cheapest to disrupt go together, if their pods fit
elsewhere with at most one cheaper machine in their place; else one alone. What is decided is validated 15 s later.

One NodePool, on-demand, without affinities or topology; daemon pods are part of a type's overhead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

# How often the disruption controller looks (controller.go).
POLLING_S: Final = 10.0
# Between a decision and its validation (consolidation.go, consolidationTTL).
VALIDATION_S: Final = 15.0


@dataclass(frozen=True, slots=True, order=True)
class Resources:
    """What is asked for, or there; compares by CPU first, as the queue does."""

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
    """``allocatable``: what is left of the capacity for pods. ``price``: per hour."""

    name: str
    capacity: Resources
    allocatable: Resources
    price: float


@dataclass(frozen=True, slots=True)
class PodRequest:
    """``created_s`` orders pods that ask for the same."""

    name: str
    requests: Resources
    created_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Machine:
    """One that runs or is on its way. ``quiet_since_s``: the last time a pod came or went, or its start."""

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
    """A NodePool. ``limits``: of all machines' capacity together; None: no limit. ``budget``: how many machines may be
    disrupted at a time, as a share of all, rounded up (10 % unless set)."""

    types: tuple[InstanceType, ...]
    limits: Mapping[Literal["cpu_milli", "memory_bytes"], int] = field(default_factory=dict)
    consolidate_after_s: float | None = 0.0
    policy: Literal["WhenEmpty", "WhenEmptyOrUnderutilized"] = "WhenEmptyOrUnderutilized"
    budget: float = 0.1
    batch_idle_s: float = 1.0
    batch_max_s: float = 10.0


def batch_ends_s(first_s: float, last_s: float, settings: PoolSettings) -> float:
    """When the batch is closed that opened with a pod at ``first_s`` and met its last new one at ``last_s``."""
    return min(first_s + settings.batch_max_s, last_s + settings.batch_idle_s)


def total(pods: Iterable[PodRequest]) -> Resources:
    return sum((pod.requests for pod in pods), Resources())


@dataclass(slots=True)
class NewMachine:
    """One to be asked for, with every type that still fits its pods."""

    options: tuple[InstanceType, ...]
    pods: list[PodRequest]

    @property
    def type(self) -> InstanceType:
        """What is launched: the cheapest."""
        return min(self.options, key=lambda each: each.price)


@dataclass(slots=True)
class Provisioning:
    """``placed``: pod to machine that has room for it; ``unplaced``: pod to why not."""

    placed: dict[str, str]
    new: list[NewMachine]
    unplaced: dict[str, str]


def provision(pods: Iterable[PodRequest], machines: Sequence[Machine], settings: PoolSettings) -> Provisioning:
    """One batch (``Scheduler.Solve``)."""
    there = sorted(machines, key=lambda each: (not each.initialized, each.name))
    room = {each.name: each.room for each in there}
    remaining = dict(settings.limits)
    for each in machines:
        remaining = _less(remaining, [each.type])
    done = Provisioning({}, [], {})
    for pod in sorted(pods, key=lambda each: (-each.requests.cpu_milli, -each.requests.memory_bytes, each.created_s)):
        found = next((name for name, left in room.items() if pod.requests.fits(left)), None)
        if found is not None:
            done.placed[pod.name], room[found] = found, room[found] - pod.requests
        elif not _joined(pod, done.new):
            viable = [each for each in settings.types if _within(each, remaining)]
            options = _fitting(viable, pod.requests)
            if options:
                done.new.append(NewMachine(options, [pod]))
                remaining = _less(remaining, options)
            else:
                done.unplaced[pod.name] = "no type has room for it" if viable else "all types exceed the limits"
    return done


def _joined(pod: PodRequest, new: list[NewMachine]) -> bool:
    """Put onto one that is being asked for, where a type can take it."""
    new.sort(key=lambda each: len(each.pods))
    for each in new:
        options = _fitting(each.options, total(each.pods) + pod.requests)
        if options:
            each.options, each.pods = options, [*each.pods, pod]
            return True
    return False


def _fitting(types: Iterable[InstanceType], requests: Resources) -> tuple[InstanceType, ...]:
    return tuple(each for each in types if requests.fits(each.allocatable))


def _within(kind: InstanceType, remaining: Mapping[Literal["cpu_milli", "memory_bytes"], int]) -> bool:
    return all(getattr(kind.capacity, name) <= left for name, left in remaining.items())


def _less(
    remaining: Mapping[Literal["cpu_milli", "memory_bytes"], int], options: Sequence[InstanceType]
) -> dict[Literal["cpu_milli", "memory_bytes"], int]:
    """The limits without the largest of the types: any of them may be launched (``subtractMax``)."""
    return {name: left - max(getattr(each.capacity, name) for each in options) for name, left in remaining.items()}


@dataclass(frozen=True, slots=True)
class Disruption:
    """Machines to take away, and what to ask for in their place; ``reason`` also says why nothing is done."""

    machines: tuple[str, ...]
    replacement: InstanceType | None
    rule: Literal["empty", "multi", "single", "hold"]
    reason: str


def disrupt(machines: Sequence[Machine], now_s: float, settings: PoolSettings) -> Disruption:
    """One look of the disruption controller: emptiness, else multi-node, else single-node consolidation."""
    after_s = settings.consolidate_after_s
    if after_s is None:
        return Disruption((), None, "hold", "consolidation is off")
    allowed = math.ceil(settings.budget * len(machines))
    quiet = [each for each in machines if each.initialized and now_s - each.quiet_since_s >= after_s]
    candidates = sorted(quiet, key=lambda each: len(each.pods))  # what is cheapest to disrupt
    empty = tuple(each.name for each in candidates if not each.pods)[:allowed]
    if empty:
        return Disruption(empty, None, "empty", f"{len(empty)} machines are empty")
    if settings.policy == "WhenEmpty":
        return Disruption((), None, "hold", "no machine is empty")
    busy = [each for each in candidates if each.pods]
    several = _several(busy[:allowed], machines, settings)
    if several is not None:
        return several
    for each in busy if allowed else []:
        one = _consolidated([each], machines, settings, "single")
        if one is not None:
            return one
    return Disruption((), None, "hold", f"{len(busy)} candidates, none can go or be had cheaper")


def _several(candidates: Sequence[Machine], machines: Sequence[Machine], settings: PoolSettings) -> Disruption | None:
    """The most that can go together, by bisection (``firstNConsolidationOption``)."""
    low, high = 1, min(len(candidates), 100) - 1
    best: Disruption | None = None
    while low <= high:
        middle = (low + high) // 2
        found = _consolidated(candidates[: middle + 1], machines, settings, "multi")
        if found is None:
            high = middle - 1
        else:
            best, low = found, middle + 1
    return best


def _consolidated(
    candidates: Sequence[Machine],
    machines: Sequence[Machine],
    settings: PoolSettings,
    rule: Literal["multi", "single"],
) -> Disruption | None:
    """``computeConsolidation``: their pods on the others, or with one machine more that costs less than they do."""
    names = tuple(each.name for each in candidates)
    others = [each for each in machines if each.name not in names]
    result = provision([pod for each in candidates for pod in each.pods], others, settings)
    if result.unplaced or len(result.new) > 1:
        return None
    if not result.new:
        return Disruption(names, None, rule, "their pods fit onto the other machines")
    most = sum(each.type.price for each in candidates)
    if rule == "multi":
        most = min(most, _cheapest_shared(candidates, result.new[0]))
    cheaper = [each for each in result.new[0].options if each.price < most]
    if not cheaper:
        return None
    chosen = min(cheaper, key=lambda each: each.price)
    return Disruption(names, chosen, rule, f"a {chosen.name} in their place costs less")


def _cheapest_shared(candidates: Sequence[Machine], new: NewMachine) -> float:
    """Not in place of several what one of them is already (``filterOutSameInstanceType``)."""
    shared = {each.type.name for each in candidates} & {each.name for each in new.options}
    return min((each.type.price for each in candidates if each.type.name in shared), default=math.inf)
