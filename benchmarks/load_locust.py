"""The Locust side of benchmarks/load.py: users that count requests and record their lateness."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import gevent
from locust import FastHttpUser, constant_pacing, events, task

PACING_S = float(os.environ["BENCH_PACING"])
SECONDS = float(os.environ["BENCH_SECONDS"])
HEADERS = {"Connection": "close"} if os.environ["BENCH_FRESH"] else {}
SETTLE_S = 1.0
measured: dict[str, Any] = {"late_s": [], "count": 0, "rate": float("nan"), "cores": float("nan")}


class Visitor(FastHttpUser):
    """Sends, waits for the answer, and sends again by its pacing."""

    wait_time = constant_pacing(PACING_S)

    def on_start(self) -> None:
        gevent.sleep(PACING_S * (id(self) % 997) / 997)  # otherwise all users send at the same instants
        self.first_s: float | None = None
        self.sent = 0

    @task
    def visit(self) -> None:
        now_s = time.monotonic()
        if self.first_s is None:
            self.first_s = now_s
        if measured.get("begun_s") is not None:
            measured["late_s"].append(now_s - self.first_s - self.sent * PACING_S)
            measured["count"] += 1
        self.sent += 1
        self.client.get("/", headers=HEADERS)


@events.spawning_complete.add_listener
def _begin(**_: Any) -> None:
    gevent.spawn(_watch)


def _watch() -> None:
    gevent.sleep(SETTLE_S)
    measured["begun_s"], cpu_s = time.monotonic(), time.process_time()
    gevent.sleep(SECONDS)
    wall_s = time.monotonic() - measured["begun_s"]
    result = {
        "late_s": measured["late_s"],
        "rate": measured["count"] / wall_s,
        "cores": (time.process_time() - cpu_s) / wall_s,
    }
    Path(os.environ["BENCH_RESULT"]).write_text(json.dumps(result))
