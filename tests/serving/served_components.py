"""Components that call others, for tests of the server. Imported by the server's process."""

from __future__ import annotations

from collections.abc import Callable

from mlscale.serving.exchange import Calls


def make_front() -> Callable[[bytes], Calls]:
    """Asks the component "back" twice."""

    def answer(body: bytes) -> Calls:
        first = yield "back", body
        second = yield "back", b"+" + body
        return {"answers": [first["sha256"], second["sha256"]]}

    return answer


def make_lost() -> Callable[[bytes], Calls]:
    """Asks a component that is not among its calls."""

    def answer(_: bytes) -> Calls:
        return (yield "nowhere", b"")

    return answer
