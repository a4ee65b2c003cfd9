"""The parent's side of an agent: a process in the sandbox that controls a framework and reports what happens.

Protocol: the agent prints one JSON object a line (emit.py): {"type": ..., "t": time.monotonic(), ...} with the types
``ready`` (facts), ``replicas``, ``event``, ``failed`` (what, where, remedy). The parent writes {"command": name, ...}
lines to the agent's standard input; at its end (EOF) the parent is gone, and the agent exits.
"""

from __future__ import annotations

import json
import queue
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final, Protocol

from mlscale.environments.base import ObservationLost
from mlscale.host.log_tail import log_tail
from mlscale.runs import Event, MlscaleError, Observation, ReplicaSample, ResourceSample, RunClock

_TAIL_LINES: Final = 12


class Spawn(Protocol):
    """What an AgentProcess needs of a sandbox (mlscale.host.sandbox.Sandbox.spawn, bound to a role)."""

    def __call__(self, argv: Sequence[str], *, stdin: int, stdout: int, stderr: IO[bytes]) -> subprocess.Popen[Any]: ...


class AgentProcess:
    """A running agent. Use as a context manager, or call ``close()``.

    Args:
        spawn: starts a process inside the sandbox (``functools.partial(box.spawn, role="control_plane", env=...)``).
        argv: the agent's command line.
        log: file for its standard error; error messages show its last lines.
        name: its name in error messages.
        more_logs: further logs to show (the framework's).
        watch: called while waiting; returns a message if something else has failed (the server ended), else None.
    """

    def __init__(
        self,
        spawn: Spawn,
        argv: Sequence[str],
        log: Path,
        name: str = "agent",
        *,
        more_logs: Sequence[Path] = (),
        watch: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.name = name
        self._log, self._more_logs, self._watch = log, more_logs, watch
        self._messages: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._pending: list[dict[str, Any]] = []  # observations that arrived in wait_ready
        with log.open("ab") as errors:
            self.process = spawn(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors)
        self._reader = threading.Thread(target=self._read, name=f"{name}-reader", daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        for raw in stream:
            text = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
            try:
                message = json.loads(text)
            except ValueError:
                message = None
            if isinstance(message, dict) and "type" in message:
                self._messages.put(message)
            elif text.strip():  # the framework's own output goes to the log
                with self._log.open("a", encoding="utf-8") as log:
                    log.write(text)
        self._messages.put(None)

    def send(self, command: str, **fields: Any) -> None:
        """Send the agent a command. Raises ObservationLost if the agent has ended."""
        line = json.dumps({"command": command, **fields}) + "\n"
        stream = self.process.stdin
        assert stream is not None
        try:
            stream.write(line if getattr(stream, "encoding", None) else line.encode())
            stream.flush()
        except (BrokenPipeError, ValueError) as error:
            raise self._lost(f"took no command ({error})") from error

    def wait_ready(self, timeout_s: float, doing: str = "start") -> Mapping[str, Any]:
        """Facts of the next ``ready`` message.

        Raises:
            MlscaleError: the agent failed, ended, or was not ready within ``timeout_s``; with its last log lines.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            trouble = self._watch()
            if trouble is not None:
                raise MlscaleError(f"{trouble}{self._tail()}", f"{self.name}: {doing}", "see the log lines")
            try:
                message = self._messages.get(timeout=min(0.2, max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                if time.monotonic() < deadline:
                    continue
                raise MlscaleError(
                    f"not ready within {timeout_s:g} s{self._tail()}",
                    f"{self.name}: {doing}",
                    "see the log lines; the host may be overloaded",
                ) from None
            if message is None:
                raise MlscaleError(
                    f"ended with exit code {self._code()}{self._tail()}", f"{self.name}: {doing}", "see the log lines"
                )
            if message["type"] == "ready":
                facts: Mapping[str, Any] = message.get("facts", {})
                return facts
            if message["type"] == "failed":
                raise MlscaleError(f"{message['what']}{self._tail()}", message["where"], message["remedy"])
            self._pending.append(message)

    def observations(
        self,
        clock: RunClock,
        stop: threading.Event,
        *,
        sample: Callable[[], Sequence[ResourceSample]] = lambda: (),
        sample_period_s: float = 0.5,
        silent_s: float = 20.0,
    ) -> Iterator[Observation]:
        """What the agent reports, on the run's clock, and ``sample()`` every ``sample_period_s``, until ``stop``.

        Starts with what was reported before this call (run times may be negative). May be called again to continue.

        Raises:
            ObservationLost: the agent ended, failed, or was silent for ``silent_s``.
        """
        pending, self._pending = self._pending, []
        yield from _on_clock(pending, clock)
        next_sample = last_message = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            if now >= next_sample:
                yield from sample()
                # Absolute times: a late sample does not delay the following ones; missed ones are skipped.
                next_sample += sample_period_s * max(1, int((time.monotonic() - next_sample) // sample_period_s) + 1)
            trouble = self._watch()
            if trouble is not None:
                raise self._lost(trouble)
            try:
                message = self._messages.get(timeout=min(0.1, max(0.0, next_sample - time.monotonic())))
            except queue.Empty:
                if time.monotonic() - last_message > silent_s:
                    raise self._lost(f"said nothing for {silent_s:g} s") from None
                continue
            last_message = time.monotonic()
            if message is None:
                raise self._lost(self._watch() or f"ended with exit code {self._code()}")
            if message["type"] == "failed":
                raise ObservationLost(f"{message['what']}{self._tail()}", message["where"], message["remedy"])
            yield from _on_clock([message], clock)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the agent: EOF on its standard input, then SIGKILL after ``timeout_s``. Idempotent."""
        process = self.process
        if process.stdin is not None and not process.stdin.closed:
            try:
                process.stdin.close()
            except BrokenPipeError:  # it has ended already
                process.stdin = None
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reader.join(timeout_s)
        if not self._reader.is_alive() and process.stdout is not None:
            process.stdout.close()

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _code(self) -> int | str:
        try:
            return self.process.wait(2.0)
        except subprocess.TimeoutExpired:
            return "unknown (it closed its output)"

    def _lost(self, what: str) -> ObservationLost:
        return ObservationLost(f"{what}{self._tail()}", self.name, "the run can't be completed; repeat it")

    def _tail(self) -> str:
        ends = [(log.name, log_tail(log, _TAIL_LINES)) for log in (self._log, *self._more_logs)]
        return "".join(f"; last log lines of {name}:\n  " + "\n  ".join(lines) for name, lines in ends if lines)


def _on_clock(messages: Sequence[Mapping[str, Any]], clock: RunClock) -> Iterator[Observation]:
    for message in messages:
        observation = to_observation(message, clock.origin_s)
        if observation is not None:
            yield observation


def to_observation(message: Mapping[str, Any], origin_s: float) -> Observation | None:
    """An agent's message as an Observation; None for other messages (such as ``ready``).

    Args:
        message: {"type": "replicas" | "event" | ..., "t": time.monotonic(), ...}
        origin_s: time.monotonic() at the run's start.
    """
    t_s = float(message["t"]) - origin_s
    if message["type"] == "replicas":
        return ReplicaSample(
            t_s, message["component"], int(message["desired"]), int(message["starting"]), int(message["ready"])
        )
    if message["type"] == "event":
        return Event(
            t_s,
            message["component"],
            message["kind"],
            subject=message.get("subject", ""),
            source_time=message.get("source_time"),
            known_within_s=float(message.get("known_within_s", 0.0)),
            detail=message.get("detail", {}),
        )
    return None
