"""One HTTP request and its outcome (METHOD §1)."""

from __future__ import annotations

import errno
import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Final, Self

import aiohttp
from yarl import URL

from mlscale.loadgen.bodies import BodySet, Check
from mlscale.loadgen.hops import HEADER, Hop, read_hops
from mlscale.runs.info import Connections
from mlscale.runs.tables import Status

_NAN: Final = float("nan")
# Connection errors that mean this machine lacks resources and say nothing about the server.
_LOCAL_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})

_KEEPALIVE_S: Final = 86_400.0


class OutOfResources(Exception):  # noqa: N818
    """This machine can't open another connection."""


@dataclass(slots=True)
class Outcome:
    """The outcome of a request; times are ``time.monotonic()`` seconds, NaN if never reached.

    ``sent_s``: when its connection was started (fresh) or reused (kept). ``connect_s`` is a duration.
    """

    sent_s: float
    connect_s: float = _NAN
    first_byte_s: float = _NAN
    done_s: float = _NAN
    status: Status = "unfinished"
    replica_id: str = ""
    queue_s: float = _NAN
    inference_s: float = _NAN
    bytes_in: int = 0
    connecting_s: float = _NAN
    hops: tuple[Hop, ...] = ()
    """Its visits to components, if the application has several."""


class Client:
    """Sends requests to one address. Redirects are not followed, and nothing is sent twice.

    Args:
        bodies: to POST; None: send GET requests.
        check: whether an answer is correct for a body's label; None: answers are not checked.
        timeout_s: a request without a complete response after that long is abandoned.
        own_connections: each client has its own kept connection (closed loop); False: clients share them.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Mapping[str, str],
        bodies: BodySet | None,
        check: Check | None,
        connections: Connections,
        timeout_s: float,
        own_connections: bool = False,
    ) -> None:
        self._url = URL(url)
        self._bodies, self._check = bodies, check
        self._method = "GET" if bodies is None else "POST"
        self._headers = dict(headers)
        explicit = "content-type" in {name.lower() for name in headers}
        self._types = [{} if explicit else {"Content-Type": kind} for kind in bodies.content_types] if bodies else []
        self._connections, self._timeout_s, self._own_connections = connections, timeout_s, own_connections
        self._sessions: dict[int, aiohttp.ClientSession] = {}

    def _session_of(self, client: int) -> aiohttp.ClientSession:
        number = client if self._own_connections and self._connections == "kept" else 0
        if number not in self._sessions:
            self._sessions[number] = self._new_session()
        return self._sessions[number]

    def _new_session(self) -> aiohttp.ClientSession:
        connector = (
            aiohttp.TCPConnector(limit=0, force_close=True)
            if self._connections == "fresh"
            else aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEPALIVE_S)
        )
        session = aiohttp.ClientSession(
            connector=connector,
            headers=self._headers,
            # ceil_threshold: aiohttp would round deadlines up to whole seconds
            timeout=aiohttp.ClientTimeout(total=self._timeout_s, ceil_threshold=math.inf),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=["Accept-Encoding"],  # decompression would cost time here
            auto_decompress=False,
            trace_configs=[_tracing()],
        )
        session._retry_connection = False  # aiohttp has no public option against resending GETs
        return session

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions.values():
            await session.close()

    async def send(self, client: int, body: int, outcome: Outcome) -> None:
        """Send a request of client number ``client`` with body number ``body`` and fill in ``outcome``.

        If cancelled, the outcome stays ``unfinished``.

        Raises:
            OutOfResources: this machine could not open a connection.
        """
        try:
            response = await self._session_of(client).request(
                self._method,
                self._url,
                data=None if self._bodies is None else self._bodies.bodies[body],
                headers=self._types[body] if self._types else None,
                allow_redirects=False,
                trace_request_ctx=outcome,
            )
            outcome.first_byte_s = time.monotonic()
            answer = await response.read()
            outcome.done_s = time.monotonic()
            outcome.bytes_in = len(answer)
            self._read_headers(response.headers, outcome)
            outcome.status = self._judge(response.status, answer, body)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            status = _status_of(error)
            outcome.done_s = time.monotonic()
            outcome.status = status

    @staticmethod
    def _read_headers(headers: Mapping[str, str], outcome: Outcome) -> None:
        outcome.replica_id = headers.get("X-Mlscale-Replica", "")
        outcome.inference_s = _number(headers.get("X-Mlscale-Inference-S"))
        outcome.queue_s = _number(headers.get("X-Mlscale-Queue-S"))
        if math.isnan(outcome.queue_s):
            outcome.queue_s = _number(headers.get("X-Mlscale-Started-S")) - outcome.sent_s
        outcome.hops = read_hops(headers.get(HEADER), outcome.queue_s)

    def _judge(self, status: int, answer: bytes, body: int) -> Status:
        if status >= 500:
            return "http_5xx"
        if status >= 400:
            return "http_4xx"
        if status >= 300:
            return "wrong_answer"  # a redirect
        return "ok" if self._check is None or self._is_correct(answer, body) else "wrong_answer"

    def _is_correct(self, answer: bytes, body: int) -> bool:
        """Whether the check accepts it; an answer that makes the check fail is wrong."""
        assert self._check is not None
        assert self._bodies is not None
        assert self._bodies.labels is not None
        try:
            return bool(self._check(self._bodies.labels[body], json.loads(answer)))
        except (ValueError, LookupError, TypeError, AttributeError):
            return False


def _number(text: str | None) -> float:
    if text is None:
        return _NAN
    try:
        return float(text)
    except ValueError:
        return _NAN


def _status_of(error: Exception) -> Status:
    match error:
        case TimeoutError():
            return "timeout"
        case aiohttp.ClientConnectorError() as connecting:
            if connecting.os_error.errno in _LOCAL_ERRORS:
                raise OutOfResources(connecting.os_error.strerror or str(connecting.os_error)) from error
            # a connection can be reset between the handshake and our learning of it
            reset = connecting.os_error.errno in (errno.ECONNRESET, errno.EPIPE)
            return "reset" if reset else "refused"
        case aiohttp.ClientResponseError():
            return "wrong_answer"  # not HTTP
        case _:
            return "reset"


def _tracing() -> aiohttp.TraceConfig:
    config = aiohttp.TraceConfig()
    config.on_connection_create_start.append(_connecting)
    config.on_dns_resolvehost_end.append(_resolved)
    config.on_connection_create_end.append(_connected)
    config.on_connection_reuseconn.append(_reused)
    return config


async def _connecting(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    outcome: Outcome = context.trace_request_ctx
    outcome.sent_s = outcome.connecting_s = time.monotonic()


async def _resolved(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    context.trace_request_ctx.connecting_s = time.monotonic()


async def _connected(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    outcome: Outcome = context.trace_request_ctx
    outcome.connect_s = time.monotonic() - outcome.connecting_s


async def _reused(_session: aiohttp.ClientSession, context: SimpleNamespace, _: object) -> None:
    context.trace_request_ctx.sent_s = time.monotonic()


def open_connections_allowed() -> int:
    """How many connections this process may open: its file descriptor limit, raised as far as allowed."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY or hard > soft:
        limit = min(hard, 1_048_576) if hard != resource.RLIM_INFINITY else 1_048_576
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
        except (ValueError, OSError):  # macOS caps it below its own hard limit
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft - 64
