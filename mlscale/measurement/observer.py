"""Records what an environment reports during a run, in its own thread."""

from __future__ import annotations

import threading
from typing import Self

from mlscale.environments import Deployed
from mlscale.runs import RunClock, RunWriter


class Observer:
    """``with Observer(...)``: inside the block, every observation goes to the writer.

    If observing fails, `check` raises the error in the caller's thread.
    """

    def __init__(self, deployed: Deployed, clock: RunClock, writer: RunWriter) -> None:
        self._deployed = deployed
        self._clock = clock
        self._writer = writer
        self._stop = threading.Event()
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._stop.set()
        self._thread.join(timeout=_STOP_S)
        if kind is None:
            self.check()

    def wait(self, seconds: float) -> None:
        """Wait ``seconds``, or until observation ends by itself.

        Raises:
            ObservationLost, or whatever other error observation ended with.
        """
        self._ended.wait(max(seconds, 0.0))
        self.check()

    def check(self) -> None:
        """Raise the error that observation ended with, if any."""
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            for observation in self._deployed.observe(self._clock, self._stop):
                self._writer.observe(observation)
        except Exception as error:  # handed to the caller's thread by check()
            self._error = error
        finally:
            self._ended.set()


# How long an environment may take to stop observing, s.
_STOP_S = 15.0
