"""One HTTP/1.1 connection of the load generator, one request at a time.

Written on the event loop's transports and llhttp (httptools), because a general client costs several times as much CPU
for each request. Nothing that a server sends makes it hold more than `MAX_ANSWER_BYTES`.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, cast

import httptools

from mlscale.runs.tables import Status

_NAN: Final = float("nan")

# Longer answers are received and counted, but not kept.
MAX_ANSWER_BYTES: Final = 16 * 2**20
# Limit for everything but the answer's body: headers, trailers, chunk extensions.
_MAX_HEADER_BYTES: Final = 64 * 2**10
_PREFIX: Final = b"x-mlscale-"
_MAX_HOPS: Final = 64


class Hop(NamedTuple):
    """A request's visit to one component of a partitioned application; NaN where not reported."""

    component: str
    replica_id: str
    started_s: float
    queue_s: float
    inference_s: float


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


class Exchange(Protocol):
    """A request that waits for its answer."""

    outcome: Outcome
    request: bytes

    def end(self, status: Status | None) -> None:
        """It has ended; None: with a complete answer."""
        ...


class Connection(asyncio.Protocol):
    """A connection that sends ``exchange`` as soon as it is made.

    Args:
        lost: called if it closes while it is idle.
        keep_answer: until the exchange has ended; False: it is only counted.
    """

    def __init__(self, exchange: Exchange, lost: Callable[[Connection], None], *, keep_answer: bool) -> None:
        self._exchange: Exchange | None = exchange
        self._lost, self._keep_answer = lost, keep_answer
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self._complete = self._surplus = self._kept_alive = self._headers_done = self._has_length = False
        self._uncounted_bytes = 0
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        """Those that begin with X-Mlscale-, their names in lower case and without that."""
        self.answer = bytearray()

    def send(self, exchange: Exchange) -> None:
        """Send a request on the idle connection."""
        assert self._transport is not None
        self._exchange = exchange
        self._reset()
        exchange.outcome.sent_s = time.monotonic()
        self._transport.write(exchange.request)

    @property
    def reusable(self) -> bool:
        """Whether another request may be sent after a complete answer."""
        assert self._transport is not None
        pending = self._transport.get_write_buffer_size() > 0  # answered before it had read all of the request
        return self._kept_alive and not (pending or self._surplus or self._transport.is_closing())

    def close(self) -> None:
        if self._transport is None:
            return
        if self._transport.get_write_buffer_size():  # closing would wait until the server has read it
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        self._exchange = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are no subclass
        if self._exchange is None:  # aborted while it was being made
            self._transport.abort()
            return
        outcome = self._exchange.outcome
        outcome.connect_s = time.monotonic() - outcome.connecting_s
        self._transport.write(self._exchange.request)

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # an idle connection is sent something that nobody asked for
            self.abort()
            return
        if math.isnan(exchange.outcome.first_byte_s):
            exchange.outcome.first_byte_s = time.monotonic()
        self._uncounted_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._complete:
                self._end("wrong_answer")
                return
            self._surplus = True
        if self._complete:
            self._end(None)
        elif self._uncounted_bytes > _MAX_HEADER_BYTES:
            self._end("wrong_answer")

    def connection_lost(self, error: Exception | None) -> None:
        if self._exchange is None:
            self._lost(self)
            return
        # without a length, the end of the connection is the end of the answer
        ends_here = self._headers_done and not self._has_length and error is None
        self._end(None if ends_here else "reset")

    def _end(self, status: Status | None) -> None:
        exchange, self._exchange = self._exchange, None
        assert exchange is not None
        assert self._transport is not None
        exchange.outcome.done_s = time.monotonic()
        if status is not None:
            self._transport.abort()
        exchange.end(status)
        self.answer.clear()

    # called by the parser

    def on_message_begin(self) -> None:
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name.startswith(_PREFIX):
            self.headers.setdefault(name[len(_PREFIX) :], value)
        elif name in (b"content-length", b"transfer-encoding"):
            self._has_length = True

    def on_headers_complete(self) -> None:
        self._uncounted_bytes = 0
        self._headers_done = True
        if not self._complete:
            self.status = self._parser.get_status_code()
            # an answer to HEAD has a length but no body, which the parser would wait for
            self._complete = self._exchange is not None and self._exchange.request.startswith(b"HEAD ")

    def on_body(self, body: bytes) -> None:
        self._uncounted_bytes = 0
        if self._complete or self._exchange is None:
            return
        outcome = self._exchange.outcome
        outcome.bytes_in += len(body)
        if not self._keep_answer:
            return
        if outcome.bytes_in <= MAX_ANSWER_BYTES:
            self.answer += body
        else:
            self.answer.clear()

    def on_message_complete(self) -> None:
        if self.status < 200:  # interim (100 Continue, 103 Early Hints): the answer is still to come
            self._reset()
        else:
            self._complete = True
            self._kept_alive = bool(self._parser.should_keep_alive())


def read_hops(text: str | bytes | None, queue_s: float) -> tuple[Hop, ...]:
    """The rows of the header X-Mlscale-Hops; none if it is missing or malformed.

    JSON with a row per visit: [component, replica, started_s, queue_s, inference_s]. Times are the server's
    time.monotonic(); queue_s is null for the front, whose queueing only the client can measure (METHOD §1).

    Args:
        queue_s: how long the request waited for the front.
    """
    if text is None:
        return ()
    try:
        return tuple(_hop(row, queue_s) for row in json.loads(text)[:_MAX_HOPS])
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return ()


def _hop(row: Any, queue_s: float) -> Hop:
    component, replica, started, queue, inference = row
    if not (isinstance(component, str) and isinstance(replica, str)):
        raise TypeError("a name is not text")
    (component + replica).encode()  # half a surrogate pair can't be written: a ValueError
    return Hop(component, replica, _number(started), queue_s if queue is None else _number(queue), _number(inference))


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
        raise TypeError("a time is not a number")
    return float(value)
