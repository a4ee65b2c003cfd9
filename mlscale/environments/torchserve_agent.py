"""The agent of TorchServe: watches the workers, lets the worker controller decide, and carries decisions out.

Runs in the sandbox (``python -m mlscale.environments.torchserve_agent SPEC.json``), speaks the protocol of emit.py on
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
from typing import Final

from mlscale.environments.emit import Emitter, commands
from mlscale.environments.torchserve_api import (
    Connection,
    ManagementApi,
    ModelState,
    NoAnswer,
    ServerGone,
    has_tokens,
    read_token,
)
from mlscale.environments.torchserve_board import Board
from mlscale.environments.torchserve_drain import Drain
from mlscale.environments.torchserve_loop import Loop, Spec, Watch

_DEAF_S: Final = 10.0  # TorchServe answers no question for this long: it hangs
_REQUEST_TIMEOUT_S: Final = 60.0


class Refused(Exception):  # noqa: N818 (it says what happened)
    """The application did not answer a warm-up request with 200."""


class Agent:
    """One deployment's agent: ``run`` on the main thread, ``obey`` on another."""

    def __init__(self, spec: Spec, out: Emitter) -> None:
        self._spec, self._out = spec, out
        self._stop, self._control = threading.Event(), threading.Event()

    def run(self) -> None:
        """Wait for TorchServe, report ``ready``, then watch and steer until standard input ends.

        Raises:
            ServerGone, NoAnswer: TorchServe did not start, or it is gone.
        """
        spec = self._spec
        self._await(lambda: has_tokens(Path(spec.keys)), "write its key file")
        token = read_token(Path(spec.keys), "management")
        board = Board(Path(spec.board))
        api = ManagementApi(spec.management_port, token, spec.model)
        numbers = itertools.count(1)

        def begin_drain(state: ModelState) -> Drain:
            management = ManagementApi(spec.management_port, token, spec.model)
            return Drain(board, lambda: next(numbers), self._connect, management, spec.model, state.workers)

        loop = Loop(spec, self._out, Watch(spec, board, api), api, begin_drain)
        try:
            self._await(lambda: self._begun(loop, board), f"have {loop.desired} worker(s) ready")
            assert loop.state is not None
            self._out.ready(model={key: value for key, value in loop.state.raw.items() if key != "workers"})
            self._steer(loop, board)
        finally:
            loop.close()
            api.close()

    def obey(self) -> None:
        """Carry out the parent's commands until it is gone."""
        for command in commands():
            if command["command"] == "control":
                self._control.set()
            elif command["command"] == "warm-up":
                self._warm_up(Path(command["folder"]), int(command["rounds"]))
        self._stop.set()

    def _connect(self) -> Connection:
        token = read_token(Path(self._spec.keys), "inference")
        return Connection(self._spec.inference_port, token, _REQUEST_TIMEOUT_S)

    def _warm_up(self, folder: Path, rounds: int) -> None:
        """Each body ``rounds`` times for each of the first workers, which are kept busy side by side."""
        workers = int(self._spec.controller["min_replicas"])
        bodies = [file.read_bytes() for file in sorted(folder.iterdir())] * rounds
        try:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(self._serve_all, [bodies] * workers))
        except (Refused, NoAnswer, ServerGone) as error:
            self._out.failed(str(error), "warm-up", "the application must answer every photo of the set")
        else:
            self._out.ready()

    def _serve_all(self, bodies: Sequence[bytes]) -> None:
        connection = self._connect()
        for number, body in enumerate(bodies):
            headers = {"Content-Type": "application/octet-stream"}
            status, answer = connection.ask("POST", f"/predictions/{self._spec.model}", body, headers)
            if status != 200:
                raise Refused(f"request {number}: {status} {answer[:200].decode(errors='replace')}")
        connection.close()

    def _await(self, condition: Callable[[], bool], what: str) -> None:
        until = time.monotonic() + self._spec.start_timeout_s
        while not condition():
            if time.monotonic() > until:
                raise NoAnswer(f"TorchServe did not {what} within {self._spec.start_timeout_s:g} s")
            if self._stop.wait(0.05):
                raise SystemExit(0)

    def _begun(self, loop: Loop, board: Board) -> bool:
        """Whether the first workers are ready. Raises NoAnswer when one failed."""
        board.beat()
        try:
            loop.tick()
        except (ServerGone, NoAnswer):  # not listening yet, or the model is not registered yet
            return False
        if loop.failed_starts:
            raise NoAnswer("a worker ended while it was loading the application")
        assert loop.state is not None
        return len(loop.state.workers) >= loop.desired and all(row.ready for row in loop.state.workers)

    def _steer(self, loop: Loop, board: Board) -> None:
        interval_s = self._spec.sample_interval_s
        next_s = answered_s = time.monotonic()
        while not self._stop.wait(max(0.0, next_s - time.monotonic())):
            board.beat()
            loop.controlling = self._control.is_set()
            try:
                loop.tick()
                answered_s = time.monotonic()
            except NoAnswer:
                if time.monotonic() - answered_s > _DEAF_S:
                    raise
            # Absolute times; ticks that were missed are not made up for.
            next_s += interval_s * max(1, math.ceil((time.monotonic() - next_s) / interval_s))


def main(argv: Sequence[str]) -> int:
    out = Emitter()
    agent = Agent(Spec.read(Path(argv[1])), out)
    threading.Thread(target=agent.obey, name="commands", daemon=True).start()
    try:
        agent.run()
    except ServerGone:
        out.failed("TorchServe's front end is gone: nobody listens at its port", "torchserve", "repeat the run")
    except NoAnswer as error:
        out.failed(str(error), "torchserve", "see the log lines; the host may be overloaded")
    except BrokenPipeError:
        return 1  # the parent is gone
    return 0


if __name__ == "__main__":
    code = main(sys.argv)
    sys.stderr.flush()
    os._exit(code)  # a thread may still read standard input, which Python's own end would trip over
