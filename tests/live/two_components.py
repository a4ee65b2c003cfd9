"""A test application of two components that only burn CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from mlscale.serving.exchange import Calls


def make_front() -> Callable[[bytes], Calls]:
    def answer(body: bytes) -> Calls:
        if body == b"not a photo":
            raise ValueError("not a photo")
        _burn(0.002)
        first = yield "back", body
        second = yield "back", body + b"+"
        return {"echo": [first["echo"], second["echo"]]}

    return answer


def make_back() -> Callable[[bytes], dict[str, Any]]:
    served = [0]

    def answer(body: bytes) -> dict[str, Any]:
        served[0] += body.startswith(b"hold")
        _burn(1.5 if body == b"hold" else 0.5 if body.startswith(b"slow") else 0.02)
        return {"echo": body.decode(), "held": served[0]}

    return answer


def make_counting_front() -> Callable[[bytes], Calls]:
    def answer(body: bytes) -> Calls:
        reply = yield "back", body
        return {"held": reply["held"]}

    return answer


def _burn(cpu_s: float) -> None:
    end = time.thread_time() + cpu_s
    while time.thread_time() < end:
        pass
