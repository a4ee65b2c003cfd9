"""An application that burns a known amount of CPU and, as a script, clients for it. Standard library only."""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

BURN_S = 0.010


def make() -> Callable[[bytes], Mapping[str, Any]]:
    def answer(body: bytes) -> Mapping[str, Any]:
        if not body.startswith(b"photo"):
            raise ValueError("not a photo")
        until = time.thread_time() + BURN_S
        while time.thread_time() < until:
            continue
        return {"codes": [], "size": len(body)}

    return answer


def make_broken() -> Callable[[bytes], Mapping[str, Any]]:
    raise RuntimeError("the weights are corrupt")


def main(port: int, authorization: str) -> None:
    """Keep as many clients busy as the last line of standard input says; print one JSON line per answer."""
    wanted, lock, ended = [0], threading.Lock(), threading.Event()

    def client(number: int) -> None:
        while not ended.is_set():
            if number >= wanted[0]:
                ended.wait(0.02)
                continue
            row: dict[str, Any] = {}
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            try:
                headers = {"Authorization": authorization, "Content-Type": "application/octet-stream"}
                connection.request("POST", "/predictions/app", b"photo", headers)
                reply = connection.getresponse()
                body = reply.read()
                row = {"status": reply.status, "replica": reply.getheader("X-Mlscale-Replica")}
                row |= {"cpu_s": reply.getheader("X-Mlscale-Cpu-S"), "body": body.decode()[:200]}
            except OSError as error:
                row = {"status": 0, "body": repr(error)}
            finally:
                connection.close()
            with lock:
                print(json.dumps(row), flush=True)  # noqa: T201

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for line in sys.stdin:
        wanted[0] = int(line)
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
