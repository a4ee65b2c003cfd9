"""A real server process on loopback and a client that can misbehave. Everything here waits for a condition."""

from __future__ import annotations

import errno
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

AT_MOST_S = 60.0


@dataclass(frozen=True)
class Got:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        assert self.headers["content-type"].split(";")[0] == "application/json"
        content: dict[str, Any] = json.loads(self.body)
        return content


class Server:
    """`mlscale serve` as a child process; its log is read as it comes."""

    module: tuple[str, ...] = ("-m", "mlscale.commands.cli", "serve")

    def __init__(self, *options: str, entry: str = "served_model:make", **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *self.module, "--port", "0", "--entry", entry, *options],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parent), **environment},
        )
        self.log: list[str] = []
        self._news = threading.Condition()
        self._ended = False
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.port = int(self.wait_for_line("listening on ").rsplit(":", 1)[1])

    def wait_for_line(self, text: str) -> str:
        with self._news:
            self._news.wait_for(lambda: self._ended or any(text in line for line in self.log), AT_MOST_S)
            found = [line for line in self.log if text in line]
        assert found, f"no line with {text!r}; last lines:\n" + "".join(self.log[-10:])
        return found[0].strip()

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Got:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=AT_MOST_S)
        try:
            connection.request(method, path, body, {name.replace("_", "-"): text for name, text in headers.items()})
            return read_reply(connection.getresponse())
        finally:
            connection.close()

    def decode(self, body: bytes, **headers: str) -> Got:
        return self.request("POST", "/decode", body, **headers)

    @contextmanager
    def asked(self, body: bytes) -> Iterator[http.client.HTTPConnection]:
        """A request that was sent and whose answer was not awaited."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=AT_MOST_S)
        connection.request("POST", "/decode", body)
        try:
            yield connection
        finally:
            connection.close()

    def raw(self, data: bytes) -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=AT_MOST_S)
        connection.sendall(data)
        return connection

    def metric(self, line: str) -> float:
        """A sample's value; 0 where it has none yet."""
        for text in self.request("GET", "/metrics").body.decode().splitlines():
            if text.startswith(f"{line} "):
                return float(text.rsplit(" ", 1)[1])
        return 0.0

    def wait_for_metric(self, line: str, value: float) -> None:
        deadline = time.monotonic() + AT_MOST_S
        while (now := self.metric(line)) != value:
            assert time.monotonic() < deadline, f"{line} is {now}, not {value}"

    def wait_until_closed(self) -> None:
        """Until nobody listens any more."""
        deadline = time.monotonic() + AT_MOST_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=AT_MOST_S).close()
            except ConnectionError:
                return
            assert time.monotonic() < deadline, "still listening"

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        code = self.process.wait(AT_MOST_S)
        self._reader.join(AT_MOST_S)
        return code

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._news:
                self.log.append(line)
                self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()


class Pipe:
    """A named pipe: who reads it waits until `release`."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self.hold = b"hold:" + bytes(path)
        self._writer: int | None = None

    def wait_until_read(self) -> None:
        """Until somebody waits for it."""
        deadline = time.monotonic() + AT_MOST_S
        while self._writer is None:
            try:
                self._writer = os.open(self.path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno != errno.ENXIO:
                    raise
                assert time.monotonic() < deadline, "nobody reads the pipe"

    def release(self) -> None:
        """Once somebody waits for it."""
        self.wait_until_read()
        assert self._writer is not None
        os.close(self._writer)
        self._writer = None


def read_reply(response: http.client.HTTPResponse) -> Got:
    body = response.read()
    return Got(response.status, {name.lower(): text for name, text in response.getheaders()}, body)


def raw_reply(connection: socket.socket) -> Got:
    response = http.client.HTTPResponse(connection, method="POST")
    response.begin()
    return read_reply(response)


def serve_fails(*options: str, entry: str = "served_model:make") -> subprocess.CompletedProcess[str]:
    """`mlscale serve` that is expected to give up."""
    return subprocess.run(
        [sys.executable, "-m", "mlscale.commands.cli", "serve", "--entry", entry, *options],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent)},
        timeout=AT_MOST_S,
        check=False,
    )
