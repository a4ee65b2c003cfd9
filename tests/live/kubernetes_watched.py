"""Shared by the Kubernetes tests: an application that burns CPU, its settings, and clients for it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from mlscale.environments.base import App, Component
from mlscale.environments.kubernetes.k3s import K3s
from mlscale.environments.kubernetes.settings import KubernetesScaling

PHOTOS = [b"photo-1", b"photo-2"]


def app(entry: str = "torchserve_burn:make") -> App:
    return App("burn", "1", (Component("app", entry),), "app")


def scaling(arm: str = "matched", **changes: Any) -> KubernetesScaling:
    """An arm's settings, with quotas that suit a host of two cores."""
    quick = {"cpu_cores": 0.25, "memory_mib": 64, "drain_delay_s": 2}
    return KubernetesScaling.model_validate({**K3s().arm(arm).model_dump(), **quick, **changes})


@contextmanager
def clients(url: str, number: int, *, kept: bool = False) -> Iterator[list[tuple[int, str]]]:
    """``number`` clients without think time; the list grows by (status, replica) per answer."""
    replies: list[tuple[int, str]] = []
    ended = threading.Event()
    parts = urlsplit(url)

    def client() -> None:
        connection: http.client.HTTPConnection | None = None
        while not ended.is_set():
            connection = connection or http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
            try:
                connection.request("POST", parts.path, b"photo")
                response = connection.getresponse()
                response.read()
                replies.append((response.status, response.getheader("X-Mlscale-Replica") or ""))
            except (OSError, http.client.HTTPException) as error:
                replies.append((0, repr(error)))
                kept_now = False
            else:
                kept_now = kept
            if not kept_now:
                connection.close()
                connection = None

    threads = [threading.Thread(target=client) for _ in range(number)]
    for thread in threads:
        thread.start()
    try:
        yield replies
    finally:
        ended.set()
        for thread in threads:
            thread.join()
