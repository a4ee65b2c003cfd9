"""Every way a request can end, against a server that was told how to end it."""

from __future__ import annotations

import asyncio
import math
import socket
import time

import pytest
from load_truth import CODES, TruthServer, client_of, reply, right_answer

from codereader.answers import same_codes
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.client import Client
from mlscale.loadgen.connection import Outcome
from mlscale.runs import Connections

PHOTO = BodySet(("photo.jpg",), (b"photo",), ("image/jpeg",), ({"file": "photo.jpg", "codes": CODES},), {})


async def send_one(client: Client, number: int = 0) -> Outcome:
    outcome = Outcome(sent_s=time.monotonic())
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def end(failure: Exception | None) -> None:
        ended.set_result(None) if failure is None else ended.set_exception(failure)

    client.send(number, 0, outcome, end)
    await ended
    return outcome


def send(
    url: str,
    count: int = 1,
    *,
    connections: Connections = "fresh",
    bodies: BodySet | None = PHOTO,
    check: bool = True,
    timeout_s: float = 10.0,
    clients: int = 1,
) -> list[Outcome]:
    """Send one request after another."""

    async def all_of_them() -> list[Outcome]:
        judge = same_codes if bodies and check else None
        options = {"connections": connections, "timeout_s": timeout_s}
        client = client_of(url, bodies, judge, closed=clients > 1, **options)
        outcomes = [await send_one(client, number % clients) for number in range(count)]
        client.close()
        return outcomes

    return asyncio.run(all_of_them())


@pytest.mark.parametrize(
    ("behaviour", "status"),
    [
        (reply(200, right_answer()), "ok"),
        (reply(400, b"{}"), "http_4xx"),
        (reply(404), "http_4xx"),
        (reply(503), "http_5xx"),
        (reply(507), "http_5xx"),
        (reply(302, headers="Location: /\r\n"), "wrong_answer"),
        (reply(200, b'{"codes": []}'), "wrong_answer"),
        (reply(200, right_answer().replace(b"hello", b"hallo")), "wrong_answer"),
        (reply(200, right_answer().replace(b"]}]}", b']}, {"kind": "QR", "text": "more"}]}')), "wrong_answer"),
        (reply(200, b"fine"), "wrong_answer"),
        (reply(200, b'{"codes": 3}'), "wrong_answer"),
        (reply(200, b"[1]"), "wrong_answer"),
        (b"I speak no HTTP\r\n\r\n", "wrong_answer"),
        ("reset", "reset"),
        ("half", "reset"),
    ],
)
def test_status(truth: TruthServer, behaviour: bytes | str, status: str) -> None:
    truth.behave["/decode"] = behaviour
    (outcome,) = send(truth.url + "/decode")
    assert outcome.status == status
    assert outcome.sent_s < outcome.done_s
    assert outcome.connect_s > 0
    assert [path for _, path, _ in truth.arrivals] == ["/decode"]  # sent once, redirects not followed
    assert truth.arrivals[0][2] == b"photo"


def test_a_stalled_answer_times_out_when_it_should(truth: TruthServer) -> None:
    truth.behave["/"] = "stall"
    (outcome,) = send(truth.url + "/", timeout_s=0.3)
    assert outcome.status == "timeout"
    assert outcome.done_s - outcome.sent_s >= 0.29
    assert math.isnan(outcome.first_byte_s)


def test_refused() -> None:
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        (outcome,) = send(f"http://127.0.0.1:{taken.getsockname()[1]}/")
    assert outcome.status == "refused"
    assert outcome.done_s > outcome.sent_s
    assert math.isnan(outcome.connect_s)


def test_unknown_codes_are_not_checked(truth: TruthServer) -> None:
    assert send(truth.url, check=False)[0].status == "ok"
    assert send(truth.url, bodies=None)[0].status == "ok"
    assert send(truth.url, bodies=None)[0].bytes_in == len(b"fine")


def test_moments_are_in_order(truth: TruthServer) -> None:
    truth.delay_s = 0.05
    before_s = time.monotonic()
    (outcome,) = send(truth.url, check=False)
    arrived_s = truth.arrivals[0][0]
    assert before_s < outcome.sent_s <= outcome.sent_s + outcome.connect_s < arrived_s
    assert arrived_s + 0.05 <= outcome.first_byte_s <= outcome.done_s < time.monotonic()


def test_fresh_and_kept_connections(truth: TruthServer) -> None:
    fresh = send(truth.url, 3, check=False)
    assert truth.connections == 3
    assert all(outcome.connect_s > 0 for outcome in fresh)
    kept = send(truth.url, 3, check=False, connections="kept")
    assert truth.connections == 4
    assert kept[0].connect_s > 0
    assert all(math.isnan(outcome.connect_s) for outcome in kept[1:])
    send(truth.url, 6, check=False, connections="kept", clients=3)
    assert truth.connections == 7  # each client of a closed loop keeps its own


def test_a_kept_connection_that_is_reset_is_not_tried_again(truth: TruthServer) -> None:
    truth.behave["/"] = reply()

    async def get_twice() -> list[Outcome]:
        client = client_of(truth.url, connections="kept", timeout_s=10)
        first = await send_one(client)
        truth.behave["/"] = "reset"
        return [first, await send_one(client)]

    assert [outcome.status for outcome in asyncio.run(get_twice())] == ["ok", "reset"]
    assert len(truth.arrivals) == 2


def test_what_the_server_says_of_itself(truth: TruthServer) -> None:
    started_s = time.monotonic() + 5
    headers = f"X-Mlscale-Replica: r-7\r\nX-Mlscale-Inference-S: 0.03\r\nX-Mlscale-Started-S: {started_s!r}\r\n"
    truth.behave["/"] = reply(200, b"", headers)
    (outcome,) = send(truth.url, check=False)
    assert (outcome.replica_id, outcome.inference_s) == ("r-7", 0.03)
    assert outcome.queue_s == pytest.approx(started_s - outcome.sent_s)
    truth.behave["/"] = reply(200, b"", headers + "X-Mlscale-Queue-S: 0.25\r\n")
    assert send(truth.url, check=False)[0].queue_s == 0.25
    truth.behave["/"] = reply(200, b"", "X-Mlscale-Inference-S: soon\r\n")
    (silent,) = send(truth.url, check=False)
    assert silent.replica_id == ""
    assert math.isnan(silent.queue_s)
    assert math.isnan(silent.inference_s)


def test_cancelled_requests_stay_unfinished(truth: TruthServer) -> None:
    truth.behave["/"] = "stall"

    async def cancelled() -> Outcome:
        client = client_of(truth.url, timeout_s=30)
        outcome = Outcome(sent_s=time.monotonic())
        ended = asyncio.Event()
        client.send(0, 0, outcome, lambda failure: ended.set())
        while not truth.arrivals:
            await asyncio.sleep(0)
        client.close()
        await ended.wait()
        return outcome

    outcome = asyncio.run(cancelled())
    assert outcome.status == "unfinished"
    assert math.isnan(outcome.done_s)
