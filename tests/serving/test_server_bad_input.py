"""Every bad input gets its 4xx or 5xx with a reason in JSON, and the next good request is answered."""

from __future__ import annotations

import gzip
import hashlib
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from server_process import AT_MOST_S, Got, Pipe, Server, raw_reply

from mlscale.serving.inference import ModelContext, ModelThread

GOOD = b"a good body"
LIMIT = 4096


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("--max-bytes", str(LIMIT), "--body-timeout", "0.5") as running:
        running.wait_for_line("INFO ready")
        yield running


def assert_serves(server: Server) -> None:
    assert server.decode(GOOD).json == {"sha256": hashlib.sha256(GOOD).hexdigest()}


def raw(head: str, body: bytes = b"") -> Callable[[Server], Got]:
    def send(server: Server) -> Got:
        with server.raw(f"POST /decode HTTP/1.1\r\nHost: x\r\n{head}\r\n\r\n".encode() + body) as connection:
            return raw_reply(connection)

    return send


CHUNKED = "Transfer-Encoding: chunked"
BAD: dict[str, tuple[Callable[[Server], Got], int, str]] = {
    "no bytes": (lambda server: server.decode(b""), 400, "empty"),
    "no bytes in chunks": (raw(CHUNKED, b"0\r\n\r\n"), 400, "empty"),
    "as large as allowed": (lambda server: server.decode(b"x" * LIMIT), 200, ""),
    "one byte too large": (lambda server: server.decode(b"x" * (LIMIT + 1)), 413, str(LIMIT)),
    "announced too large, never sent": (raw("Content-Length: 99999999999"), 413, str(LIMIT)),
    "too large, asks first": (raw("Content-Length: 5000\r\nExpect: 100-continue"), 413, str(LIMIT)),
    "too large in chunks": (raw(CHUNKED, b"1001\r\n" + b"x" * 4097 + b"\r\n0\r\n\r\n"), 413, str(LIMIT)),
    "broken chunks": (raw(CHUNKED, b"5\r\nhello\r\nnot-a-size\r\n"), 400, "malformed"),
    "no HTTP": (lambda server: raw_reply(server.raw(b"hello, is anybody there?\r\n\r\n")), 400, "malformed"),
    "slow sender": (raw("Content-Length: 100", b"x" * 10), 408, "0.5 s"),
    "slow sender in chunks": (raw(CHUNKED, b"5\r\nhello\r\n"), 408, "0.5 s"),
    "a form": (
        lambda server: server.decode(b"--x\r\n\r\n", Content_Type="multipart/form-data; boundary=x"),
        415,
        "--data-binary",
    ),
    "compressed": (lambda server: server.decode(gzip.compress(GOOD), Content_Encoding="gzip"), 415, "compressed"),
    "unreadable": (lambda server: server.decode(b"unreadable"), 422, "nothing to read here"),
    "a bare ValueError of the model": (lambda server: server.decode(b"bare ValueError"), 400, "only text"),
    "a status that is no 4xx": (lambda server: server.decode(b"strange status"), 400, "nothing to read"),
    "a bug in the model": (lambda server: server.decode(b"bug"), 500, "log"),
    "a model that exits": (lambda server: server.decode(b"exit"), 500, "log"),
    "NaN in the answer": (lambda server: server.decode(b"nan"), 500, "log"),
    "an answer that is no JSON": (lambda server: server.decode(b"no JSON"), 500, "log"),
    "GET": (lambda server: server.request("GET", "/decode"), 405, "GET /decode"),
    "another path": (lambda server: server.request("POST", "/nowhere", b"x"), 404, "/nowhere"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_input_gets_its_reason_and_the_next_good_one_its_answer(server: Server, name: str) -> None:
    send, status, reason = BAD[name]
    got = send(server)
    assert got.status == status
    if status != 200:
        assert reason in got.json["error"]
        assert "Traceback" not in got.body.decode()
    assert_serves(server)


def test_what_a_bug_says_is_in_the_log_alone(server: Server) -> None:
    got = server.decode(b"bug:again")
    assert b"secret" not in got.body
    assert server.wait_for_line("a secret of the house")


def test_a_client_that_asks_first_is_told_to_go_on(server: Server) -> None:
    head = (
        b"POST /decode HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    )
    with server.raw(head) as connection:
        assert connection.recv(25) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(GOOD)
        assert raw_reply(connection).json == {"sha256": hashlib.sha256(GOOD).hexdigest()}


def test_an_aborted_sender_costs_no_inference(server: Server) -> None:
    aborted = server.metric('mlscale_requests_total{status="aborted"}')
    inferences = server.metric("mlscale_inference_seconds_count")
    for _ in range(5):
        server.raw(b"POST /decode HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf").close()
    server.wait_for_metric('mlscale_requests_total{status="aborted"}', aborted + 5)
    assert server.metric("mlscale_inference_seconds_count") == inferences
    assert server.metric("mlscale_in_flight") == 0
    assert_serves(server)
    assert not [line for line in server.log if "failed" in line and "/decode" in line]


def test_a_client_that_gave_up_waiting_costs_no_inference(
    server: Server, tmp_path_factory: pytest.TempPathFactory
) -> None:
    pipe = Pipe(tmp_path_factory.mktemp("pipe") / "hold")
    inferences = server.metric("mlscale_inference_seconds_count")
    with server.asked(pipe.hold) as holding:
        server.wait_for_metric("mlscale_queue_length", 1)
        with server.asked(GOOD):
            server.wait_for_metric("mlscale_queue_length", 2)
        server.wait_for_metric("mlscale_queue_length", 1)
        pipe.release()
        assert holding.getresponse().status == 200
    assert_serves(server)
    assert server.metric("mlscale_inference_seconds_count") == inferences + 2


def test_the_body_of_a_client_that_gave_up_waiting_is_dropped() -> None:
    release = threading.Event()

    def answer(body: bytes) -> dict[str, bool]:
        return {"released": body == b"hold" and release.wait(AT_MOST_S)}

    model = ModelThread(lambda: answer, 1, b"warm-up")
    model.start(ModelContext())
    model.loaded.result(AT_MOST_S)
    holding = model.submit(b"hold")
    body = bytes(1000)
    mine = sys.getrefcount(body)
    given_up = model.submit(body)
    assert sys.getrefcount(body) > mine
    model.drop(given_up)
    assert sys.getrefcount(body) == mine
    release.set()
    assert holding.result(AT_MOST_S).status == 200
    assert model.stop(AT_MOST_S)


def test_times_in_the_headers_fit_the_clients_clock(server: Server, tmp_path_factory: pytest.TempPathFactory) -> None:
    pipe = Pipe(tmp_path_factory.mktemp("pipe") / "hold")
    with server.asked(pipe.hold) as holding:
        server.wait_for_metric("mlscale_queue_length", 1)
        sent = time.monotonic()
        with server.asked(GOOD) as waiting:
            server.wait_for_metric("mlscale_queue_length", 2)
            released = time.monotonic()
            pipe.release()
            holding.getresponse().read()
            headers = waiting.getresponse().headers
    started, queued = float(headers["X-Mlscale-Started-S"]), float(headers["X-Mlscale-Queue-S"])
    assert released <= started <= time.monotonic()
    assert 0 < queued <= started - sent
    assert float(headers["X-Mlscale-Inference-S"]) >= 0
    assert float(headers["X-Mlscale-Cpu-S"]) >= 0
    assert headers["X-Mlscale-Replica"].endswith(f"-{server.process.pid}")
