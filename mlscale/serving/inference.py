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
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mlscale.errors import MlscaleError, as_user_error
from mlscale.serving.exchange import Answer, Answered, Call, Reply, reply_to

Factory = Callable[[], Answer]
Begin = Callable[[Call], Future[Answered]]

logger = logging.getLogger(__name__)


class QueueFull(Exception):  # noqa: N818 (reported to the client, not an error of ours)
    """The maximum number of requests is waiting."""


@dataclass(frozen=True, slots=True)
class InferenceResult:
    """The result of one inference: HTTP status, JSON body, the X-Mlscale-* headers of `Exchange`; times in s."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    queue_s: float
    inference_s: float


@dataclass(frozen=True, slots=True)
class ModelContext:
    """The model's replica and, if it calls other components, its component's name and the function to start a call."""

    replica: str = ""
    component: str = ""
    begin: Begin | None = None


@dataclass(eq=False, slots=True)
class _Job:
    """A request. A cancelled one stays in the queue until its turn, but its body is released at once."""

    body: bytes
    submitted_s: float = field(default_factory=time.monotonic)
    future: Future[InferenceResult] = field(default_factory=Future)


class ModelThread:
    """Loads a model and runs it in its own thread (a daemon, so that a hanging model can't prevent exit).

    A model that calls other components (`Exchange`) holds the thread while it waits for their answers: a replica
    serves one request at a time.

    Args:
        factory: makes the model; called in the thread. The model takes bytes and returns something JSON-able, or a
            generator of calls; for its errors see `Exchange`; those of status 500 are logged.
        waiting: requests that may wait in addition to the one in service.
        warm_up: the body of the first request, which is answered before the model counts as ready, but only up to its
            first call: a component must not have to wait for others to become ready.
        on_ready: called in the model's thread after that answer, before anyone is told that the model is ready.
    """

    def __init__(
        self, factory: Factory, waiting: int, warm_up: bytes, on_ready: Callable[[], None] = lambda: None
    ) -> None:
        self._factory, self._on_ready = factory, on_ready
        self._limit = waiting + 1
        self._warm_up = warm_up
        self._context = ModelContext()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._open = 0
        self._mean_s = 0.0
        self._served: Future[InferenceResult] | None = None
        self._called: Future[Answered] | None = None
        self._dropped = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self.loaded: Future[None] = Future()
        """Done when the model has answered its first request; else its exception (MlscaleError) says why it can't."""

    def start(self, context: ModelContext) -> None:
        """Start loading."""
        self._context = context
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
        """Estimated time until the current queue has been served: whole seconds, 1 to 30."""
        return min(30, max(1, math.ceil(self._open * self._mean_s)))

    def submit(self, body: bytes) -> Future[InferenceResult]:
        """Queue one request; one that is cancelled before its turn is never computed.

        Raises:
            QueueFull: too many wait.
        """
        with self._lock:
            if self.full:
                raise QueueFull
            self._open += 1
        job = _Job(body)
        job.future.add_done_callback(partial(self._closed, job))
        self._jobs.put(job)
        return job.future

    def drop(self, future: Future[InferenceResult]) -> None:
        """Give up a request whose answer is no longer wanted: skip it if queued, cancel the call it is waiting for."""
        if future.cancel():
            return
        with self._lock:
            if self._served is future:
                self._dropped = True
                if self._called is not None:
                    self._called.cancel()

    def stop(self, at_most_s: float) -> bool:
        """End the thread after the queued requests; False if it is still running after ``at_most_s``."""
        self._jobs.put(None)
        if self._thread.is_alive():
            self._thread.join(at_most_s)
        return not self._thread.is_alive()

    def _closed(self, job: _Job, _: Future[InferenceResult]) -> None:
        job.body = b""
        with self._lock:
            self._open -= 1

    def _run(self) -> None:
        try:
            answer = self._load()
            self._on_ready()
        except BaseException as error:  # even a factory's SystemExit: waiting callers need a result
            known = as_user_error(error)
            if known is None:
                logger.exception("the model can't be loaded")
                what = f"it can't be loaded: {type(error).__name__}: {error}"
                known = MlscaleError(what, "model", "the lines above say where")
            self.loaded.set_exception(known)
            return
        self.loaded.set_result(None)
        while (job := self._jobs.get()) is not None:
            with self._lock:
                if not job.future.set_running_or_notify_cancel():
                    continue
                self._served, self._dropped = job.future, False
            outcome = infer(
                answer, job.body, job.submitted_s, self._context, self._carry if self._context.begin else None
            )
            self._mean_s = 0.9 * self._mean_s + 0.1 * outcome.inference_s if self._mean_s else outcome.inference_s
            job.future.set_result(outcome)

    def _carry(self, call: Call) -> Answered:
        """Make a call. Raises CancelledError if its answer is no longer wanted, else what `Begin`'s future raises."""
        assert self._context.begin is not None
        with self._lock:
            if self._dropped:
                raise CancelledError
            called = self._called = self._context.begin(call)
        try:
            return called.result()
        finally:
            with self._lock:
                self._called = None

    def _load(self) -> Answer:
        answer = self._factory()
        if "torch" in sys.modules:  # one inference thread: OpenMP's own would fight over the CPU quota of a replica
            sys.modules["torch"].set_num_threads(1)
        first = infer(answer, self._warm_up, time.monotonic(), self._context, _no_call)
        if first.status == 500:
            raise MlscaleError(
                "the model fails on its first request, see above",
                "warm-up",
                "give it a valid body: --warm-up FILE",
            )
        return answer


def _no_call(_: Call) -> Answered:
    raise CancelledError


def infer(
    answer: Answer, body: bytes, submitted_s: float, context: ModelContext, carry: Callable[[Call], Answered] | None
) -> InferenceResult:
    """Call the model once; never raises. The model's errors are logged; their text is not sent to the client.

    Args:
        carry: makes the model's calls; None: calls fail.
    """
    started_s = time.monotonic()
    try:
        reply = reply_to(answer, body, context.replica, context.component, carry)
    except CancelledError:
        reply = Reply(503, dumps({"error": "given up"}))
    except BaseException as error:  # even a model's SystemExit must not end the server
        reply = Reply(500, b"", error=error)
    content = reply.body
    if reply.error is not None:
        logger.error("the model failed on a body of %d bytes", len(body), exc_info=reply.error)
        content = dumps({"error": "the model failed on this body; the server's log has the reason"})
    return InferenceResult(reply.status, content, reply.headers, started_s - submitted_s, reply.inference_s)


def dumps(content: Mapping[str, Any]) -> bytes:
    """``content`` as JSON bytes, as the server's own answers are sent."""
    return json.dumps(content).encode()


def blank_png() -> bytes:
    """A grey PNG, the default warm-up body. Made without Pillow, which the server must not need."""
    width, height = 640, 480

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    pixels = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
