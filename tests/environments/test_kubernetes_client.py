"""An API server that dies in mid-answer is one that does not answer: real sockets, a server that only sends halves."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlscale.environments.kubernetes_client import Api, Place, Unreachable, connect

HALVES = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{",
    "chunks that end": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    "counted": b"HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{",
    "a refusal": b"HTTP/1.1 403 Forbidden\r\nContent-Length: 16\r\n\r\n{",
    "nothing": b"",
}


@pytest.fixture
def api(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Api]:
    class Half(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            self.request.sendall(HALVES[request.param])

    with socketserver.TCPServer(("127.0.0.1", 0), Half) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        file = tmp_path / "kubeconfig"
        file.write_text(
            "{apiVersion: v1, kind: Config, current-context: c, users: [{name: u, user: {}}], "
            f'clusters: [{{name: k, cluster: {{server: "http://127.0.0.1:{server.server_address[1]}"}}}}], '
            "contexts: [{name: c, context: {cluster: k, user: u}}]}"
        )
        api = connect(Place(str(file)))
        yield api
        api.close()
        server.shutdown()


@pytest.mark.parametrize("api", HALVES, indirect=True)
def test_half_an_answer_is_none(api: Api) -> None:
    with pytest.raises(Unreachable, match="the API server does not answer"):
        api.get("/api/v1/pods")
