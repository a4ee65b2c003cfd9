"""A deployment that lives in a sandbox and is steered by an agent: what such environments hand out."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mlscale.environments.agent import AgentProcess
from mlscale.environments.replica_starts import with_starts
from mlscale.host.sandbox import Sandbox
from mlscale.runs import Event, Observation, ResourceSample, RunClock


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
