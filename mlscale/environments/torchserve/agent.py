"""TorchServe's agent: observes the workers, lets the worker controller decide, and applies its decisions.

Runs in the sandbox (``python -m mlscale.environments.torchserve.agent SPEC.json``), speaks the protocol of emit.py on
standard output, and ends when its standard input does. Commands: "warm-up" {folder, rounds} (answered by ``ready``) and
"control", from which on it decides.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from mlscale.environments.emit import Emitter, commands
from mlscale.environments.torchserve.api import (
    Connection,
    ManagementApi,
    ModelState,
    NoAnswer,
    ServerGone,
    has_tokens,
    read_token,
)
from mlscale.environments.torchserve.board import Board
from mlscale.environments.torchserve.control_loop import Loop, Spec, Watch
from mlscale.environments.torchserve.drain import Drain

_HUNG_AFTER_S: Final = 10.0  # without an answer
_REQUEST_TIMEOUT_S: Final = 60.0


class WarmUpFailed(Exception):  # noqa: N818 (names what happened)
    """The application did not answer a warm-up request with 200."""


class ControlledModel:
    """One component's model, with its control loop and the loop's connections."""

    def __init__(self, spec: Spec, token: str, out: Emitter, connect: Callable[[], Connection]) -> None:
        self.name, self.board = spec.component, Board(Path(spec.board))
        self._api = ManagementApi(spec.management_port, token, spec.component)
        numbers = itertools.count(1)

        def begin_drain(state: ModelState) -> Drain:
            management = ManagementApi(spec.management_port, token, spec.component)
            return Drain(self.board, lambda: next(numbers), connect, management, spec.component, state.workers)

        self.loop = Loop(spec, out, Watch(spec, self.board, self._api), self._api, begin_drain)

    def first_workers_ready(self) -> bool:
        """Whether the first workers are ready. Raises NoAnswer if one failed."""
        self.board.beat()
        try:
            self.loop.tick()
        except (ServerGone, NoAnswer):  # not listening yet, or the model is not registered yet
            return False
        if self.loop.failed_starts:
            raise NoAnswer(f"a worker of {self.name!r} ended while it was loading the application")
        assert self.loop.state is not None
        workers = self.loop.state.workers
        return len(workers) >= self.loop.desired and all(row.ready for row in workers)

    def facts(self) -> dict[str, Any]:
        """What TorchServe reports about the model."""
        assert self.loop.state is not None
        return {key: value for key, value in self.loop.state.raw.items() if key != "workers"}

    def close(self) -> None:
        self.loop.close()
        self._api.close()


class Agent:
    """One deployment's agent: call ``run`` on the main thread, ``run_commands`` on another. ``specs``: front last."""

    def __init__(self, specs: Sequence[Spec], out: Emitter) -> None:
        self._specs, self._front, self._out = specs, specs[-1], out
        self._stop, self._control = threading.Event(), threading.Event()

    def run(self) -> None:
        """Wait for TorchServe, report ``ready``, then observe and control until standard input ends.

        Raises:
            ServerGone, NoAnswer: TorchServe did not start, or has ended.
        """
        keys = Path(self._front.keys)
        self._await(lambda: has_tokens(keys), "write its key file")
        token = read_token(keys, "management")
        parts = [ControlledModel(spec, token, self._out, self._connect) for spec in self._specs]
        try:
            wanted = ", ".join(f"{part.loop.desired} of {part.name!r}" for part in parts)
            # A list: every part is observed every time, so that no worker's start is seen late.
            self._await(
                lambda: all([part.first_workers_ready() for part in parts]),  # noqa: C419
                f"have its first workers ready ({wanted})",
            )
            models = {part.name: part.facts() for part in parts}
            facts = {"models": models} if len(parts) > 1 else {"model": models[parts[0].name]}
            self._out.ready(**facts)
            self._control_loop(parts)
        finally:
            for part in parts:
                part.close()

    def run_commands(self) -> None:
        """Execute the parent's commands until it is gone."""
        for command in commands():
            if command["command"] == "control":
                self._control.set()
            elif command["command"] == "warm-up":
                self._warm_up(Path(command["folder"]), int(command["rounds"]))
        self._stop.set()

    def _connect(self) -> Connection:
        token = read_token(Path(self._front.keys), "inference")
        return Connection(self._front.inference_port, token, _REQUEST_TIMEOUT_S)

    def _warm_up(self, folder: Path, rounds: int) -> None:
        """Send each body ``rounds`` times per initial worker, concurrently, as often as the component with the most
        initial workers needs."""
        workers = max(int(spec.controller["min_replicas"]) for spec in self._specs)
        bodies = [file.read_bytes() for file in sorted(folder.iterdir())] * rounds
        try:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(self._serve_all, [bodies] * workers))
        except (WarmUpFailed, NoAnswer, ServerGone) as error:
            self._out.failed(str(error), "warm-up", "the application must answer every body of the set")
        else:
            self._out.ready()

    def _serve_all(self, bodies: Sequence[bytes]) -> None:
        connection = self._connect()
        for number, body in enumerate(bodies):
            headers = {"Content-Type": "application/octet-stream"}
            status, answer = connection.ask("POST", f"/predictions/{self._front.component}", body, headers)
            if status != 200:
                raise WarmUpFailed(f"request {number}: {status} {answer[:200].decode(errors='replace')}")
        connection.close()

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + self._front.start_timeout_s
        while not condition():
            if time.monotonic() > until:
                raise NoAnswer(f"TorchServe did not {what} within {self._front.start_timeout_s:g} s")
            if self._stop.wait(0.05):
                raise SystemExit(0)

    def _control_loop(self, parts: Sequence[ControlledModel]) -> None:
        interval_s = min(spec.sample_interval_s for spec in self._specs)
        next_s = time.monotonic()
        answered_s = dict.fromkeys(parts, next_s)
        while not self._stop.wait(max(0.0, next_s - time.monotonic())):
            for part in parts:
                part.board.beat()
                part.loop.controlling = self._control.is_set()
                try:
                    part.loop.tick()
                    answered_s[part] = time.monotonic()
                except NoAnswer:
                    if time.monotonic() - answered_s[part] > _HUNG_AFTER_S:
                        raise
            # Absolute times; missed ticks are skipped.
            next_s += interval_s * max(1, math.ceil((time.monotonic() - next_s) / interval_s))


def main(argv: Sequence[str]) -> int:
    out = Emitter()
    agent = Agent(Spec.read(Path(argv[1])), out)
    threading.Thread(target=agent.run_commands, name="commands", daemon=True).start()
    try:
        agent.run()
    except ServerGone:
        out.failed("TorchServe's front end has ended: nothing listens on its port", "torchserve", "repeat the run")
    except NoAnswer as error:
        out.failed(str(error), "torchserve", "see the log lines; the host may be overloaded")
    except BrokenPipeError:
        return 1  # the parent is gone
    return 0


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stderr.flush()
    os._exit(code)  # a thread may still be reading standard input, at which Python's own shutdown would hang
