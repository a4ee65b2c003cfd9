"""A test application of two components that only burn CPU; `main` sends its load."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

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
        _burn(1.5 if body == b"hold" else 2.0 if body.startswith(b"slow") else 0.02)
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


def ask(url: str, request_headers: Mapping[str, str], body: str, timeout_s: float = 40.0) -> dict[str, Any]:
    """One request on a new connection: its status (0: no answer), the answer, the headers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("POST", parts.path, body, {"Content-Type": "application/octet-stream", **request_headers})
        response = connection.getresponse()
        headers = {name.lower(): text for name, text in response.getheaders()}
        return {"body": body, "status": response.status, "text": response.read().decode(), "headers": headers}
    except OSError as error:
        return {"body": body, "status": 0, "text": type(error).__name__, "headers": {}}
    finally:
        connection.close()


def main() -> None:
    """``URL HEADERS CLIENTS BODY [TIMEOUT]``: clients that send until standard input ends. CLIENTS 0 sends one
    request, -3 four at once."""
    url, headers, clients, body = sys.argv[1], json.loads(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    timeout_s = float(sys.argv[5]) if len(sys.argv) > 5 else 40.0
    stop, replies = threading.Event(), []

    def client(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            replies.append(ask(url, headers, f"{body}-{number}-{count}", timeout_s))

    def once() -> None:
        replies.append(ask(url, headers, body, timeout_s))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    threads += [threading.Thread(target=once) for _ in range(1 - clients if clients <= 0 else 0)]
    for thread in threads:
        thread.start()
    if clients > 0:
        sys.stdin.read()
        stop.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(replies))


if __name__ == "__main__":
    main()
