"""TorchServe's handler: serves a component's entry, updates the worker's slot on the board, holds drain tokens.

It is packed into the model archive and runs in each worker. The archive's ``mlscale.json`` says what to serve
(`mlscale.environments.torchserve.server.build_archive`). TorchServe calls ``handle(data, context)`` with a list of
requests (batch size 1) and expects one body for each. Other components are called over the loopback inference API;
this worker, which takes one request at a time, waits meanwhile.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlscale.environments.torchserve.board import DRAIN_HEADER, HOLD_AT_MOST_S, Board
from mlscale.serving.exchange import CALL_TIMEOUT_S, Answer, Call, load_entry, reply_to

logger = logging.getLogger(__name__)


class Handler:
    """One per worker process; TorchServe calls ``initialize`` once and then ``handle``."""

    def __init__(self) -> None:
        self._answer: Answer | None = None
        self._pid = os.getpid()

    def initialize(self, context: Any) -> None:
        """Load the entry; its errors go to TorchServe's model log."""
        archive = Path(context.system_properties["model_dir"])
        about = json.loads((archive / "mlscale.json").read_text())
        self._calls: Mapping[str, str] = about["calls"]
        self._keys, self._component = Path(about["keys"]), about["component"] if self._calls else ""
        self._board = Board(Path(about["board"]))
        self._worker = worker_id(sys.argv)
        self._slot = self._board.slot(self._worker)
        self._slot.claim(self._pid)
        self._answer = load_entry(about["entry"])

    def handle(self, data: Sequence[Mapping[str, Any]], context: Any) -> list[bytes]:
        assert self._answer is not None
        drain = context.get_request_header(0, DRAIN_HEADER)
        if drain is not None:
            return [self._drain(str(drain), context)]
        self._slot.begin()
        try:
            reply = reply_to(self._answer, _body(data[0]), f"replica-{self._pid}", self._component, self._call)
        finally:
            self._slot.end()
        if reply.error is not None:
            logger.error("the entry failed", exc_info=reply.error)
        if reply.status != 200:
            context.set_response_status(code=reply.status, idx=0)
        context.set_response_content_type(0, "application/json")
        for name, value in reply.headers.items():
            context.set_response_header(0, name, value)
        return [reply.body]

    def _call(self, call: Call) -> tuple[int, bytes, Mapping[str, str]]:
        """Raises OSError if there is no answer."""
        import http.client  # here, so that a component without calls does not pay for it
        from urllib.parse import urlsplit

        if call.component not in self._calls:
            raise ConnectionError(f"{call.component} is not among its calls")
        token = json.loads(self._keys.read_text())["inference"]["key"]
        url = urlsplit(self._calls[call.component])
        assert url.hostname
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=CALL_TIMEOUT_S)
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        try:
            connection.request("POST", url.path, call.body, headers)
            response = connection.getresponse()
            return response.status, response.read(), dict(response.getheaders())
        except http.client.HTTPException as error:
            raise ConnectionError(f"no HTTP answer: {type(error).__name__}") from error
        finally:
            connection.close()

    def _drain(self, header: str, context: Any) -> bytes:
        """Hold a token meant for this worker, which thereby takes no client request until it is removed."""
        secret, _, number = header.partition(":")
        if secret != self._board.secret or not number.isdigit():
            context.set_response_status(code=403, idx=0)
            return b'{"error": "not a drain token"}'
        token = int(number)
        if not self._board.is_aimed_at(self._worker, token):
            return b'{"drain": "not me"}'
        self._slot.hold(token)
        until = time.monotonic() + HOLD_AT_MOST_S
        while time.monotonic() < until and not self._board.wants_back(token):
            time.sleep(0.005)
        self._slot.let_go()
        return b'{"drain": "given back"}'


def _body(row: Mapping[str, Any]) -> bytes:
    """The POSTed bytes: TorchServe puts a plain body under "body", a form's file under "data"."""
    value = row.get("body", row.get("data", b""))
    return bytes(value) if isinstance(value, bytes | bytearray) else str(value).encode()


def worker_id(argv: Sequence[str]) -> int:
    """A worker's id, which TorchServe appends to the socket's name or uses as the port on the command line."""
    for option in ("--sock-name", "--port"):
        if option in argv[:-1]:
            return int(argv[argv.index(option) + 1].rsplit(".", 1)[-1])
    raise ValueError("this process was not started as a TorchServe worker")
