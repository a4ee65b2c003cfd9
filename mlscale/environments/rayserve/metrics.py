"""What only Ray Serve's Prometheus metrics say: how many requests its autoscaler counts.

Its controller exports them every ``RAY_metrics_report_interval_ms`` (Ray's default: 10 s), at the node that it runs on.
A counter of its loops, which never stands still, shows when an export arrived, and so how late the others are.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from statistics import median
from typing import Any, Final

from mlscale.environments.rayserve import rest
from mlscale.runs import MlscaleError

# An answer of Ray 2.60 has 0.6 MB and takes its node 0.1 s.
READ_S: Final = 2.0
_TIMEOUT_S: Final = 3.0
_LOOPS: Final = "ray_serve_controller_num_control_loops{"
_REQUESTS: Final = "ray_serve_autoscaling_total_requests{"
_LABEL: Final = re.compile(r'(application|deployment)="([^"]*)"')


@dataclass(frozen=True)
class Export:
    """Requests queued or in service that the autoscaler counts for each deployment, seen at ``t`` (time.monotonic());
    the export before it was made after ``since``."""

    t: float
    since: float
    requests: Mapping[str, float]


class MetricsReader:
    """Reads the exports for one application. ``facts``: from where, and how late they were, or why there are none."""

    def __init__(self, api: rest.ServeApi, application: str) -> None:
        self.facts: dict[str, Any] = {"missing": "they were not read yet"}
        self._api, self._application = api, application
        self._exports: SimpleQueue[Export] = SimpleQueue()
        self._target = ""
        self._loops: float | None = None
        self._looked_t: float | None = None
        self._since_t: float | None = None
        self._lateness_s: list[float] = []

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read inside the block, in a thread of its own: a node that does not answer delays nothing."""
        stop = threading.Event()
        thread = threading.Thread(target=self._run, args=(stop,), name="Ray's metrics", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join(_TIMEOUT_S)

    def new(self) -> Iterator[Export]:
        """Exports since the last call."""
        while True:
            try:
                yield self._exports.get_nowait()
            except Empty:
                return

    def take(self, text: str, asked_t: float, t: float) -> None:
        """Process an answer, asked for at ``asked_t``. Raises ValueError if Serve's controller is not in it."""
        loops, requests = parse(text, self._application)
        if loops is None:
            raise ValueError(f"{self._target} has no metrics of Serve's controller")
        if loops != self._loops:
            if self._since_t is not None:
                self._lateness_s.append(t - self._since_t)
                self._exports.put(Export(t, self._since_t, requests))
                self.facts = {
                    "from": self._target,
                    "read_every_s": READ_S,
                    "exports": len(self._lateness_s),
                    "late_median_s": round(median(self._lateness_s), 3),
                    "late_at_most_s": round(max(self._lateness_s), 3),
                }
            # It may have been there since just after the last look; of the first one nobody knows.
            self._loops, self._since_t = loops, self._looked_t
        self._looked_t = asked_t

    def _run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                self._target = self._target or self._find()
                asked_t = time.monotonic()
                self.take(_read(self._target), asked_t, time.monotonic())
            except (OSError, ValueError, http.client.HTTPException, MlscaleError) as error:
                self._target = ""
                if not self._lateness_s:
                    self.facts = {"missing": str(error)}
            stop.wait(READ_S)

    def _find(self) -> str:
        """Address of the controller's metrics. Raises OSError, ValueError or MlscaleError: not to be had (yet)."""
        node = (self._api.details(_TIMEOUT_S).get("controller_info") or {}).get("node_ip")
        reason = f"Ray lists none for node {node}"
        for target in self._api.metrics_targets(_TIMEOUT_S):
            if target.rpartition(":")[0] != node:
                continue
            try:
                if _LOOPS in _read(target):
                    return target
                reason = f"node {node} has no metrics of Serve's controller"
            except (OSError, http.client.HTTPException) as error:
                reason = f"{target} can't be reached: {getattr(error, 'reason', error)}"
        raise ValueError(reason)


def parse(text: str, application: str) -> tuple[float | None, dict[str, float]]:
    """Loops of Serve's controller so far (None: not in ``text``), and the autoscaler's requests by deployment."""
    loops, requests = None, {}
    for line in text.splitlines():
        if line.startswith(_LOOPS):
            loops = float(line.rpartition(" ")[2])
        elif line.startswith(_REQUESTS):
            labels = dict(_LABEL.findall(line))
            if labels.get("application") == application:
                requests[labels["deployment"]] = float(line.rpartition(" ")[2])
    return loops, requests


def _read(target: str) -> str:
    with urllib.request.urlopen(f"http://{target}/metrics", timeout=_TIMEOUT_S) as response:
        content: bytes = response.read()
    return content.decode()
