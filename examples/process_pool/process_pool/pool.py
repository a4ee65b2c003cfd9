"""What runs in the sandbox: a proxy with one queue, replicas that each serve one request at a time, a scaling loop.

``python -m process_pool.pool SETTINGS`` (JSON). It prints a line for everything that happens, and takes commands, a
line each, on standard input; its end means that nobody listens any more.
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

LOOK_S = 0.1
# Headers of a replica's answer that the load generator reads.
KEPT = ("X-Mlscale-Replica", "X-Mlscale-Started-S", "X-Mlscale-Inference-S", "Content-Type")


@dataclass
class Replica:
    """One process, reached by a port of its own."""

    port: int
    process: asyncio.subprocess.Process
    name: str = ""
    ready: bool = False
    busy: bool = False
    leaving: bool = False


@dataclass
class Pool:
    """Everything that the proxy knows."""

    told: dict[str, Any]
    out: Emitter
    replicas: list[Replica] = field(default_factory=list)
    waiting: deque[asyncio.Future[Replica]] = field(default_factory=deque)
    ongoing: int = 0
    desired: int = 0
    client: aiohttp.ClientSession = field(init=False)

    async def serve(self, request: web.Request) -> web.Response:
        """Wait for a replica that is free, hand the body on, hand the answer back."""
        body = await request.read()
        self.ongoing += 1
        replica = await self._free()
        try:
            url = f"http://127.0.0.1:{replica.port}/decode"
            headers = {"Content-Type": request.headers.get("Content-Type", "application/octet-stream")}
            async with self.client.post(url, data=body, headers=headers) as answer:
                kept = {name: answer.headers[name] for name in KEPT if name in answer.headers}
                return web.Response(status=answer.status, body=await answer.read(), headers=kept)
        except aiohttp.ClientError as error:
            return web.Response(status=502, text=str(error))
        finally:
            self.ongoing -= 1
            self._given_back(replica)

    async def _free(self) -> Replica:
        found = next((each for each in self.replicas if each.ready and not each.busy and not each.leaving), None)
        if found is None:
            turn: asyncio.Future[Replica] = asyncio.get_running_loop().create_future()
            self.waiting.append(turn)
            found = await turn
        found.busy = True
        return found

    def _given_back(self, replica: Replica) -> None:
        replica.busy = False
        if replica.leaving:
            replica.process.terminate()
            return
        self._offer(replica)

    def _offer(self, replica: Replica) -> None:
        """To whoever has waited longest and still does."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.cancelled():
                replica.busy = True
                turn.set_result(replica)
                return

    async def start(self) -> None:
        """One more replica, ready when its model is."""
        port = self.told["port"] + 1 + max((each.port - self.told["port"] for each in self.replicas), default=0)
        argv = [self.told["python"], "-m", "mlscale.serving.container", "--entry", self.told["entry"]]
        named = {**os.environ, "MLSCALE_REPLICA": f"pool-{port}"}
        argv += ["--host", "127.0.0.1", "--port", str(port)]
        process = await asyncio.create_subprocess_exec(*argv, stdout=sys.stderr, env=named)
        replica = Replica(port, process, f"replica-{process.pid}")
        self.replicas.append(replica)
        self.out.event(self.told["component"], "replica_created", replica.name)
        while not await self._is_ready(port):
            if process.returncode is not None:
                self.out.failed(f"a replica ended with code {process.returncode}", "process pool", "see its log")
                return
            await asyncio.sleep(LOOK_S)
        replica.ready = True
        self.out.event(self.told["component"], "replica_ready", replica.name, detail={"replica_id": f"pool-{port}"})
        self._offer(replica)

    async def _is_ready(self, port: int) -> bool:
        try:
            async with self.client.get(f"http://127.0.0.1:{port}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def stop(self) -> None:
        """One replica fewer: the youngest that is idle, else the youngest, once it has answered."""
        staying = [each for each in self.replicas if not each.leaving]
        replica = next((each for each in reversed(staying) if not each.busy), staying[-1])
        replica.leaving = True
        self.out.event(self.told["component"], "replica_draining", replica.name)
        if not replica.busy:
            replica.process.terminate()
        await replica.process.wait()
        self.replicas.remove(replica)
        self.out.event(self.told["component"], "replica_removed", replica.name)

    async def scale(self) -> None:
        """Every tenth of a second: as many as requests ask for, if they have asked for long enough."""
        told, tasks = self.told, set[asyncio.Task[None]]()
        since_s, wanted_before = time.monotonic(), self.desired
        while True:
            await asyncio.sleep(LOOK_S)
            needed = math.ceil(self.ongoing / told["target_ongoing"])
            wanted = min(max(needed, told["min_replicas"]), told["max_replicas"])
            now_s = time.monotonic()
            if (wanted > self.desired) != (wanted_before > self.desired) or wanted == self.desired:
                since_s = now_s
            wanted_before = wanted
            delay_s = told["upscale_delay_s"] if wanted > self.desired else told["downscale_delay_s"]
            if wanted != self.desired and now_s - since_s >= delay_s:
                detail = {"from": self.desired, "to": wanted, "reason": f"{self.ongoing} requests in flight"}
                self.out.event(told["component"], "scale_decision", detail=detail)
                change = wanted - self.desired
                self.desired, since_s = wanted, now_s
                tasks |= {asyncio.create_task(self.start() if change > 0 else self.stop()) for _ in range(abs(change))}
                tasks = {task for task in tasks if not task.done()}
            ready = sum(each.ready and not each.leaving for each in self.replicas)
            starting = sum(not each.ready for each in self.replicas)
            self.out.replicas(told["component"], self.desired, starting, ready)


async def main(told: dict[str, Any]) -> None:
    """Until standard input ends."""
    pool = Pool(told, Emitter())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True, limit=0)) as pool.client:
        app = web.Application(client_max_size=10_000_000)
        app.router.add_post("/decode", pool.serve)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", told["port"]).start()
        pool.desired = told["min_replicas"]
        await asyncio.gather(*(pool.start() for _ in range(pool.desired)))
        pool.out.ready(replicas=pool.desired)
        lines = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
        await _warm_up(pool, json.loads(await lines.readline() or "{}"))
        scaling = asyncio.create_task(pool.scale())
        while await lines.readline():
            continue
        scaling.cancel()


async def _warm_up(pool: Pool, command: dict[str, Any]) -> None:
    """Every body twice on every replica."""
    for replica in pool.replicas:
        for file in command.get("bodies", []) * 2:
            url = f"http://127.0.0.1:{replica.port}/decode"
            async with pool.client.post(url, data=Path(file).read_bytes()) as answer:
                await answer.read()
    pool.out.ready()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
