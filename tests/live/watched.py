"""A deployment's observations, collected in a thread while a live test runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlscale.environments import Deployed, ObservationLost
from mlscale.runs import Event, Observation, ReplicaSample, RunClock


@dataclass
class Watched:
    """What `observe` yields, collected by a thread. ``patience_s`` is the timeout of `until`."""

    deployed: Deployed
    patience_s: float = 60.0
    seen: list[Observation] = field(default_factory=list)
    lost: ObservationLost | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    clock: RunClock = field(default_factory=RunClock)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._collect)
        self.thread.start()

    def _collect(self) -> None:
        try:
            for observation in self.deployed.observe(self.clock, self.stop):
                self.seen.append(observation)
        except ObservationLost as lost:
            self.lost = lost

    def until(self, condition: Callable[[], Any], what: str, at_most_s: float | None = None) -> Any:
        at_most_s = self.patience_s if at_most_s is None else at_most_s
        deadline = time.monotonic() + at_most_s
        while time.monotonic() < deadline:
            ended = not self.thread.is_alive()  # before the last check: its end may be the condition
            if result := condition():
                return result
            assert not ended, f"the observer ended: {self.lost}"
            self.thread.join(0.05)
        last = "\n".join(map(str, self.events()[-8:]))
        pytest.fail(f"not within {at_most_s:g} s: {what}; replicas: {self.now()}; last events:\n{last}", pytrace=False)

    def events(self, *kinds: str) -> list[Event]:
        return [e for e in list(self.seen) if isinstance(e, Event) and (not kinds or e.kind in kinds)]

    def samples(self) -> list[ReplicaSample]:
        return [sample for sample in list(self.seen) if isinstance(sample, ReplicaSample)]

    def now(self) -> tuple[int, int, int]:
        """Replicas desired, starting and ready, by the last sample."""
        samples = self.samples()
        return (samples[-1].desired, samples[-1].starting, samples[-1].ready) if samples else (0, 0, 0)

    def close(self) -> None:
        self.stop.set()
        self.thread.join(20)
