"""A component that calls others: what it asks for, what it makes of the answers, what it says of the time."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

import pytest

from mlscale.serving.exchange import Call, CallFailed, Calls, Exchange, Reply, reply_to


def _front(body: bytes) -> Calls:
    """Asks the component twice, unless the body is empty; gives an error up, or on "!" makes do without."""
    if not body:
        return {"asked": 0}
    first = yield "second", body
    try:
        second = yield "second", body + b"+"
    except CallFailed as failed:
        if body != b"!":
            raise
        second = {"n": failed.reason}
    return {"asked": 2, "answers": [first["n"], second["n"]]}


def _second(call: Call) -> tuple[int, bytes, Mapping[str, str]]:
    reply = reply_to(lambda body: {"n": len(body)}, call.body, "replica-2")
    return reply.status, reply.body, reply.headers


def _hops(reply: Reply) -> list[list[Any]]:
    return json.loads(reply.headers["X-Mlscale-Hops"])  # type: ignore[no-any-return]


def test_calls_are_carried_out_and_each_has_its_row() -> None:
    before = time.monotonic()
    reply = reply_to(_front, b"abc", "replica-1", "first", _second)
    assert (reply.status, json.loads(reply.body)) == (200, {"asked": 2, "answers": [3, 4]})
    own, one, two = _hops(reply)
    assert own[:2] == ["first", "replica-1"]
    assert own[3] is None, "only the client knows how long it waited for the front"
    assert [row[:2] for row in (one, two)] == [["second", "replica-2"]] * 2
    assert before <= own[2] <= one[2] <= two[2] <= time.monotonic()
    assert all(row[3] >= 0 and row[4] >= 0 for row in (one, two))
    spent = own[4] + sum(row[3] + row[4] for row in (one, two))
    assert spent <= float(reply.headers["X-Mlscale-Inference-S"]) + 1e-4, "work and waiting lie inside the service"


def test_a_front_that_called_nobody_has_its_own_row() -> None:
    reply = reply_to(_front, b"", "replica-1", "first", _second)
    assert json.loads(reply.body) == {"asked": 0}
    assert [row[0] for row in _hops(reply)] == ["first"]


def test_a_whole_application_has_no_hops() -> None:
    assert "X-Mlscale-Hops" not in reply_to(lambda body: {}, b"", "replica-1").headers


def test_waiting_for_a_call_is_not_the_fronts_own_work() -> None:
    def slow(call: Call) -> tuple[int, bytes, Mapping[str, str]]:
        until = time.monotonic() + 0.05
        while time.monotonic() < until:
            pass
        return _second(call)

    reply = reply_to(_front, b"abc", "replica-1", "first", slow)
    assert float(reply.headers["X-Mlscale-Inference-S"]) >= 0.1
    assert _hops(reply)[0][4] < 0.05


def _refusing(error: Exception) -> Any:
    def call(_: Call) -> tuple[int, bytes, Mapping[str, str]]:
        raise error

    return call


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (_refusing(ConnectionRefusedError(111, "refused")), "is not reachable: ConnectionRefusedError"),
        (_refusing(TimeoutError("timed out")), "did not answer within 20 s"),
        (lambda _: (500, b'{"error": "Worker died."}', {}), "answered 500: Worker died."),
        (lambda _: (400, b'{"error": "not a job"}', {}), "answered 400: not a job"),
        (lambda _: (503, b"<html>", {}), "answered 503"),
        (lambda _: (200, b"<html>", {}), "not a JSON object"),
        (lambda _: (200, b"[1]", {}), "not a JSON object"),
        (lambda _: (200, b"\xff", {}), "not a JSON object"),
        (None, "is not known here"),
    ],
)
def test_a_call_that_fails_is_a_503_with_a_reason(call: Any, reason: str) -> None:
    reply = reply_to(_front, b"abc", "replica-1", "first", call)
    assert reply.status == 503
    assert reason in json.loads(reply.body)["error"]
    assert "'second'" in json.loads(reply.body)["error"]
    assert reply.error is None, "no bug of the component"


def test_a_component_may_do_without_an_answer() -> None:
    calls = iter([_second, _refusing(TimeoutError())])
    reply = reply_to(_front, b"!", "replica-1", "first", lambda call: next(calls)(call))
    assert reply.status == 200
    assert "did not answer" in json.loads(reply.body)["answers"][1]


def test_an_error_that_says_so_is_a_503_and_others_are_bugs() -> None:
    class Senseless(Exception):  # noqa: N818
        http_status, reason = 503, "the answer makes no sense"

    class Lying(Exception):  # noqa: N818
        http_status = 200

    def raising(error: Exception) -> Any:
        def answer(_: bytes) -> Calls:
            yield "second", b""
            raise error

        return answer

    found = [reply_to(raising(error), b"", "r", "first", _second) for error in (Senseless(), Lying(), ValueError("no"))]
    assert [reply.status for reply in found] == [503, 500, 400]
    assert json.loads(found[0].body) == {"error": "the answer makes no sense"}


def test_an_exchange_given_up_ends_its_component() -> None:
    ended = []

    def answer(_: bytes) -> Calls:
        try:
            yield "second", b""
        finally:
            ended.append(True)
        return {}

    exchange = Exchange(answer, b"", "r", "first")
    assert isinstance(exchange.begin(), Call)
    exchange.close()
    assert ended == [True]


@pytest.mark.parametrize("headers", [{}, {"X-Mlscale-Started-S": "soon", "X-Mlscale-Inference-S": "1"}])
def test_a_component_that_tells_no_times_has_no_row(headers: Mapping[str, str]) -> None:
    reply = reply_to(_front, b"abc", "r", "first", lambda _: (200, b'{"n": 1}', headers))
    assert reply.status == 200
    assert [row[0] for row in _hops(reply)] == ["first"]


def test_an_answer_that_is_no_mapping_is_a_bug() -> None:
    reply = reply_to(lambda _: 5, b"", "r")  # type: ignore[arg-type, return-value]
    assert reply.status == 500
    assert reply.error is not None
