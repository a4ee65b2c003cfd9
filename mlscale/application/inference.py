"""One model in one thread: requests wait in a bounded queue and are answered one at a time, in order of arrival."""

from __future__ import annotations

import json
import logging
import math
import queue
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from mlscale.application.errors import ApplicationError

Answer = Callable[[bytes], Mapping[str, Any]]
Factory = Callable[[], Answer]

logger = logging.getLogger(__name__)


class QueueFull(Exception):  # noqa: N818 (said to the client as a reason, not an error of ours)
    """As many requests wait as may wait."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one inference gave. Times in s; ``started_s`` on time.monotonic(), ``cpu_s`` of the model's thread."""

    status: int
    body: bytes
    queue_s: float
    started_s: float
    inference_s: float
    cpu_s: float


class ModelThread:
    """Loads a model and answers with it, in a thread of its own (a daemon: a model that hangs can't stop the exit).

    Args:
        factory: makes the model; called in the thread. The model takes bytes and returns something JSON-able; a
            ValueError of it is the sender's fault (its ``http_status`` where that is a 4xx, else 400; its ``reason``,
            else its text), anything else raised is 500 and is logged.
        waiting: how many requests may wait beside the one in service.
        warm_up: the body of the first request, which is answered before the model counts as ready.
    """

    def __init__(self, factory: Factory, waiting: int, warm_up: bytes) -> None:
        self._factory = factory
        self._limit = waiting + 1
        self._warm_up = warm_up
        self._jobs: queue.SimpleQueue[tuple[bytes, float, Future[Outcome]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._mean_s = 0.0
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.loaded: Future[None] = Future()
        """Done when the model has given its first answer; else holds why it can't (an ApplicationError)."""

    def start(self) -> None:
        """Start loading."""
        self._thread.start()

    @property
    def ready(self) -> bool:
        """Whether the model is loaded and has given its first answer."""
        return self.loaded.done() and self.loaded.exception() is None

    @property
    def open(self) -> int:
        """Requests waiting or in service."""
        return self._open

    @property
    def full(self) -> bool:
        """Whether `submit` would refuse now."""
        return self._open >= self._limit

    @property
    def retry_after_s(self) -> int:
        """When the queue of now will have been served, whole s, 1 to 30."""
        return min(30, max(1, math.ceil(self._open * self._mean_s)))

    def submit(self, body: bytes) -> Future[Outcome]:
        """Queue one request; a future that is cancelled before its turn is never computed.

        Raises:
            QueueFull: too many wait.
        """
        future: Future[Outcome] = Future()
        with self._lock:
            if self.full:
                raise QueueFull
            self._open += 1
        future.add_done_callback(self._closed)
        self._jobs.put((body, time.monotonic(), future))
        return future

    def stop(self, at_most_s: float) -> bool:
        """End the thread after the requests that were queued; False where it still runs after ``at_most_s``."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(at_most_s)
        return not self._thread.is_alive()

    def _closed(self, _: Future[Outcome]) -> None:
        with self._lock:
            self._open -= 1

    def _run(self) -> None:
        try:
            answer = self._load()
        except ApplicationError as error:
            self.loaded.set_exception(error)
            return
        except BaseException as error:  # a SystemExit of a factory too: who waits has to hear of it
            logger.exception("the model can't be loaded")
            what = f"it can't be loaded: {type(error).__name__}: {error}"
            self.loaded.set_exception(ApplicationError(what, "model", "the lines above say where"))
            return
        self.loaded.set_result(None)
        while (job := self._jobs.get()) is not None:
            body, submitted_s, future = job
            if not future.set_running_or_notify_cancel():
                continue
            outcome = infer(answer, body, submitted_s)
            self._mean_s = 0.9 * self._mean_s + 0.1 * outcome.inference_s if self._mean_s else outcome.inference_s
            future.set_result(outcome)

    def _load(self) -> Answer:
        answer = self._factory()
        if "torch" in sys.modules:  # one inference thread: OpenMP's own would fight over the CPU quota of a replica
            sys.modules["torch"].set_num_threads(1)
        first = infer(answer, self._warm_up, time.monotonic())
        if first.status == 500:
            raise ApplicationError(
                "the model fails on its first request, see above",
                "warm-up",
                "give a body that it can answer: --warm-up FILE",
            )
        return answer


def infer(answer: Answer, body: bytes, submitted_s: float) -> Outcome:
    """Call the model once; never raises. Errors of the model are logged, their text does not go to the client."""
    started, cpu = time.monotonic(), time.thread_time()
    try:
        status, content = 200, dumps(dict(answer(body)))
    except _NoJSONError:
        logger.exception("the model's answer is no JSON")
        status, content = 500, dumps({"error": "the model failed on this body; the server's log has the reason"})
    except ValueError as fault:
        code = getattr(fault, "http_status", 400)
        status = code if isinstance(code, int) and 400 <= code < 500 else 400
        content = dumps({"error": str(getattr(fault, "reason", None) or fault or "bad input")})
    except BaseException:  # a SystemExit of a model must not end the server either
        logger.exception("the model failed on a body of %d bytes", len(body))
        status, content = 500, dumps({"error": "the model failed on this body; the server's log has the reason"})
    return Outcome(
        status, content, started - submitted_s, started, time.monotonic() - started, time.thread_time() - cpu
    )


class _NoJSONError(Exception):
    """Of our own, since json's ValueError would read as the sender's fault."""


def dumps(content: Mapping[str, Any]) -> bytes:
    """JSON bytes. NaN and infinity, which JSON has not, are refused."""
    try:
        return json.dumps(content, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _NoJSONError(str(error)) from error


def blank_png(width: int = 640, height: int = 480) -> bytes:
    """A grey PNG: the body of the warm-up request where none is given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
