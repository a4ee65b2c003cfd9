"""The deployment: one component behind Ray Serve's HTTP proxy. Runs in a replica, inside its CPU quota."""

from __future__ import annotations

import logging
import os

from starlette.requests import Request
from starlette.responses import Response

from mlscale.environments.serve_app import load_entry, reply_to


class Front:
    """Answers POSTed bodies with the component's JSON. ``entry`` is "package.module:factory"."""

    def __init__(self, entry: str) -> None:
        self._answer = load_entry(entry)
        self._replica = f"replica-{os.getpid()}"

    async def __call__(self, request: Request) -> Response:
        """Inference blocks the replica's user loop on purpose: one inference at a time, on one thread."""
        reply = reply_to(self._answer, await request.body(), self._replica)
        if reply.error is not None:
            logging.getLogger("ray.serve").error("inference failed", exc_info=reply.error)
        return Response(reply.body, reply.status, dict(reply.headers), "application/json")
