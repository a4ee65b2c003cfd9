"""The child's side of the protocol in agent.py: one JSON object a line on standard output.

An agent is a process inside the sandbox that controls and observes a framework. Standard library only: an agent must
start faster than its framework. All times are readings of ``time.monotonic()``.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import IO, Any


class Emitter:
    """Writes messages; thread-safe. Tests replace ``clock``."""

    def __init__(self, stream: IO[str] | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream if stream is not None else sys.stdout
        self._clock = clock
        self._lock = threading.Lock()

    def send(self, kind: str, /, **fields: Any) -> None:
        """One message {"type": kind, "t": now, ...}. Raises BrokenPipeError if the parent is gone: exit then."""
        line = json.dumps({"type": kind, "t": self._clock(), **fields}, default=str) + "\n"
        with self._lock:
            self._stream.write(line)
            self._stream.flush()

    def ready(self, **facts: Any) -> None:
        """The agent has finished a step that its parent waits for; ``facts`` go to the parent."""
        self.send("ready", facts=facts)

    def failed(self, what: str, where: str, remedy: str) -> None:
        """The agent can't go on; the parent raises MlscaleError (while it deploys) or ObservationLost (later)."""
        self.send("failed", what=what, where=where, remedy=remedy)

    def replicas(self, component: str, desired: int, starting: int, ready: int, t: float | None = None) -> None:
        """A ReplicaSample, at least twice a second. Never repeat an old value if the source does not answer."""
        self.send("replicas", component=component, desired=desired, starting=starting, ready=ready, **_at(t))

    def event(
        self,
        component: str,
        kind: str,
        subject: str = "",
        *,
        t: float | None = None,
        known_within_s: float = 0.0,
        source_time: str | None = None,
        detail: Mapping[str, Any] | None = None,
    ) -> None:
        """An Event (mlscale.runs.Event): ``kind`` is one of EventKind."""
        self.send(
            "event",
            component=component,
            kind=kind,
            subject=subject,
            known_within_s=known_within_s,
            source_time=source_time,
            detail=dict(detail or {}),
            **_at(t),
        )


def _at(t: float | None) -> dict[str, float]:
    return {} if t is None else {"t": t}


def commands(stream: IO[str] | None = None) -> Iterator[dict[str, Any]]:
    """The parent's commands ({"command": name, ...}), one a line of standard input; ends when the parent is gone."""
    for line in stream if stream is not None else sys.stdin:
        if line.strip():
            yield json.loads(line)
