"""A server under malformed bodies: every answer is looked at, and good photos in between must fare as before."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from server_process import AT_MOST_S, Server

_ALLOWED = {200, 400, 413, 415, 422}
# What the process may grow by: a photo of 25 megapixels in grey, and what decoding it needs, come and go.
_SPARE_BYTES = 120 * 2**20


@dataclass
class Fuzzing:
    """One server, and good photos with their answers, known before anything bad was sent."""

    server: Server
    good: list[bytes]
    statuses: Counter[int] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=AT_MOST_S)
        self._known = [self._post(body)[1] for body in self.good]
        self._usual_s = self._good_takes_s(rounds=5)
        self._rss_bytes = self._resident_bytes()

    def send(self, bodies: Iterable[bytes], every: int) -> None:
        """Sends ``bodies``; after ``every`` of them the good ones."""
        for number, body in enumerate(bodies, start=1):
            status, answer = self._post(body)
            self.statuses[status] += 1
            assert status in _ALLOWED, (status, answer, body[:80])
            if status == 200:
                assert isinstance(answer["codes"], list)
            else:
                assert len(answer["error"]) > 5, answer
                assert "Traceback" not in answer["error"]
            if number % every == 0:
                self.check()

    def check(self) -> None:
        """Good photos get the same answers in about the same time, and memory has not grown."""
        assert [self._post(body)[1] for body in self.good] == self._known
        assert self._good_takes_s(rounds=3) < 10 * self._usual_s, "far slower than before anything bad was sent"
        assert self._resident_bytes() < self._rss_bytes + _SPARE_BYTES

    def close(self) -> None:
        self._connection.close()

    def _good_takes_s(self, rounds: int) -> float:
        took = []
        for _ in range(rounds):
            for body in self.good:
                began = time.monotonic()
                self._post(body)
                took.append(time.monotonic() - began)
        return median(took)

    def _post(self, body: bytes) -> tuple[int, dict[str, Any]]:
        self._connection.request("POST", "/decode", body)
        response = self._connection.getresponse()
        return response.status, json.loads(response.read())

    def _resident_bytes(self) -> int:
        status = Path(f"/proc/{self.server.process.pid}/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmRSS:"))
