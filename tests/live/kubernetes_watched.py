"""What the Kubernetes tests share: the burning application, clients for it, and an observer that can be waited for."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from mlscale.environments.base import App, Component, ObservationLost
from mlscale.environments.k3s import K3s
from mlscale.environments.kubernetes_deployed import KubernetesDeployed
from mlscale.environments.kubernetes_settings import KubernetesScaling
from mlscale.runs import Event, Observation, ReplicaSample, RunClock

PHOTOS = [b"photo-1", b"photo-2"]


def app(entry: str = "torchserve_burn:make") -> App:
    return App("burn", "1", (Component("app", entry),), "app")


def scaling(arm: str = "matched", **changes: Any) -> KubernetesScaling:
    """Of an arm, with quotas that leave a host of two cores room."""
    quick = {"cpu_cores": 0.25, "memory_mib": 64, "drain_delay_s": 2}
    return KubernetesScaling.model_validate({**K3s().arm(arm).model_dump(), **quick, **changes})


@dataclass
class Watched:
    """What `observe` yields, gathered by a thread."""

    deployed: KubernetesDeployed
    seen: list[Observation] = field(default_factory=list)
    lost: ObservationLost | None = None
    stop: threading.Event = field(default_factory=threading.Event)
    clock: RunClock = field(default_factory=RunClock)

    def __post_init__(self) -> None:
        self.thread = threading.Thread(target=self._gather)
        self.thread.start()

    def _gather(self) -> None:
        try:
            for observation in self.deployed.observe(self.clock, self.stop):
                self.seen.append(observation)
        except ObservationLost as lost:
            self.lost = lost

    def until(self, condition: Callable[[], Any], what: str, at_most_s: float = 150.0) -> Any:
        deadline = time.monotonic() + at_most_s
        while time.monotonic() < deadline:
            if found := condition():
                return found
            assert self.thread.is_alive(), f"the observer ended: {self.lost}"
            self.thread.join(0.1)
        raise AssertionError(f"not within {at_most_s:g} s: {what}; events: {self.events()}")

    def events(self, *kinds: str) -> list[Event]:
        return [e for e in list(self.seen) if isinstance(e, Event) and (not kinds or e.kind in kinds)]

    def now(self) -> tuple[int, int, int]:
        samples = [sample for sample in list(self.seen) if isinstance(sample, ReplicaSample)]
        return (samples[-1].desired, samples[-1].starting, samples[-1].ready) if samples else (0, 0, 0)

    def close(self) -> None:
        self.stop.set()
        self.thread.join(20)


@contextmanager
def clients(url: str, number: int, *, kept: bool = False) -> Iterator[list[tuple[int, str]]]:
    """``number`` clients that ask without a pause; the list grows by (status, replica) for each answer."""
    replies: list[tuple[int, str]] = []
    ended = threading.Event()
    parts = urlsplit(url)

    def client() -> None:
        connection: http.client.HTTPConnection | None = None
        while not ended.is_set():
            connection = connection or http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            try:
                connection.request("POST", parts.path, b"photo")
                response = connection.getresponse()
                response.read()
                replies.append((response.status, response.getheader("X-Mlscale-Replica") or ""))
            except (OSError, http.client.HTTPException) as error:
                replies.append((0, repr(error)))
                kept_now = False
            else:
                kept_now = kept
            if not kept_now:
                connection.close()
                connection = None

    threads = [threading.Thread(target=client) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        ended.set()
        for thread in threads:
            thread.join()
