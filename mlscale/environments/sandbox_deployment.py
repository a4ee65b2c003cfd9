"""A deployment that runs in a sandbox and is controlled by an agent, as such environments return it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final

from mlscale.environments.agent import AgentProcess
from mlscale.environments.base import Problem, Scaling
from mlscale.host.cgroups import find_hierarchy, quota_remedy
from mlscale.host.ledger import LedgerEntry
from mlscale.host.reap import reap
from mlscale.host.replica_launcher import ReplicaStart
from mlscale.host.sandbox import Sandbox
from mlscale.runs import Event, Level, Mode, Observation, ResourceSample, RunClock

_UPTIME_STEP_S: Final = 0.01


def quota_problems() -> list[Problem]:
    """Why replicas in a sandbox have no CPU quota here. Not fatal: such runs are a kind of their own."""
    hierarchy = find_hierarchy()
    if not isinstance(hierarchy, str):
        return []
    what = f"replicas run without one and share all cores, since {hierarchy}"
    return [Problem(what, "CPU quota", quota_remedy(), fatal=False)]


class SandboxEnvironment:
    """What environments in a sandbox share: they scale processes, run live, and are removed by the host."""

    level: ClassVar[Level] = "application"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]]

    def arm(self, arm: str) -> Scaling:
        """The settings of an arm (METHOD §4)."""
        return self.settings.of_arm(arm)

    def reap(self, entry: LedgerEntry) -> None:
        """Remove the sandbox."""
        reap(entry)


@dataclass
class SandboxDeployed:
    """See `mlscale.environments.base.Deployed`.

    ``component`` owns the data plane and the control plane; "" if the application has several components.
    """

    box: Sandbox
    agent: AgentProcess
    component: str
    url: str
    facts: Mapping[str, Any]
    versions: Mapping[str, str]
    headers: Mapping[str, str] = field(default_factory=dict)
    load_prefix: Sequence[str] = field(init=False)
    _ended: set[str] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        self.load_prefix = self.box.prefix

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """Decisions, replicas and resource use until ``stop`` is set. A ``replica_started`` event carries the CPU that
        the replica used before its limit took effect.

        Raises:
            ObservationLost: the framework or its agent ended, or no longer answers.
        """
        observations = self.agent.observations(clock, stop, sample=lambda: self._sample(clock))
        for observation in with_starts(observations, self.box.replica_starts, clock):
            if isinstance(observation, Event) and observation.kind in ("replica_removed", "replica_failed"):
                self._ended.add(observation.subject)
            yield observation

    def _sample(self, clock: RunClock) -> list[ResourceSample]:
        # A replica's cgroup outlives it: removing it early would race with the start of another replica.
        return [row for row in self.box.sample(clock, self.component) if row.subject not in self._ended]


def with_starts(
    observations: Iterable[Observation], recorded: Callable[[], Iterable[ReplicaStart]], clock: RunClock
) -> Iterator[Observation]:
    """The observations, each ``replica_started`` with the wrapper's record added (``recorded()``: all starts so far).

    The agent may see a worker before its wrapper has recorded it. Such an event waits for the record, but at most
    until the next event of that replica.
    """
    waiting: dict[str, Event] = {}
    for observation in observations:
        event = observation if isinstance(observation, Event) else None
        if event is not None and event.kind == "replica_started":
            waiting[event.subject] = event
        else:
            if event is not None and event.subject in waiting:
                yield waiting.pop(event.subject)
            yield observation
        for start in recorded() if waiting else ():
            if start.subject in waiting:
                yield _with_start(waiting.pop(start.subject), start, clock)
    yield from waiting.values()


def _with_start(event: Event, start: ReplicaStart, clock: RunClock) -> Event:
    """Add the CPU used before the limit took effect, and use the wrapper's start time if it is more precise."""
    detail = {**event.detail, "cpu_before_s": start.cpu_before_s}
    entered_s = clock() - (_uptime_s() - start.uptime_s)
    if not abs(event.t_s - entered_s) <= event.known_within_s + _UPTIME_STEP_S:  # also when it is NaN
        return replace(event, detail=detail)
    return replace(event, t_s=entered_s, known_within_s=_UPTIME_STEP_S, detail=detail)


def _uptime_s() -> float:
    """Seconds since boot; NaN if the system has no such clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else float("nan")
