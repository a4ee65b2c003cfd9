"""A small external.metrics.k8s.io: requests in flight of mlscale's pods, for the HorizontalPodAutoscaler.

``python -m onenode.external_metrics``, a part of the cluster's node. It watches the pods labelled as mlscale's, reads
the gauge of each ready one twice a second, and serves the API server; clients need a certificate of the cluster.
Registered on our own cluster only: elsewhere it would replace the API that is there.
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

from mlscale.environments.kubernetes.names import COMPONENT, IN_FLIGHT, MANAGED_BY, PORT, TOOL
from mlscale.environments.kubernetes.paths import path_of
from onenode.in_flight_samples import (
    GROUP,
    VERSION,
    InFlightSamples,
    Pod,
    api_group,
    gauge,
    parse_selector,
    pod_of,
    resource_list,
    value_list,
)
from onenode.list_watch import ListWatch

logger = logging.getLogger(__name__)

_PERIOD_S: Final = 0.5
_ANSWER_S: Final = 2.0
_SELECTOR: Final = f"{MANAGED_BY}={TOOL}"


class Source:
    """Watches the pods and samples their gauges."""

    def __init__(self, server: str, context: ssl.SSLContext, pod_port: int = PORT) -> None:
        self.samples = InFlightSamples()
        self.pods = ListWatch(server, context, path_of("Pod"), {"labelSelector": _SELECTOR})
        self._port = pod_port
        self._asking: set[Pod] = set()

    async def sample(self) -> None:
        """Read every pod's gauge twice a second, by absolute times, one request at a time for each pod."""
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
                self.samples.keep_only(pods)
                due = max(due + _PERIOD_S, time.monotonic())
                await asyncio.sleep(due - time.monotonic())

    async def _ask(self, session: ClientSession, pod: Pod) -> None:
        try:
            async with session.get(pod.address) as response:
                value = gauge(await response.text())
            if value is not None:
                self.samples.add(pod, time.monotonic(), value)
        except (ClientError, TimeoutError) as error:
            logger.info("%s does not answer: %s", pod.name, error)
        finally:
            self._asking.discard(pod)

    def _ready(self) -> set[Pod]:
        pods = (pod_of(each, COMPONENT, self._port) for each in self.pods.objects.values())
        return {pod for pod in pods if pod is not None}


def create_app(source: Source) -> web.Application:
    """The API's routes; watching and sampling start with the application."""

    async def values(request: web.Request) -> web.Response:
        try:
            query = parse_selector(request.query.get("labelSelector", ""))
        except ValueError as error:
            body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "BadRequest", "code": 400}
            return web.json_response(body | {"message": str(error)}, status=400)
        total = source.samples.total(request.match_info["namespace"], query, time.monotonic())
        moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return web.json_response(value_list(query, total, moment))

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
        ("--api-ca", "CA certificate of the API server"),
        ("--api-cert", "client certificate for the API server"),
        ("--api-key", "its key"),
        ("--address", "address to listen on"),
        ("--port", "port to listen on"),
        ("--cert", "certificate of this server"),
        ("--key", "its key"),
    ):
        parser.add_argument(name, required=True, help=text)
    parser.add_argument(
        "--client-ca", action="append", required=True, help="authority whose client certificates are accepted"
    )
    options = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(message)s")
    outward = ssl.create_default_context(cafile=options.api_ca)
    outward.load_cert_chain(options.api_cert, options.api_key)
    inward = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    inward.load_cert_chain(options.cert, options.key)
    inward.verify_mode = ssl.CERT_REQUIRED
    for authority in options.client_ca:
        inward.load_verify_locations(authority)
    app = create_app(Source(options.api_server, outward))
    web.run_app(app, host=options.address, port=int(options.port), ssl_context=inward, access_log=None, print=None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
