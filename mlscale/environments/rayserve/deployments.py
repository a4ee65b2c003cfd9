"""The deployments: the front behind Ray Serve's HTTP proxy, and components that are called by handle. Runs in replicas,
inside their CPU quotas."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Mapping
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.requests import Request
from starlette.responses import Response

from mlscale.serving.exchange import CALL_TIMEOUT_S, TOO_LATE, Call, Exchange, Reply, load_entry


class Model:
    """One component. ``entry`` is "package.module:factory"; ``handles``: of the components that it calls.

    Inference blocks the replica's user loop on purpose: one inference at a time, on one thread. While it waits for a
    call, the replica may serve another request if max_ongoing_requests allows it.
    """

    def __init__(self, component: str, entry: str, **handles: Any) -> None:
        self._answer = load_entry(entry)
        self._replica = f"replica-{os.getpid()}"
        self._component = component if handles else ""
        self._handles = handles

    async def answer(self, body: bytes) -> tuple[int, bytes, Mapping[str, str]]:
        """For other components: status, body and headers."""
        reply = await self._reply(body)
        return reply.status, reply.body, reply.headers

    async def _reply(self, body: bytes) -> Reply:
        exchange = Exchange(self._answer, body, self._replica, self._component)
        try:
            step = exchange.begin()
            while isinstance(step, Call):
                step = await self._execute(exchange, step)
        finally:  # also if the client disconnects, which cancels this
            exchange.close()
        if step.error is not None:
            logging.getLogger("ray.serve").error("inference failed", exc_info=step.error)
        return step

    async def _execute(self, exchange: Exchange, call: Call) -> Call | Reply:
        handle = self._handles.get(call.component)
        if handle is None:
            return exchange.fail("is not among its calls")
        response = handle.answer.remote(call.body)
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                status, body, headers = await response
        except TimeoutError:
            response.cancel()
            return exchange.fail(TOO_LATE)
        except asyncio.CancelledError:
            response.cancel()
            raise
        except (RayError, RayServeException) as error:
            return exchange.fail(f"is not reachable: {type(error).__name__}")
        return exchange.resume(status, body, headers)


class Front(Model):
    """Answers POSTed bodies with the component's JSON."""

    async def __call__(self, request: Request) -> Response:
        reply = await self._reply(await request.body())
        return Response(reply.body, reply.status, dict(reply.headers), "application/json")
