"""What runs in the sandbox: a proxy with one queue, replicas that each serve one request at a time, a scaling loop.

``python -m process_pool.pool SETTINGS`` (JSON). It prints events and reads commands, one JSON object per line. At the
end of standard input, mlscale is gone, and it exits.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from mlscale.environments.emit import Emitter

POLL_S = 0.1
# Headers of a replica's answer that the client gets.
FORWARDED = ("X-Mlscale-Replica", "X-Mlscale-Started-S", "X-Mlscale-Inference-S", "Content-Type")


@dataclass
class Replica:
    """A replica: a process with its own port."""

    port: int
    process: asyncio.subprocess.Process
    name: str = ""
    ready: bool = False
    busy: bool = False
    leaving: bool = False


@dataclass
class Pool:
    """The proxy's state: replicas, and requests waiting for one."""

    settings: dict[str, Any]
    out: Emitter
    replicas: list[Replica] = field(default_factory=list)
    waiting: deque[asyncio.Future[Replica]] = field(default_factory=deque)
    ongoing: int = 0
    desired: int = 0
    client: aiohttp.ClientSession = field(init=False)

    async def serve(self, request: web.Request) -> web.Response:
        """Wait for a free replica, forward the request, return the answer."""
        body = await request.read()
        self.ongoing += 1
        replica = await self._acquire()
        try:
            url = f"http://127.0.0.1:{replica.port}/decode"
            headers = {"Content-Type": request.headers.get("Content-Type", "application/octet-stream")}
            async with self.client.post(url, data=body, headers=headers) as answer:
                forwarded = {name: answer.headers[name] for name in FORWARDED if name in answer.headers}
                return web.Response(status=answer.status, body=await answer.read(), headers=forwarded)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=str(error))
        finally:
            self.ongoing -= 1
            self._release(replica)

    async def _acquire(self) -> Replica:
        replica = next((r for r in self.replicas if r.ready and not r.busy and not r.leaving), None)
        if replica is None:
            turn: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            replica = await turn
        replica.busy = True
        return replica

    def _release(self, replica: Replica) -> None:
        replica.busy = False
        if replica.leaving:
            replica.process.terminate()
            return
        self._offer(replica)

    def _offer(self, replica: Replica) -> None:
        """Give a free replica to the request that has waited longest, unless it was cancelled."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.cancelled():
                replica.busy = True
                turn.set_result(replica)
                return

    async def start(self) -> None:
        """Start one replica and wait until it is ready."""
        port = 1 + max((replica.port for replica in self.replicas), default=self.settings["port"])
        argv = [self.settings["python"], "-m", "mlscale.serving.container", "--entry", self.settings["entry"]]
        environment = {**os.environ, "MLSCALE_REPLICA": f"pool-{port}"}
        argv += ["--host", "127.0.0.1", "--port", str(port)]
        process = await asyncio.create_subprocess_exec(*argv, stdout=sys.stderr, env=environment)
        replica = Replica(port, process, f"replica-{process.pid}")
        self.replicas.append(replica)
        self.out.event(self.settings["component"], "replica_created", replica.name)
        while not await self._is_ready(port):
            if process.returncode is not None:
                self.out.failed(f"a replica ended with code {process.returncode}", "process pool", "see its log")
                return
            await asyncio.sleep(POLL_S)
        replica.ready = True
        self.out.event(self.settings["component"], "replica_ready", replica.name, detail={"replica_id": f"pool-{port}"})
        self._offer(replica)

    async def _is_ready(self, port: int) -> bool:
        try:
            async with self.client.get(f"http://127.0.0.1:{port}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """Stop one replica: the youngest idle one, else the youngest once it has answered."""
        remaining = [replica for replica in self.replicas if not replica.leaving]
        replica = next((replica for replica in reversed(remaining) if not replica.busy), remaining[-1])
        replica.leaving = True
        self.out.event(self.settings["component"], "replica_draining", replica.name)
        if not replica.busy:
            replica.process.terminate()
        await replica.process.wait()
        self.replicas.remove(replica)
        self.out.event(self.settings["component"], "replica_removed", replica.name)

    async def scale(self) -> None:
        """Ten times a second: start or stop replicas if the requests have needed it for long enough."""
        settings, tasks = self.settings, set[asyncio.Task[None]]()
        since_s, wanted_before = time.monotonic(), self.desired
        while True:
            await asyncio.sleep(POLL_S)
            needed = math.ceil(self.ongoing / settings["target_ongoing"])
            wanted = min(max(needed, settings["min_replicas"]), settings["max_replicas"])
            now_s = time.monotonic()
            if (wanted > self.desired) != (wanted_before > self.desired) or wanted == self.desired:
                since_s = now_s
            wanted_before = wanted
            delay_s = settings["upscale_delay_s"] if wanted > self.desired else settings["downscale_delay_s"]
            if wanted != self.desired and now_s - since_s >= delay_s:
                detail = {"from": self.desired, "to": wanted, "reason": f"{self.ongoing} requests in flight"}
                self.out.event(settings["component"], "scale_decision", detail=detail)
                change = wanted - self.desired
                self.desired, since_s = wanted, now_s
                tasks |= {asyncio.create_task(self.start() if change > 0 else self.stop()) for _ in range(abs(change))}
                tasks = {task for task in tasks if not task.done()}
            ready = sum(replica.ready and not replica.leaving for replica in self.replicas)
            starting = sum(not replica.ready for replica in self.replicas)
            self.out.replicas(settings["component"], self.desired, starting, ready)


async def main(settings: dict[str, Any]) -> None:
    """Run until standard input ends."""
    pool = Pool(settings, Emitter())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as pool.client:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_post("/decode", pool.serve)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", settings["port"]).start()
        try:
            pool.desired = settings["min_replicas"]
            await asyncio.gather(*(pool.start() for _ in range(pool.desired)))
            pool.out.ready(replicas=pool.desired)
            lines = asyncio.StreamReader()
            await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
            await _warm_up(pool, json.loads(await lines.readline() or "{}"))
            scaling = asyncio.create_task(pool.scale())
            while await lines.readline():
                continue
            scaling.cancel()
        finally:
            for replica in pool.replicas:
                if replica.process.returncode is None:
                    replica.process.terminate()


async def _warm_up(pool: Pool, command: dict[str, Any]) -> None:
    """Send every body twice to every replica."""
    for replica in pool.replicas:
        for file in command.get("bodies", []) * 2:
            url = f"http://127.0.0.1:{replica.port}/decode"
            async with pool.client.post(url, data=Path(file).read_bytes()) as answer:
                await answer.read()
    pool.out.ready()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
