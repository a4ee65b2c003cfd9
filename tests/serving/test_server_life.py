"""The server's life: loading, full, draining, and the ways it gives up with one line."""

from __future__ import annotations

import hashlib
import signal
import socket
from contextlib import ExitStack
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from server_process import Pipe, Server, raw_reply, read_reply, serve_fails

from mlscale.errors import MlscaleError
from mlscale.serving.serve import _listen


def test_it_is_alive_but_not_ready_while_the_model_loads(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "load")
    with Server(LOAD_WAITS_FOR=str(pipe.path)) as server:
        assert server.request("GET", "/healthz").status == 200
        assert server.request("GET", "/readyz").status == 503
        early = server.decode(b"body")
        assert (early.status, early.headers["retry-after"]) == (503, "1")
        pipe.release()
        server.wait_for_line("INFO ready")
        assert server.request("GET", "/readyz").json == {"status": "ready"}
        assert server.decode(b"body").status == 200
        assert server.end() == 0


def test_sigterm_while_the_model_loads(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "load")
    with Server(LOAD_WAITS_FOR=str(pipe.path)) as server:
        assert server.end() == 0


def test_a_full_queue_refuses_and_says_when_to_come_back(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "hold")
    with Server("--waiting", "2") as server, ExitStack() as open_requests:
        server.wait_for_line("INFO ready")
        holding = open_requests.enter_context(server.asked(pipe.hold))
        server.wait_for_metric("mlscale_queue_length", 1)
        waiting = [open_requests.enter_context(server.asked(b"waits")) for _ in range(2)]
        server.wait_for_metric("mlscale_queue_length", 3)
        refused = server.decode(b"one too many")
        assert refused.status == 503
        assert 1 <= int(refused.headers["retry-after"]) <= 30
        assert "waiting" in refused.json["error"]
        assert server.request("GET", "/healthz").status == 200
        pipe.release()
        assert [connection.getresponse().status for connection in (holding, *waiting)] == [200, 200, 200]
        assert server.decode(b"again").status == 200


def test_sigterm_answers_what_is_in_flight_and_takes_nothing_new(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "hold")
    with Server() as server:
        server.wait_for_line("INFO ready")
        head = b"POST /decode HTTP/1.1\r\nHost: x\r\nContent-Length: 8\r\n\r\nhalf"
        with server.asked(pipe.hold) as holding, server.asked(b"waits") as waiting, server.raw(head) as sending:
            server.wait_for_metric("mlscale_in_flight", 3)
            server.process.send_signal(signal.SIGTERM)
            server.wait_until_closed()
            sending.sendall(b"half")
            pipe.release()
            for connection in (holding, waiting):
                reply = read_reply(connection.getresponse())
                assert (reply.status, reply.headers["connection"]) == (200, "close")
            assert raw_reply(sending).json == {"sha256": hashlib.sha256(b"halfhalf").hexdigest()}
        assert server.wait() == 0


def test_a_model_that_hangs_is_left_at_the_end_of_the_drain(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "hold")
    with Server("--drain", "0.2") as server:
        server.wait_for_line("INFO ready")
        with server.asked(pipe.hold):
            server.wait_for_metric("mlscale_queue_length", 1)
            assert server.end() == 1
        assert server.wait_for_line("1 requests were cut off")


def test_a_kept_connection_serves_many_and_idles_through_sigterm() -> None:
    with Server() as server:
        server.wait_for_line("INFO ready")
        with server.asked(b"first") as connection:
            connection.getresponse().read()
            kept = connection.sock
            for _ in range(3):
                connection.request("POST", "/decode", b"next")
                assert connection.getresponse().read()
            assert connection.sock is kept
            assert server.end() == 0


def test_prometheus_reads_the_metrics() -> None:
    with Server() as server:
        server.wait_for_line("INFO ready")
        for body in (b"one", b"two", b"unreadable", b""):
            server.decode(body)
        page = server.request("GET", "/metrics")
        assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
        families = {family.name: family for family in text_string_to_metric_families(page.body.decode())}
        requests = {sample.labels["status"]: sample.value for sample in families["mlscale_requests"].samples}
        assert requests == {"200": 2, "422": 1, "400": 1}
        buckets = [sample for sample in families["mlscale_inference_seconds"].samples if "le" in sample.labels]
        values = [sample.value for sample in buckets]
        assert values == sorted(values)
        assert (buckets[-1].labels["le"], values[-1]) == ("+Inf", 3)  # the empty body never reached the model
        assert families["mlscale_ready"].samples[0].value == 1
        assert families["process_cpu_seconds"].samples[0].value > 0
        assert families["process_resident_memory_bytes"].samples[0].value > 2**20
        assert {"mlscale_in_flight", "mlscale_queue_seconds"} <= families.keys()


def one_line(*options: str, entry: str = "served_model:make") -> str:
    """The last line on stderr of a server that gives up with exit code 2; the log may stand above it."""
    ended = serve_fails(*options, entry=entry)
    assert ended.returncode == 2, ended.stderr
    return ended.stderr.splitlines()[-1]


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ended = serve_fails("--port", str(port))
    assert ended.returncode == 2
    assert ended.stderr.strip() == (
        f"mlscale: 127.0.0.1:{port}: port {port} is in use (choose another --port, or stop the server that uses it)"
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("no_colon", "is not package.module:factory"),
        ("no_such_module:make", "no module 'no_such_module'"),
        ("served_model:nothing", "has no attribute 'nothing'"),
        ("served_model:make_broken", "OSError: the disk is gone"),
        ("served_model:make_allergic", "--warm-up FILE"),
    ],
)
def test_an_entry_that_can_not_serve(entry: str, says: str) -> None:
    assert says in one_line("--port", "0", entry=entry)


def test_options_that_can_not_be_met(tmp_path: Path) -> None:
    assert "no such address" in one_line("--port", "0", "--host", "no.such.host.invalid")
    assert "can't be read" in one_line("--port", "0", "--warm-up", str(tmp_path / "nothing"))


def test_an_address_that_this_machine_lacks_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody has an address of 192.0.2.0/24 (RFC 5737): it stands for ::1 where IPv6 is off.
    addresses = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, 0)) for host in ("192.0.2.1", "127.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    (listener,) = _listen("localhost", 0)
    with listener:
        assert listener.getsockname()[0] == "127.0.0.1"
    del addresses[1]
    with pytest.raises(MlscaleError, match="Cannot assign requested address"):
        _listen("localhost", 0)
