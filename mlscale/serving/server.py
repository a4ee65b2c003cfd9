"""The application's HTTP server, as it runs in its container.

POST /decode (a request's body, or what a calling component sends) answers with the model's JSON. GET /healthz: the
process lives; /readyz: the model has given its first answer; /metrics: counters. The event loop does all I/O, including
calls to other components; the model has its own thread (`inference`). Errors are JSON too: {"error": reason}.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import NoReturn

from aiohttp import HttpVersion11, web
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.typedefs import Handler

from mlscale.serving.calling import Caller
from mlscale.serving.exchange import CALL_TIMEOUT_S
from mlscale.serving.inference import Factory, InferenceResult, ModelContext, ModelThread, QueueFull, blank_png, dumps
from mlscale.serving.metrics import CONTENT_TYPE, Metrics

logger = logging.getLogger(__name__)

REPLICA_VARIABLE = "MLSCALE_REPLICA"
ECS_VARIABLE = "ECS_CONTAINER_METADATA_URI_V4"


@dataclass(frozen=True)
class ServerSettings:
    """Limits and identity of a server. Sizes in bytes, times in s."""

    max_body_bytes: int = 10_000_000
    """A larger body is refused with 413."""
    waiting: int = 100
    """Requests that may wait in addition to the one in service; more get 503 with Retry-After."""
    body_timeout_s: float = 20.0
    """From a request's head to the end of its body; longer gets 408."""
    buffered_bytes: int = 256 * 2**20
    """Total size of bodies being received or waiting; more get 503, so that slow senders can't fill the memory."""
    drain_s: float = 20.0
    """Time after SIGTERM to finish requests in flight."""
    in_flight_window_s: float = 1.6
    """What mlscale_in_flight_mean is the mean over."""
    warm_up: bytes = field(default_factory=blank_png, repr=False)
    """The body of the first request, which the server makes itself."""
    replica: str = field(
        default_factory=lambda: (
            os.environ.get(REPLICA_VARIABLE)
            or os.environ.get(ECS_VARIABLE, "").rpartition("/")[2]
            or f"{socket.gethostname()}-{os.getpid()}"
        )
    )
    """Value of X-Mlscale-Replica: $MLSCALE_REPLICA if set (Kubernetes: the pod's name); on ECS the container's runtime
    id, the last part of its metadata address."""
    component: str = ""
    """Its name if it calls other components; answers then have the header X-Mlscale-Hops."""
    calls: Mapping[str, str] = field(default_factory=dict)
    """Component that it calls -> URL that bodies are POSTed to."""
    call_timeout_s: float = CALL_TIMEOUT_S
    """After this a called component counts as unreachable, which gets 503."""


class _Refused(Exception):  # noqa: N818 (an answer, not an error of ours)
    """A request that never reaches the model."""

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}


class Service:
    """The handlers and what they share."""

    def __init__(self, factory: Factory, settings: ServerSettings, on_ready: Callable[[], None]) -> None:
        self.settings = settings
        self.model = ModelThread(factory, settings.waiting, settings.warm_up, on_ready)
        self.metrics = Metrics(settings.in_flight_window_s)
        self.draining = False
        self._buffered = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def until_idle(self) -> None:
        """Wait until no request is in flight."""
        await self._idle.wait()

    async def decode(self, request: web.Request) -> web.Response:
        """Answer one request, and count it however it ends."""
        self.metrics.in_flight.change(1)
        self._idle.clear()
        status = "aborted"
        try:
            response = await self._decode(request)
            status = str(response.status)
            return response
        finally:
            self.metrics.requests[status] += 1
            self.metrics.in_flight.change(-1)
            if not self.metrics.in_flight.now:
                self._idle.set()

    async def _decode(self, request: web.Request) -> web.Response:
        held = [0]
        try:
            self._admit(request)
            body = await self._read(request, held)
            outcome = await self._result_of(self._submit(body))
        except _Refused as refusal:
            response = self._json(refusal.status, dumps({"error": refusal.reason}), refusal.headers)
            if not request.content.at_eof():
                response.force_close()  # nobody needs the rest of the body
            return response
        finally:
            self._buffered -= held[0]
        self.metrics.inference.add(outcome.inference_s)
        self.metrics.queue.add(outcome.queue_s)
        headers = {**outcome.headers, "X-Mlscale-Queue-S": f"{outcome.queue_s:.6f}"}
        return self._json(outcome.status, outcome.body, headers)

    def _admit(self, request: web.Request) -> None:
        """Refuse what can be refused by its head alone, before its body costs anything."""
        size = request.content_length
        if size is not None and size > self.settings.max_body_bytes:
            self._too_large()
        if request.content_type.startswith("multipart/"):
            raise _Refused(415, "a form was sent; send the bytes as the body: curl --data-binary @FILE")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise _Refused(415, "compressed bodies are not taken")
        if not self.model.ready:
            raise _Refused(503, "the model is still loading", {"Retry-After": "1"})
        if self.model.full:
            self._busy()

    async def _read(self, request: web.Request, held: list[int]) -> bytes:
        """The body. ``held[0]`` counts its bytes in memory, which the caller has to release."""
        chunks = []
        try:
            async with asyncio.timeout(self.settings.body_timeout_s):
                async for chunk in request.content.iter_any():
                    held[0] += len(chunk)
                    self._buffered += len(chunk)
                    if held[0] > self.settings.max_body_bytes:
                        self._too_large()
                    if self._buffered > self.settings.buffered_bytes:
                        self._busy()
                    chunks.append(chunk)
        except TimeoutError:
            limit = self.settings.body_timeout_s
            raise _Refused(408, f"the body did not arrive within {limit:g} s") from None
        except (web.RequestPayloadError, HttpProcessingError) as error:
            raise _Refused(400, f"the body is malformed: {first_line(str(error))}") from None
        if not held[0]:
            raise _Refused(400, "the body is empty; send the bytes to answer")
        return b"".join(chunks)

    def _submit(self, body: bytes) -> Future[InferenceResult]:
        try:
            return self.model.submit(body)
        except QueueFull:
            self._busy()

    async def _result_of(self, future: Future[InferenceResult]) -> InferenceResult:
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self.model.drop(future)
            raise

    def _too_large(self) -> NoReturn:
        raise _Refused(413, f"the body is over the limit of {self.settings.max_body_bytes} bytes")

    def _busy(self) -> NoReturn:
        raise _Refused(503, "too many requests are waiting", {"Retry-After": str(self.model.retry_after_s)})

    def _json(self, status: int, body: bytes, headers: Mapping[str, str]) -> web.Response:
        response = web.Response(status=status, body=body, content_type="application/json", headers=headers)
        response.headers["X-Mlscale-Replica"] = self.settings.replica
        if self.draining:
            response.force_close()
        return response

    async def healthz(self, _: web.Request) -> web.Response:
        """200 as long as the process answers."""
        return self._json(200, dumps({"status": "alive"}), {})

    async def readyz(self, _: web.Request) -> web.Response:
        """200 from the model's first answer until SIGTERM."""
        if self.draining:
            return self._json(503, dumps({"status": "draining"}), {})
        if self.model.ready:
            return self._json(200, dumps({"status": "ready"}), {})
        return self._json(503, dumps({"status": "failed" if self.model.loaded.done() else "loading"}), {})

    async def metrics_page(self, _: web.Request) -> web.Response:
        """Prometheus' text format."""
        page = self.metrics.text(self.model.open, self.model.ready)
        return web.Response(body=page.encode(), headers={"Content-Type": CONTENT_TYPE})

    async def expect(self, request: web.Request) -> web.Response | None:
        """Answer ``Expect: 100-continue``: no client sends a body that will be refused."""
        if request.method == "POST" and request.version == HttpVersion11:
            try:
                self._admit(request)
            except _Refused:
                return None  # the handler refuses it, before the client sends the body
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        return None


SERVICE = web.AppKey("service", Service)


def create_app(
    factory: Factory, settings: ServerSettings | None = None, on_ready: Callable[[], None] = lambda: None
) -> web.Application:
    """The application; its model begins to load when the application starts.

    Args:
        factory: makes the model, a callable of bytes that returns something JSON-able (see `ModelThread`).
        settings: None: the defaults.
        on_ready: see `ModelThread`.

    Run it with ``handler_cancellation=True`` and ``auto_decompress=False``, as `mlscale.serving.serve.serve` does;
    otherwise requests of disconnected clients are still computed, and bodies are unpacked before their size is known.
    """
    service = Service(factory, settings or ServerSettings(), on_ready)
    app = web.Application(middlewares=[_json_errors])
    app[SERVICE] = service
    app.router.add_post("/decode", service.decode, expect_handler=service.expect)
    app.router.add_get("/healthz", service.healthz)
    app.router.add_get("/readyz", service.readyz)
    app.router.add_get("/metrics", service.metrics_page)

    app.cleanup_ctx.append(_run_model)
    return app


async def _run_model(app: web.Application) -> AsyncIterator[None]:
    service = app[SERVICE]
    settings = service.settings
    caller = Caller(settings.calls, settings.call_timeout_s) if settings.calls else None
    service.model.start(ModelContext(settings.replica, settings.component, caller.begin if caller else None))
    yield
    if caller is not None:
        await caller.close()


@web.middleware
async def _json_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """404, 405 and the like as JSON; our own bugs are logged, and the client sees no details."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        headers = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        status, reason = error.status, f"{error.reason}: {request.method} {request.path}"
    except ConnectionError as error:
        raise asyncio.CancelledError from error  # the client disconnected: nobody to answer
    except Exception:
        logger.exception("%s %s failed", request.method, request.path)
        status, reason, headers = 500, "internal error; the server's log has the reason", {}
    body = dumps({"error": reason})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def first_line(text: str) -> str:
    """The first line of an error's text, for a reason; at most 200 characters."""
    return (text.strip().splitlines() or ["broken transfer"])[0].rstrip(":")[:200]
