"""The deployments: the front behind Ray Serve's HTTP proxy, and components that are called by handle. Runs in replicas,
inside their CPU quotas."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.exceptions import RayServeException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from mlscale.serving.exchange import CALL_TIMEOUT_S, TOO_LATE, Call, Exchange, Reply, load_entry


class Model:
    """One component. ``entry`` is "package.module:factory"; ``named_by_ray``: answers name their replica as Ray does,
    else by its process; ``handles``: of the components that it calls.

    Inference blocks the replica's user loop on purpose: one inference at a time, on one thread. While it waits for a
    call, the replica may serve another request if max_ongoing_requests allows it.
    """

    def __init__(self, component: str, entry: str, named_by_ray: bool, **handles: Any) -> None:
        self._answer = load_entry(entry)
        by_ray = named_by_ray and serve.get_replica_context().replica_id.unique_id
        self._replica = by_ray or f"replica-{os.getpid()}"
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
    """Answers POSTed bodies with the component's JSON, and a GET with what limits this replica."""

    async def __call__(self, request: Request) -> Response:
        if request.method == "GET":
            return JSONResponse(limits())
        reply = await self._reply(await request.body())
        return Response(reply.body, reply.status, dict(reply.headers), "application/json")


def limits() -> dict[str, Any]:
    """What limits this process: cores that it may run on, the CPU quota of its control group as the kernel writes it
    (None: it has none, or can't be read), threads of numeric libraries, its node."""
    quotas = (Path("/sys/fs/cgroup/cpu.max"), Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"))
    return {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "cpu_quota": next((file.read_text().strip() for file in quotas if file.exists()), None),
        "omp_num_threads": os.environ.get("OMP_NUM_THREADS"),
        "node": platform.node(),
        "python": platform.python_version(),
    }
