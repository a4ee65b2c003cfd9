"""Sends requests to one address and judges their answers (METHOD §1)."""

from __future__ import annotations

import asyncio
import base64
import errno
import json
import math
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from yarl import URL

from mlscale.loadgen.addresses import Addresses
from mlscale.loadgen.bodies import BodySet, Check
from mlscale.loadgen.connection import MAX_ANSWER_BYTES, Connection, Outcome, read_hops
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs.schedule import ClosedLoop
from mlscale.runs.tables import Status

_NAN: Final = float("nan")
# Connection errors that mean this machine lacks resources and say nothing about the server.
_LOCAL_ERRORS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS, errno.ENOMEM})
# If a server does not confirm the end of a TLS connection, its descriptor is kept this long.
_TLS_SHUTDOWN_S: Final = 1.0

Ended = Callable[[Exception | None], None]
"""Called once when a request has ended, with what went wrong on this machine."""


class OutOfResources(Exception):  # noqa: N818
    """This machine can't open another connection."""


class Client:
    """Sends requests to one address. Redirects are not followed, nothing is sent twice, no proxy is used, and
    certificates are verified.

    Args:
        bodies: to POST; None: none.
        check: whether an answer is correct for a body's label; None: answers are not checked.
    """

    def __init__(self, load: LoadSpec, bodies: BodySet | None, check: Check | None) -> None:
        self._url = URL(load.url)
        self._port = self._url.port or 80
        self._bodies, self._check = bodies, check
        self._keep, self._timeout_s = load.connections == "kept", load.timeout_s
        self._own_connections = isinstance(load.schedule, ClosedLoop)
        self._requests = _requests(self._url, load, bodies)
        self._tls: dict[str, Any] = {}  # arguments of a connection
        if self._url.scheme == "https":
            context = ssl.create_default_context()
            self._tls = {"ssl": context, "server_hostname": self._url.host, "ssl_shutdown_timeout": _TLS_SHUTDOWN_S}
        self._idle: dict[int, list[Connection]] = {}
        self._open: dict[_Exchange, None] = {}  # in the order in which they began, which is that of their deadlines
        self._addresses = Addresses(self._url.host or "", self._port)
        self._loop = asyncio.get_running_loop()
        self._deadline: asyncio.TimerHandle | None = None

    @property
    def open_requests(self) -> int:
        return len(self._open)

    def send(self, client: int, body: int, outcome: Outcome, ended: Ended) -> None:
        """Send body number ``body`` for client number ``client``; fill in ``outcome``, then call ``ended``.

        ``ended`` gets `OutOfResources` if this machine could not open a connection, or the exception of a failed check.
        """
        exchange = _Exchange(self, client, body, outcome, ended)
        exchange.request, exchange.began_s = self._requests[body], self._loop.time()
        self._open[exchange] = None
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._timeout_s, self._expire)
        idle = self._idle.get(client if self._own_connections else 0)
        if idle:
            exchange.connection = idle.pop()
            exchange.connection.send(exchange)
        else:
            exchange.connecting = self._loop.create_task(self._connect(exchange))

    def close(self) -> None:
        """Close all connections; open requests end as ``unfinished``."""
        if self._deadline is not None:
            self._deadline.cancel()
        for exchange in list(self._open):
            exchange.abandon("unfinished")
        for connection in [connection for idle in self._idle.values() for connection in idle]:
            connection.close()

    async def _connect(self, exchange: _Exchange) -> None:
        outcome = exchange.outcome
        outcome.sent_s = outcome.connecting_s = time.monotonic()
        addresses = list(await self._addresses.known())
        count = len(addresses)
        error, weight = OSError("no address"), -1
        for number, address in enumerate(addresses, start=1):
            limit_s = self._timeout_s / count if number < count else None
            try:
                await self._connect_to(address, exchange, limit_s)
            except OSError as failed:
                # An address that never worked may need IPv6, which this host may lack. If it worked before, the host
                # has run out of something.
                lacking = failed.errno in _LOCAL_ERRORS
                weighs = 1 if not lacking else 2 if self._addresses.works(address) else 0
                if weighs > weight:
                    error, weight = failed, weighs
                if weighs < 2:
                    self._addresses.tried(address, worked=False)
                if not math.isnan(outcome.connect_s):
                    break  # connected, and the request sent, just when its time was over
                if limit_s is not None and isinstance(failed, TimeoutError):
                    addresses.append(address)  # if no other works, it gets the rest of the time
            else:
                self._addresses.tried(address, worked=True)
                return
        exchange.fail_to_connect(error)

    async def _connect_to(self, address: str, exchange: _Exchange, limit_s: float | None) -> None:
        connection = exchange.connection = Connection(exchange, self._lost, keep_answer=self._check is not None)
        exchange.outcome.connecting_s = time.monotonic()
        connecting = self._loop.create_connection(lambda: connection, address, self._port, **self._tls)
        if limit_s is None:
            await connecting
            return
        try:
            async with asyncio.timeout(limit_s):
                await connecting
        except TimeoutError:
            connection.abort()
            raise

    def _expire(self) -> None:
        """Abandon requests that have timed out, and schedule the next check."""
        self._deadline = None
        now_s = self._loop.time()
        for exchange in list(self._open):
            left_s = exchange.began_s + self._timeout_s - now_s
            if left_s > 0:
                self._deadline = self._loop.call_later(left_s, self._expire)
                return
            exchange.abandon("timeout")

    def _lost(self, connection: Connection) -> None:
        for idle in self._idle.values():
            if connection in idle:
                idle.remove(connection)

    def ended(self, exchange: _Exchange) -> None:
        """Forget it, and keep its connection if it can be used again."""
        self._open.pop(exchange, None)
        connection = exchange.connection
        if connection is None or exchange.outcome.status in ("unfinished", "timeout", "refused", "reset"):
            return
        if self._keep and connection.reusable:
            self._idle.setdefault(exchange.client if self._own_connections else 0, []).append(connection)
        else:
            connection.close()

    def judge(self, exchange: _Exchange) -> Status:
        """The status of a complete answer; what else it says goes into the outcome."""
        connection, outcome = exchange.connection, exchange.outcome
        assert connection is not None
        headers = connection.headers
        if headers:
            outcome.replica_id = headers.get(b"replica", b"").decode(errors="replace")
            outcome.inference_s = _number(headers.get(b"inference-s"))
            outcome.queue_s = _number(headers.get(b"queue-s"))
            if math.isnan(outcome.queue_s):
                outcome.queue_s = _number(headers.get(b"started-s")) - outcome.sent_s
            outcome.hops = read_hops(headers.get(b"hops"), outcome.queue_s)
        status = connection.status
        if status >= 500:
            return "http_5xx"
        if status >= 400:
            return "http_4xx"
        if status >= 300:
            return "wrong_answer"  # a redirect
        return "ok" if self._check is None or self._is_correct(exchange, self._check) else "wrong_answer"

    def _is_correct(self, exchange: _Exchange, check: Check) -> bool:
        """Whether the check accepts it; an answer that makes the check fail is wrong."""
        assert exchange.connection is not None
        assert self._bodies is not None
        assert self._bodies.labels is not None
        if exchange.outcome.bytes_in > MAX_ANSWER_BYTES:
            return False
        try:
            return bool(check(self._bodies.labels[exchange.body], json.loads(exchange.connection.answer)))
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return False


class _Exchange:
    """A request from its beginning to its end."""

    __slots__ = ("_client", "_ended", "began_s", "body", "client", "connecting", "connection", "outcome", "request")

    request: bytes
    began_s: float

    def __init__(self, sender: Client, client: int, body: int, outcome: Outcome, ended: Ended) -> None:
        self._client, self._ended = sender, ended
        self.client, self.body, self.outcome = client, body, outcome
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None

    def end(self, status: Status | None) -> None:
        failure: Exception | None = None
        try:
            self.outcome.status = self._client.judge(self) if status is None else status
        except Exception as error:  # a check may raise anything; then the load ends
            failure = error
        self._client.ended(self)
        self._ended(failure)

    def abandon(self, status: Status) -> None:
        """End it from this side."""
        if self.connecting is not None:
            self.connecting.cancel()
        if self.connection is not None:
            self.connection.abort()
        if status != "unfinished":
            self.outcome.done_s = time.monotonic()
        self.outcome.status = status
        self._client.ended(self)
        self._ended(None)

    def fail_to_connect(self, error: OSError) -> None:
        self.outcome.done_s = time.monotonic()
        # a connection can be reset between the handshake and our learning of it
        self.outcome.status = "reset" if error.errno in (errno.ECONNRESET, errno.EPIPE) else "refused"
        self._client.ended(self)
        lacking = error.errno in _LOCAL_ERRORS
        self._ended(OutOfResources(error.strerror or str(error)) if lacking else None)


def _requests(url: URL, load: LoadSpec, bodies: BodySet | None) -> list[bytes]:
    """The bytes to send, for each body."""
    common = {"Host": url.host_port_subcomponent or "", "Accept": "*/*", "User-Agent": "mlscale"}
    if url.user is not None:
        credentials = base64.b64encode(f"{url.user}:{url.password or ''}".encode()).decode()
        common["Authorization"] = f"Basic {credentials}"
    if load.connections == "fresh":
        common["Connection"] = "close"
    if bodies is None:
        return [_head(load.method or "GET", url, common, load.headers)]
    lengths = [common | {"Content-Length": str(len(body))} for body in bodies.bodies]
    return [
        _head(load.method or "POST", url, ours | {"Content-Type": kind}, load.headers) + body
        for kind, body, ours in zip(bodies.content_types, bodies.bodies, lengths, strict=True)
    ]


def _head(method: str, url: URL, ours: Mapping[str, str], theirs: Mapping[str, str]) -> bytes:
    named = {name.lower() for name in theirs}
    fields = {name: value for name, value in ours.items() if name.lower() not in named} | dict(theirs)
    lines = [f"{method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode()


def _number(text: bytes | None) -> float:
    if text is None:
        return _NAN
    try:
        return float(text)
    except ValueError:
        return _NAN


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
