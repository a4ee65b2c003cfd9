"""An API server that dies in mid-answer is one that does not answer: real sockets, a server that only sends halves."""

from __future__ import annotations

import base64
import http.server
import json
import socketserver
import ssl
import tempfile
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mlscale.environments.kubernetes.client import Api, KubeContext, Unreachable, connect
from mlscale.environments.kubernetes.cluster import look
from onenode.certificates import Leaf, issue, new_authority

HALVES = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
    "chunks that end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{",
    "a refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\n{",
    "nothing": b"",
}
OTHERS = {
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a page": b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n<html>welcome</html>",
}


@pytest.fixture
def api(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Api]:
    class Answer(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall((HALVES | OTHERS)[request.param])

    with socketserver.TCPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = connect(KubeContext(str(kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_address[1]}"))))
        yield api
        api.close()
        server.shutdown()


def kubeconfig(folder: Path, address: str, user: str = "{}", more: str = "") -> Path:
    file = folder / "kubeconfig"
    file.write_text(
        f"{{apiVersion: v1, kind: Config, current-context: c, users: [{{name: u, user: {user}}}], "
        f'clusters: [{{name: k, cluster: {{server: "{address}"{more}}}}}], '
        "contexts: [{name: c, context: {cluster: k, user: u}}]}"
    )
    return file


@pytest.mark.parametrize("api", HALVES, indirect=True)
def test_half_an_answer_is_none(api: Api) -> None:
    with pytest.raises(Unreachable, match="the API server does not answer"):
        api.get("/api/v1/pods")


@pytest.mark.parametrize("api", OTHERS, indirect=True)
def test_a_server_of_something_else_is_named_as_such(api: Api) -> None:
    with pytest.raises(Unreachable, match="not a Kubernetes API server") as caught:
        look(api)
    assert caught.value.where == f"{api.server}/version"


def test_a_watch_yields_whole_events_and_is_closed_from_another_thread(tmp_path: Path) -> None:
    class Held(socketserver.BaseRequestHandler):
        """Two events, the second in two chunks, then silence."""

        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for chunk in (b'{"type": "ADDED"}\n{"type":', b' "MODIFIED"}\n'):
                self.request.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
            self.request.recv(1)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Held) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = connect(KubeContext(str(kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_address[1]}"))))
        stream, kinds, two = api.watch("/api/v1/pods", "1"), list[str](), threading.Event()

        def read() -> None:
            for event in stream:
                kinds.append(event["type"])
                if len(kinds) == 2:
                    two.set()

        reader = threading.Thread(target=read)
        reader.start()
        assert two.wait(10)
        stream.close()
        reader.join(10)
        assert not reader.is_alive()
        assert kinds == ["ADDED", "MODIFIED"]
        api.close()
        server.shutdown()


def test_a_server_that_is_another_one_is_one_that_does_not_answer(tmp_path: Path) -> None:
    """A cluster that is stopped leaves its address to the next one, whose certificate the kubeconfig does not know."""
    other = new_authority("other", datetime.now(UTC))
    (tmp_path / "pem").write_bytes(other.certificate + other.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "pem")
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler, bind_and_activate=True) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = connect(KubeContext(str(kubeconfig(tmp_path, f"https://127.0.0.1:{server.server_address[1]}"))))
        with pytest.raises(Unreachable, match="the API server does not answer"):
            api.get("/api/v1/pods")
        api.close()
        server.shutdown()


def test_a_kubeconfig_s_private_key_is_left_in_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """kill -9 would leave it, and nobody would know whose it was."""
    now, authority = datetime.now(UTC), new_authority("cluster", datetime.now(UTC))
    served = issue(Leaf("server", "cluster", "server", addresses=("127.0.0.1",), server=True), authority, now)
    user = issue(Leaf("user", "cluster", "user"), authority, now)
    (tmp_path / "ca").write_bytes(authority.certificate)
    (tmp_path / "pem").write_bytes(served.certificate + served.key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tmp_path / "pem")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with http.server.HTTPServer(("127.0.0.1", 0), Named) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        authority_data, certificate, key = (
            base64.b64encode(pem).decode() for pem in (authority.certificate, user.certificate, user.key)
        )
        user_entry = f'{{client-certificate-data: "{certificate}", client-key-data: "{key}"}}'
        address = f"https://127.0.0.1:{server.server_address[1]}"
        file = kubeconfig(tmp_path, address, user_entry, f', certificate-authority-data: "{authority_data}"')
        for _ in range(2):  # the client remembers its files' names
            api = connect(KubeContext(str(file)))
            assert list(scratch.iterdir()) == []
            assert api.get("/version") == {"name": "user"}
            api.close()
        server.shutdown()


class Named(http.server.BaseHTTPRequestHandler):
    """Answers with the name in the caller's certificate."""

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        names = {key: value for part in self.connection.getpeercert()["subject"] for key, value in part}
        body = json.dumps({"name": names["commonName"]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


PLUGIN = """#!/bin/sh
echo >> {calls}
echo '{{"apiVersion": "client.authentication.k8s.io/v1beta1", "kind": "ExecCredential", "status":
  {{"token": "'$(wc -l < {calls})'", "expirationTimestamp": "{expires}"}}}}'
"""


@pytest.mark.parametrize(("minutes", "tokens"), [(60, 1), (1, 3)])
def test_a_token_from_a_command_is_asked_for_again_before_it_expires(tmp_path: Path, minutes: int, tokens: int) -> None:
    """As `aws eks get-token` gives one, for 15 minutes: a run takes longer. The client asks five minutes ahead."""
    seen: list[str] = []

    class Asked(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.append(self.headers["Authorization"])
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    plugin = tmp_path / "plugin"
    expires = datetime.now(UTC) + timedelta(minutes=minutes)
    plugin.write_text(PLUGIN.format(calls=tmp_path / "calls", expires=f"{expires:%Y-%m-%dT%H:%M:%SZ}"))
    plugin.chmod(0o755)
    user = (
        f'{{exec: {{apiVersion: client.authentication.k8s.io/v1beta1, command: "{plugin}", interactiveMode: Never}}}}'
    )
    with http.server.HTTPServer(("127.0.0.1", 0), Asked) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = connect(KubeContext(str(kubeconfig(tmp_path, f"http://127.0.0.1:{server.server_address[1]}", user))))
        for _ in range(3):
            api.get("/version")
        api.close()
        server.shutdown()
    assert len(seen) == 3
    assert len(set(seen)) == tokens
