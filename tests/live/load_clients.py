"""Clients of a deployment, in a process beside it, where a sandbox can be reached. Standard library only."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from mlscale.environments.base import Deployed

Reply = dict[str, Any]
"""body, status (0: no answer), text, headers (names in lower case)."""


def start(
    deployed: Deployed, clients: int, body: str, *, timeout_s: float = 40.0, pause_s: float = 0.0
) -> subprocess.Popen[str]:
    """Clients that send until `replies` is called, each body with a number of its own; 0: one request, -3: four at
    once, of ``body`` as it is. ``pause_s``: of each client between an answer and its next request."""
    numbers = [str(number) for number in (clients, timeout_s, pause_s)]
    argv = [*deployed.load_prefix, sys.executable, __file__, deployed.url, json.dumps(dict(deployed.headers))]
    return subprocess.Popen([*argv, body, *numbers], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def replies(load: subprocess.Popen[str], at_most_s: float = 120.0) -> list[Reply]:
    """Stop the clients; all their replies."""
    output, _ = load.communicate(timeout=at_most_s)
    received: list[Reply] = json.loads(output)
    return received


def ask_once(deployed: Deployed, body: str) -> Reply:
    """The reply to one request."""
    return replies(start(deployed, 0, body))[0]


def ask(url: str, request_headers: Mapping[str, str], body: str, timeout_s: float = 40.0) -> Reply:
    """One request on a new connection."""
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


def main(url: str, headers: Mapping[str, str], body: str, clients: int, timeout_s: float, pause_s: float) -> None:
    """See `start`; the clients stop when standard input ends."""
    stop, received = threading.Event(), []

    def client(number: int) -> None:
        count = 0
        while not stop.is_set():
            count += 1
            received.append(ask(url, headers, f"{body}-{number}-{count}", timeout_s))
            stop.wait(pause_s)

    def once() -> None:
        received.append(ask(url, headers, body, timeout_s))

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    threads += [threading.Thread(target=once) for _ in range(1 - clients if clients <= 0 else 0)]
    for thread in threads:
        thread.start()
    if clients > 0:
        sys.stdin.read()
        stop.set()
    for thread in threads:
        thread.join()
    sys.stdout.write(json.dumps(received))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4]), *map(float, sys.argv[5:]))
