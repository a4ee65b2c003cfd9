"""A test environment: a real HTTP server in a real sandbox that burns a little CPU per request.

It does not scale. Its photos are JSON files with the expected answer, so that answers can be checked without a model.
It also fails where a test wants it to: see ``BurnerScaling``.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from mlscale.environments import App, Component, ObservationLost, Problem, Scaling
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.reap import reap
from mlscale.host.sandbox import Sandbox, open_sandbox
from mlscale.runs import Level, MlscaleError, Mode, Observation, ReplicaSample, RunClock

APP = App("burner", "1", (Component("app", "none:none"),), front="app")

SERVER = """
import os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *args):
        pass
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        started = time.monotonic()
        cpu = time.thread_time()
        while time.thread_time() - cpu < float(sys.argv[1]):
            pass
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Mlscale-Replica", f"replica-{os.getpid()}")
        self.send_header("X-Mlscale-Started-S", repr(started))
        self.send_header("X-Mlscale-Inference-S", repr(time.monotonic() - started))
        self.end_headers()
        self.wfile.write(body)

server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
"""


class BurnerScaling(Scaling):
    """``fail`` names the step that fails."""

    burn_s: float = Field(default=0.002, ge=0, description="CPU per request, s")
    fail: str = Field(default="", description="'preflight', 'deploy', 'observe' or nothing")


@dataclass
class BurnerDeployed:
    box: Sandbox
    scaling: BurnerScaling
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=lambda: {"what": "a test environment"})
    versions: Mapping[str, str] = field(default_factory=lambda: {"burner": "1"})

    @property
    def load_prefix(self) -> Sequence[str]:
        return self.box.prefix

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        while not stop.wait(0.1):
            yield ReplicaSample(clock(), "app", desired=1, starting=0, ready=1)
            yield from self.box.sample(clock, "app")
            if self.scaling.fail == "observe" and clock() > 0:
                raise ObservationLost("the source went away", "burner", "this is a test")


class Burner:
    name: ClassVar[str] = "test-burner"
    level: ClassVar[Level] = "none"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]] = BurnerScaling

    def arm(self, arm: str) -> BurnerScaling:
        return BurnerScaling()

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        fatal = any(isinstance(scaling, BurnerScaling) and scaling.fail == "preflight" for scaling in scalings.values())
        return [
            Problem("only a remark", "burner", "nothing to do", fatal=False),
            *([Problem("no fuel", "burner", "bring some")] if fatal else []),
        ]

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[BurnerDeployed]:
        scaling = scalings["app"]
        assert isinstance(scaling, BurnerScaling)
        with open_sandbox(self.name, ledger) as box:
            if scaling.fail == "deploy":
                raise MlscaleError("it did not start", "burner", "this is a test")
            argv = [sys.executable, "-c", SERVER, str(scaling.burn_s)]
            server = box.spawn(argv, role="data_plane", stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            with server.stdout:
                port = int(server.stdout.readline())
                yield BurnerDeployed(box, scaling, f"http://127.0.0.1:{port}/decode")

    def reap(self, entry: LedgerEntry) -> None:
        reap(entry)


def write_photos(folder: Path, count: int = 4) -> Path:
    """A photo set for the burner: each "photo" holds its own answer."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = []
    for number in range(count):
        codes = [{"kind": "EAN13", "text": f"{number:013d}"}]
        name = f"photo-{number:03d}.jpg"
        (folder / name).write_text(json.dumps({"codes": codes}))
        labels.append(json.dumps({"file": name, "codes": codes, "answer": {"codes": codes}}))
    (folder / "labels.jsonl").write_text("\n".join(labels) + "\n")
    return folder
