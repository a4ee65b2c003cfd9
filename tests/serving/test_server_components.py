"""The server of a component that calls another: a real second server on loopback, dead, slow, or gone to its client."""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession
from aiohttp.test_utils import TestServer
from served_components import make_front
from server_process import Pipe, Server

from codereader.decoder import make_float32_decoder
from codereader.photos import photo_bytes
from mlscale.loadgen.connection import read_hops
from mlscale.serving import container
from mlscale.serving.server import ServerSettings, create_app


class Component(Server):
    """As in a container, called by others or calling them."""

    module = ("-m", "mlscale.serving.container", "--host", "127.0.0.1")


@contextmanager
def two(
    front: str = "served_components:make_front", back: str = "served_model:make", name: str = "back"
) -> Iterator[tuple[Server, Server]]:
    with Component(entry=back, MLSCALE_REPLICA="back-1") as called:
        call = f"{name}=http://127.0.0.1:{called.port}/decode"
        options = ("--component", "front", "--call", call)
        with Component(*options, entry=front, MLSCALE_REPLICA="front-1") as asked:
            for server in (called, asked):
                server.wait_for_line("INFO ready")
            yield asked, called


def test_calls_are_made_and_told_of() -> None:
    with two() as (front, back):
        got = front.decode(b"abc")
        assert got.json == {"answers": [hashlib.sha256(text).hexdigest() for text in (b"abc", b"+abc")]}
        own, one, other = read_hops(got.headers["x-mlscale-hops"], float(got.headers["x-mlscale-queue-s"]))
        assert (own.component, own.replica_id) == ("front", "front-1")
        assert {(hop.component, hop.replica_id) for hop in (one, other)} == {("back", "back-1")}
        assert own.started_s <= one.started_s <= other.started_s
        spent = own.inference_s + sum(hop.queue_s + hop.inference_s for hop in (one, other))
        assert spent <= float(got.headers["x-mlscale-inference-s"]) + 1e-4
        assert back.metric('mlscale_requests_total{status="200"}') == 2, "the warm-up asked nobody"
        assert front.decode(b"unreadable").status == 503, "what the back refuses is not the client's fault"
        assert (front.end(), back.end()) == (0, 0)


def test_the_application_in_components_answers_as_it_does_whole() -> None:
    photos = [photo_bytes(3, number, "easy")[0] for number in range(3)]
    decoder = make_float32_decoder()
    entry = "codereader.partition:make_"
    with two(f"{entry}localiser", f"{entry}readers", "readers") as (front, _):
        for photo in photos:
            assert front.decode(photo).body == json.dumps(decoder(photo)).encode()
        assert front.decode(b"no photo").status == 415


def test_a_back_that_is_dead_is_a_503_and_one_that_comes_back_is_found() -> None:
    with two() as (front, back):
        port = back.port
        back.process.kill()
        back.wait()
        got = front.decode(b"abc")
        assert got.status == 503
        assert got.json["error"].startswith("component 'back' is not reachable: ConnectionRefusedError")
        assert [hop.component for hop in read_hops(got.headers["x-mlscale-hops"], 0.0)] == ["front"]
        with Component("--port", str(port)) as again:
            again.wait_for_line("INFO ready")
            assert front.decode(b"abc").status == 200


def test_a_component_that_is_not_among_the_calls() -> None:
    with two("served_components:make_lost") as (front, _):
        got = front.decode(b"abc")
        assert (got.status, "not among the calls" in got.json["error"]) == (503, True)


def test_a_client_that_leaves_takes_its_call_along(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "hold")
    with two() as (front, back):
        with front.asked(pipe.hold):
            pipe.wait_until_read()
        front.wait_for_metric('mlscale_requests_total{status="aborted"}', 1)
        front.wait_for_metric("mlscale_queue_length", 0)
        back.wait_for_metric('mlscale_requests_total{status="aborted"}', 1)
        pipe.release()
        assert front.decode(b"abc").status == 200, "the model's thread is free again"


def test_what_waits_for_a_call_is_answered_after_sigterm(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "hold")
    with two() as (front, back), front.asked(pipe.hold) as connection:
        back.wait_for_metric("mlscale_queue_length", 1)
        front.process.send_signal(signal.SIGTERM)
        front.wait_until_closed()
        pipe.release()
        assert connection.getresponse().status == 200
        assert front.wait() == 0


def test_a_back_that_does_not_answer_in_time_is_a_503_and_is_left() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        asyncio.run(_ask_one_whose_back_is_silent(silent.getsockname()[1]))
        connection, _ = silent.accept()
        with connection:
            connection.settimeout(60)
            while connection.recv(65536):
                pass  # up to its end: the front has closed it


async def _ask_one_whose_back_is_silent(port: int) -> None:
    calls = {"back": f"http://127.0.0.1:{port}/decode"}
    settings = ServerSettings(component="front", calls=calls, call_timeout_s=0.2)
    async with TestServer(create_app(make_front, settings)) as server, ClientSession() as session:
        ready = 0
        while ready != 200:
            async with session.get(server.make_url("/readyz")) as said:
                ready = said.status
        begun_s = time.monotonic()
        async with session.post(server.make_url("/decode"), data=b"abc") as got:
            assert (got.status, "did not answer within" in (await got.json())["error"]) == (503, True)
        assert time.monotonic() - begun_s >= 0.2


@pytest.mark.parametrize("call", ["back", "back=", "=http://127.0.0.1:1/decode", "back=10.0.0.1:8080"])
def test_a_call_that_names_no_address(call: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert container.main(["--entry", "nowhere:make", "--call", call]) == 2
    assert "is not NAME=URL" in capsys.readouterr().err
