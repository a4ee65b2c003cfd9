"""A small external.metrics.k8s.io: requests in flight of mlscale's pods, for the HorizontalPodAutoscaler.

``python -m onenode.external_metrics``, a part of our own node. It follows the pods labelled as mlscale's, asks each
ready one twice a second for its gauge, and answers the API server, which alone (or somebody with a certificate of the
cluster's) can speak to it. Registered on our own cluster only: elsewhere it would displace what is there.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import ssl
import sys
import time
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, web

from mlscale.environments.kubernetes_names import COMPONENT, IN_FLIGHT, MANAGED_BY, PORT, TOOL
from onenode.in_flight_samples import (
    GROUP,
    VERSION,
    Flights,
    Pod,
    api_group,
    asked_for,
    gauge,
    pod_of,
    resource_list,
    value_list,
)
from onenode.list_watch import Following

logger = logging.getLogger(__name__)

_PERIOD_S: Final = 0.5
_ANSWER_S: Final = 2.0
_SELECTOR: Final = f"{MANAGED_BY}={TOOL}"


class Source:
    """Follows the pods and samples their gauges."""

    def __init__(self, server: str, context: ssl.SSLContext, pod_port: int = PORT) -> None:
        self.flights = Flights()
        self.pods = Following(server, context, "api/v1/pods", {"labelSelector": _SELECTOR})
        self._port = pod_port
        self._asking: set[Pod] = set()

    async def sample(self) -> None:
        """Ask every pod, twice a second by absolute times; one that has not answered yet is not asked again."""
        async with ClientSession(timeout=ClientTimeout(total=_ANSWER_S)) as session:
            due = time.monotonic()
            tasks: set[asyncio.Task[None]] = set()
            while True:
                pods = self._ready()
                for pod in pods - self._asking:
                    self._asking.add(pod)
                    task = asyncio.create_task(self._ask(session, pod))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                self.flights.forget(pods)
                due = max(due + _PERIOD_S, time.monotonic())
                await asyncio.sleep(due - time.monotonic())

    async def _ask(self, session: ClientSession, pod: Pod) -> None:
        try:
            async with session.get(pod.address) as response:
                value = gauge(await response.text())
            if value is not None:
                self.flights.add(pod, time.monotonic(), value)
        except (ClientError, TimeoutError) as error:
            logger.info("%s does not say: %s", pod.name, error)
        finally:
            self._asking.discard(pod)

    def _ready(self) -> set[Pod]:
        found = (pod_of(each, COMPONENT, self._port) for each in self.pods.objects.values())
        return {pod for pod in found if pod is not None}


def create_app(source: Source) -> web.Application:
    """The API's routes; following and sampling begin when the application starts."""

    async def values(request: web.Request) -> web.Response:
        try:
            asked = asked_for(request.query.get("labelSelector", ""))
        except ValueError as error:
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "BadRequest", "code": 400}
            return web.json_response(body | {"message": str(error)}, status=400)
        total = source.flights.total(request.match_info["namespace"], asked, time.monotonic())
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return web.json_response(value_list(asked, total, moment))

    async def alive(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def discovery(_: web.Request) -> web.Response:
        return web.json_response(resource_list())

    async def group(_: web.Request) -> web.Response:
        return web.json_response(api_group())

    async def background(app: web.Application) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(source.pods.run()), asyncio.create_task(source.sample())]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    app = web.Application()
    app.router.add_get("/livez", alive)
    app.router.add_get(f"/apis/{GROUP}", group)
    app.router.add_get(f"/apis/{GROUP}/{VERSION}", discovery)
    app.router.add_get(f"/apis/{GROUP}/{VERSION}/namespaces/{{namespace}}/{IN_FLIGHT}", values)
    app.cleanup_ctx.append(background)
    return app


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m onenode.external_metrics", description=main.__doc__)
    for name, text in (
        ("--api-server", "URL of the API server"),
        ("--api-ca", "certificate of the authority that signed the API server's"),
        ("--api-cert", "client certificate for the API server"),
        ("--api-key", "its key"),
        ("--address", "address to listen on"),
        ("--port", "port to listen on"),
        ("--cert", "certificate of this server"),
        ("--key", "its key"),
    ):
        parser.add_argument(name, required=True, help=text)
    parser.add_argument("--client-ca", action="append", required=True, help="authority whose clients may ask")
    given = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    outward = ssl.create_default_context(cafile=given.api_ca)
    outward.load_cert_chain(given.api_cert, given.api_key)
    inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inward.load_cert_chain(given.cert, given.key)
    inward.verify_mode = ssl.CERT_REQUIRED
    for authority in given.client_ca:
        inward.load_verify_locations(authority)
    app = create_app(Source(given.api_server, outward))
    web.run_app(app, host=given.address, port=int(given.port), ssl_context=inward, access_log=None, print=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
