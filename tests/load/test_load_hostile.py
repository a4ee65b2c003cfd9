"""Servers that stall, lie and break off: each request is recorded as what it is, and nothing grows or hangs."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import resource
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import repeat
from pathlib import Path

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from load_truth import client_of
from test_load_client import send_one

from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.connection import MAX_ANSWER_BYTES, Connection, Outcome
from mlscale.measurement.load_test import check_address
from mlscale.runs import Connections, MlscaleError, Status

Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\n"


def says(*parts: bytes, pause_s: float = 0.0) -> Speak:
    """Sends the parts, one after another, then closes the connection."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause_s)

    return speak


def forever(head: bytes, parts: Iterator[bytes]) -> Speak:
    """Sends the head, then parts until the client hangs up."""

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for part in parts:
            writer.write(part)
            await writer.drain()

    return speak


@asynccontextmanager
async def server(
    speak: Speak, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, until: bytes = b"\r\n\r\n"
) -> AsyncIterator[int]:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(until)
            await speak(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async with await asyncio.start_server(talk, host, 0, ssl=tls) as listening:
        yield listening.sockets[0].getsockname()[1]


def ask(speak: Speak, count: int = 1, *, connections: Connections = "fresh", timeout_s: float = 20.0) -> list[Outcome]:
    async def work() -> list[Outcome]:
        async with server(speak) as port:
            url = f"http://127.0.0.1:{port}/"
            client = client_of(url, connections=connections, timeout_s=timeout_s)
            outcomes = [await send_one(client) for _ in range(count)]
            assert client.open_requests == 0
            client.close()
            return outcomes

    return asyncio.run(work())


CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
HEADERS = b"X-Mlscale-Replica: r\r\n" * 100
LONG = HEAD + b"Content-Length: 10\r\n\r\n"


@pytest.mark.parametrize(
    ("speak", "status", "bytes_in"),
    [
        pytest.param(says(LONG + b"0123456789"), "ok", 10, id="as it should be"),
        pytest.param(says(LONG + b"01234"), "reset", 5, id="less than it promised"),
        pytest.param(says(LONG + b"0123456789and more"), "ok", 10, id="more than it promised"),
        pytest.param(says(HEAD + b"\r\n", b"until ", b"the end"), "ok", 13, id="no length: the end of the connection"),
        pytest.param(says(b"HTTP/1.0 200 OK\r\n\r\nold"), "ok", 3, id="HTTP/1.0"),
        pytest.param(says(CHUNKED, *(b"1\r\n%c\r\n" % byte for byte in b"chunks"), b"0\r\n\r\n"), "ok", 6, id="chunks"),
        pytest.param(says(*(bytes([byte]) for byte in CHUNKED + b"2\r\nok\r\n0\r\n\r\n")), "ok", 2, id="byte by byte"),
        pytest.param(says(CHUNKED + b"5\r\nhello\r\n"), "reset", 5, id="breaks off between chunks"),
        pytest.param(says(CHUNKED + b"nonsense\r\n"), "wrong_answer", 0, id="no chunk size"),
        pytest.param(says(HEAD + b"Content-Length: -1\r\n\r\n"), "wrong_answer", 0, id="negative length"),
        pytest.param(says(HEAD + 2 * b"Content-Length: 1\r\n" + b"\r\n1"), "wrong_answer", 0, id="two lengths"),
        pytest.param(says(b"HTTP/1.1 100 Continue\r\n\r\n", LONG + b"0123456789"), "ok", 10, id="interim response"),
        pytest.param(says(b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"), "wrong_answer", 0, id="other protocol"),
        pytest.param(says(b"HTTP/1.1 204 No Content\r\n\r\n"), "ok", 0, id="no content"),
        pytest.param(says(b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n"), "wrong_answer", 0, id="circular redirect"),
        pytest.param(says(), "reset", 0, id="closes without a word"),
        pytest.param(says(HEAD + b"X: y"), "reset", 0, id="closes in a header"),
        pytest.param(forever(HEAD, repeat(HEADERS)), "wrong_answer", 0, id="headers without end"),
        pytest.param(forever(HEAD + b"X-Mlscale-Hops: ", repeat(b"[" * 4096)), "wrong_answer", 0, id="endless header"),
        pytest.param(forever(CHUNKED + b"0\r\n", repeat(b"A: b\r\n" * 100)), "wrong_answer", 0, id="endless trailers"),
        pytest.param(forever(CHUNKED + b"1;", repeat(b"x" * 4096)), "wrong_answer", 0, id="endless chunk extension"),
    ],
)  # fmt: skip
def test_an_answer_is_recorded_as_what_it_is(speak: Speak, status: Status, bytes_in: int) -> None:
    (outcome,) = ask(speak)
    assert (outcome.status, outcome.bytes_in) == (status, bytes_in)
    assert outcome.sent_s < outcome.done_s


@pytest.mark.parametrize(
    "speak",
    [
        pytest.param(says(b"", pause_s=60.0), id="no answer"),
        pytest.param(says(LONG, b"0", pause_s=60.0), id="half an answer"),
        pytest.param(forever(HEAD + b"\r\n", repeat(b"x" * 2**16)), id="a body without end"),
        pytest.param(forever(b"", repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)), id="interim responses without end"),
    ],
)
def test_an_answer_that_never_ends_times_out(speak: Speak) -> None:
    begun_s = time.monotonic()  # the timeout counts from the request's turn, which is before `sent_s` on a busy machine
    (outcome,) = ask(speak, timeout_s=0.5)
    assert outcome.status == "timeout"
    assert outcome.done_s - begun_s >= 0.49


def test_a_large_answer_is_counted_but_not_kept() -> None:
    size = 8 * MAX_ANSWER_BYTES
    piece = b"x" * 2**16
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    (outcome,) = ask(says(HEAD + b"Content-Length: %d\r\n\r\n" % size, *repeat(piece, size // len(piece))))
    assert (outcome.status, outcome.bytes_in) == ("ok", size)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 3 * MAX_ANSWER_BYTES / 1024


def test_what_nobody_asked_for_closes_a_kept_connection() -> None:
    """The second answer of the first connection is not taken for that of the second request."""
    outcomes = ask(says(LONG + b"0123456789" + HEAD + b"Content-Length: 3\r\n\r\nbad"), 2, connections="kept")
    assert [outcome.bytes_in for outcome in outcomes] == [10, 10]
    assert all(outcome.connect_s > 0 for outcome in outcomes)


def test_a_connection_that_the_server_closes_is_not_used_again() -> None:
    outcomes = ask(says(HEAD + b"Connection: close\r\nContent-Length: 2\r\n\r\nok"), 3, connections="kept")
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3
    assert all(outcome.connect_s > 0 for outcome in outcomes)


def certificate(folder: Path) -> ssl.SSLContext:
    """A server's context with a certificate for 127.0.0.1 that signs itself, stored in folder/cert.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


def over_https(tls: ssl.SSLContext | None) -> Outcome:
    async def work() -> Outcome:
        until = b"\r\n\r\n" if tls else b"\x16"  # with which a TLS client begins
        async with server(says(LONG + b"0123456789"), tls=tls, until=until) as port:
            url = f"https://127.0.0.1:{port}/"
            client = client_of(url, timeout_s=20)
            return await send_one(client)

    return asyncio.run(work())


def test_certificates_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = certificate(tmp_path)
    assert over_https(tls).status == "refused"
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert over_https(tls).status == "ok"


def test_a_certificate_that_is_not_trusted_is_named_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was counted as so many refused requests."""

    async def checked(tls: ssl.SSLContext | None) -> str:
        async with server(says(LONG), tls=tls, until=b"\r\n\r\n" if tls else b"\x16") as port:
            try:
                await asyncio.to_thread(check_address, f"https://127.0.0.1:{port}/")
            except MlscaleError as error:
                return str(error)
        return ""

    tls = certificate(tmp_path)
    assert "certificate is not trusted: self-signed certificate (name the authority" in asyncio.run(checked(tls))
    assert "no TLS there" in asyncio.run(checked(None))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    assert asyncio.run(checked(tls)) == ""


def test_a_server_that_speaks_no_tls_is_refused() -> None:
    outcome = over_https(None)
    assert outcome.status in ("refused", "reset")
    assert outcome.bytes_in == 0


def test_ipv6() -> None:
    async def work() -> Outcome:
        async with server(says(LONG + b"0123456789"), host="::1") as port:
            url = f"http://[::1]:{port}/"
            client = client_of(url, timeout_s=20)
            return await send_one(client)

    assert asyncio.run(work()).status == "ok"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(says(LONG + b"0123456789"))[0].status == "ok"


def test_head_has_no_body_to_wait_for() -> None:
    async def work() -> Outcome:
        async with server(says(LONG, pause_s=60.0)) as port:
            url = f"http://127.0.0.1:{port}/"
            client = client_of(url, connections="kept", timeout_s=20, method="HEAD")
            return await send_one(client)

    assert asyncio.run(work()).status == "ok"


def test_a_name_that_cannot_be_looked_up_is_refused() -> None:
    async def work() -> Outcome:
        url = "http://no-such-host.invalid/"
        client = client_of(url, timeout_s=20)
        return await send_one(client)

    began_s = time.monotonic()
    assert asyncio.run(work()).status == "refused"
    assert time.monotonic() - began_s < 20


def test_answers_that_nobody_checks_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    end = Connection.on_message_complete
    monkeypatch.setattr(Connection, "on_message_complete", lambda self: (kept.append(len(self.answer)), end(self)))
    assert ask(says(LONG + b"0123456789"))[0].bytes_in == 10
    assert kept == [0]


def test_a_request_that_is_answered_before_it_is_read_leaves_no_connection() -> None:
    async def work() -> None:
        answered, received = asyncio.Event(), asyncio.get_running_loop().create_future()

        async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(HEAD + b"Content-Length: 2\r\n\r\nno")
            await answered.wait()
            count = 0
            try:
                while piece := await reader.read(2**20):
                    count += len(piece)
            finally:
                received.set_result(count)

        bodies = BodySet(("large",), (bytes(2**25),), ("text/plain",), None, {})
        async with server(speak) as port:
            url = f"http://127.0.0.1:{port}/"
            client = client_of(url, bodies, timeout_s=20)
            assert (await send_one(client)).status == "ok"
            answered.set()
            assert await received < 2**25, "the rest is not sent any more"

    asyncio.run(work())


def test_a_server_that_does_not_end_tls_keeps_no_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tls = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))

    def speak(listener: socket.socket) -> None:
        """Returns when the client has closed the connection."""
        with tls.wrap_socket(listener.accept()[0], server_side=True) as connection:
            connection.recv(2**16)
            connection.sendall(LONG + b"0123456789")
            with socket.socket(fileno=os.dup(connection.fileno())) as below:
                below.settimeout(10)
                while below.recv(2**16):
                    pass

    async def work() -> None:
        failures: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ended = asyncio.ensure_future(asyncio.to_thread(speak, listener))
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            client = client_of(url, timeout_s=20)
            assert (await send_one(client)).status == "ok"
            await ended
        assert not failures

    uvloop.run(work())
