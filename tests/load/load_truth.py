"""A server that knows the truth: it counts and times what arrives, and misbehaves as it is told."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlscale.loadgen.bodies import BodySet, Check
from mlscale.loadgen.client import Client
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs import ClosedLoop, ClosedStage, Constant, OpenLoop, StimulusReport

# By which answers about `CODES` are judged.
CHECK = "codereader.answers:same_codes"
CODES = [{"kind": "QR", "text": "hello"}, {"kind": "EAN13", "text": "4006381333931"}]
# A worker that is told its start later than this, on a busy host, aborts the load.
RELEASED_AHEAD_S = 0.5


def run(
    spec: LoadSpec,
    folder: Path,
    during: Callable[[LoadProcess], None] = lambda load: None,
    *,
    aborts: str | None = None,
) -> StimulusReport:
    """A load from its workers' readiness to its end. ``aborts``: words of the reason, if it has to be aborted."""
    with LoadProcess() as load:
        load.start(spec, (), [folder / f"requests-{worker}.arrow" for worker in range(spec.workers)])
        load.wait_ready()
        load.release(time.monotonic() + RELEASED_AHEAD_S, 0.0)
        during(load)
        report = load.wait()
    assert (report.aborted is None) if aborts is None else (aborts in str(report.aborted)), report.aborted
    return report


def client_of(
    url: str, bodies: BodySet | None = None, check: Check | None = None, *, closed: bool = False, **options: Any
) -> Client:
    """A client as a worker makes it; ``options`` are of `LoadSpec`."""
    stages = (ClosedStage(start_s=0, clients=1),)
    schedule = ClosedLoop(duration_s=1, stages=stages) if closed else OpenLoop(duration_s=1, rate=Constant(rate_rps=1))
    return Client(LoadSpec(url=url, schedule=schedule, **options), bodies, check)


def reply(status: int = 200, body: bytes = b"", headers: str = "") -> bytes:
    """A whole HTTP/1.1 response."""
    return f"HTTP/1.1 {status} Some Reason\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@dataclass
class TruthServer:
    """Answers on 127.0.0.1 in a thread. ``behave`` maps a path to what happens to requests for it.

    Behaviours: bytes (sent as they are), "stall" (no answer), "half" (half an answer, then the end), "reset".
    """

    behave: dict[str, bytes | str] = field(default_factory=dict)
    arrivals: list[tuple[float, str, bytes]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    connections: int = 0
    open_now: int = 0
    most_open: int = 0
    delay_s: float = 0.0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        begun = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve(begun)), daemon=True)
        self._thread.start()
        assert begun.wait(20)

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopped.set)
            self._thread.join(20)

    async def _serve(self, begun: threading.Event) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopped = asyncio.Event()
        server = await asyncio.start_server(self._talk, "127.0.0.1", self.port, backlog=512)
        self.port = server.sockets[0].getsockname()[1]
        begun.set()
        await self._stopped.wait()
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        at_s = time.monotonic()
        lines = head.lower().split("\r\n")
        length = next((int(line.split(":")[1]) for line in lines if line.startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        path = head.split(" ")[1]
        self.arrivals.append((at_s, path, body))
        self.heads.append(head.lower())
        self.open_now += 1
        self.most_open = max(self.most_open, self.open_now)
        try:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            match self.behave.get(path, reply(200, b"fine")):
                case "stall":
                    await asyncio.Event().wait()
                case "reset":
                    writer.transport.abort()
                    return False
                case "half":
                    writer.write(reply(200, b"x" * 1000)[:200])
                    return False
                case bytes() as answer:
                    writer.write(answer)
        finally:
            self.open_now -= 1
        return "connection: close" not in lines


def right_answer() -> bytes:
    """What the photos of `photo_folder` show, with corners, in another order."""
    codes = [code | {"corners": [[0, 0]] * 4} for code in reversed(CODES)]
    return json.dumps({"codes": codes}).encode()
