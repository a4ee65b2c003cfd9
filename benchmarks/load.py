"""The load generator beside a bare aiohttp loop and Locust: lateness, cost and capacity.

    python benchmarks/load.py [--rate 2000] [--seconds 6] [--rounds 3]

All send to the same trivial server, in turns (so that changes of the machine affect all alike), each on one core while
the server has another. At a given rate: how late is a request sent (open loop: after its due time; Locust: after its
pacing's; a tool that can't hold the rate gets later and later), and at what CPU cost? And how many requests a second do
32 clients without think time make? Locust is optional: make bench-extra.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import uvloop

from mlscale.loadgen.process import LoadProcess, LoadSpec
from mlscale.loadgen.schedules import send_times
from mlscale.runs import ClosedLoop, ClosedStage, Connections, Constant, OpenLoop

CLIENTS = 32
BODY = b'{"codes": []}'
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY
LOCUSTFILE = Path(__file__).with_name("load_locust.py")

Row = dict[str, float]


class TrivialServer(asyncio.Protocol):
    """Answers every GET at once; closes the connection on request."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            self._transport.write(REPLY)
            if b"connection: close" in head.lower():
                self._transport.close()
                return


async def serve() -> None:
    server = await asyncio.get_running_loop().create_server(TrivialServer, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def bare_open(url: str, rate: float, seconds: float, connections: str) -> None:
    """The obvious loop: a task per due time, timed by the event loop."""
    due_times = [t for sends in send_times(open_loop(rate, seconds), 0) for t in sends.intended_s.tolist()]
    late: list[float] = []
    async with bare_session(connections) as session:
        start_s, cpu_s = time.monotonic() + 0.2, time.process_time()

        async def send(due_s: float) -> None:
            late.append(time.monotonic() - start_s - due_s)
            async with session.get(url) as response:
                await response.read()

        tasks = set()
        for due_s in due_times:
            delay_s = start_s + due_s - time.monotonic()
            if delay_s > 0:
                await asyncio.sleep(delay_s)
            task = asyncio.create_task(send(due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        await asyncio.gather(*tasks)
        wall_s = time.monotonic() - start_s
        print(json.dumps(row_of(late, len(late) / wall_s, (time.process_time() - cpu_s) / wall_s)))


async def bare_closed(url: str, seconds: float, connections: str) -> None:
    async with bare_session(connections) as session:
        start_s, cpu_s, count = time.monotonic(), time.process_time(), 0

        async def client() -> None:
            nonlocal count
            while time.monotonic() < start_s + seconds:
                async with session.get(url) as response:
                    await response.read()
                count += 1

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        wall_s = time.monotonic() - start_s
        print(json.dumps(row_of([], count / wall_s, (time.process_time() - cpu_s) / wall_s)))


def bare_session(connections: str) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=connections == "fresh"))


def open_loop(rate: float, seconds: float) -> OpenLoop:
    return OpenLoop(duration_s=seconds, rate=Constant(rate_rps=rate), arrivals="poisson")


def row_of(late: list[float], rate: float, cores: float) -> Row:
    ordered = sorted(late) or [float("nan")]
    return {
        "p50_ms": 1000 * ordered[len(ordered) // 2],
        "p99_ms": 1000 * ordered[int(len(ordered) * 0.99)],
        "max_ms": 1000 * ordered[-1],
        "rate": rate,
        "cores": cores,
    }


def ours(schedule: OpenLoop | ClosedLoop, url: str, connections: Connections, prefix: list[str]) -> Row:
    with tempfile.TemporaryDirectory() as folder, LoadProcess() as load:
        spec = LoadSpec(url, schedule, connections=connections, start_s=None, abort_lateness_s=60.0)
        load.start(spec, prefix, [Path(folder) / "requests-0.arrow"])
        load.wait_ready()
        load.release(time.monotonic(), 0.2)
        report = load.wait()
    return {
        "p50_ms": 1000 * report.lateness_p50_s,
        "p99_ms": 1000 * report.lateness_p99_s,
        "max_ms": 1000 * report.lateness_max_s,
        "rate": report.finished / schedule.duration_s,
        "cores": report.load_cpu_cores,
    }


def bare(role: str, url: str, rate: float, seconds: float, connections: str, prefix: list[str]) -> Row:
    own = [sys.executable, __file__, "--role", role, "--url", url, "--rate", str(rate), "--seconds", str(seconds)]
    out = subprocess.run(
        [*prefix, *own, "--connections", connections], check=True, capture_output=True, start_new_session=True
    )
    row: Row = json.loads(out.stdout)
    return row


def locust(url: str, rate: float | None, seconds: float, connections: str, prefix: list[str]) -> Row:
    """Locust's FastHttpUser; paced (``rate``, 10 a second and user) or as fast as it can with CLIENTS users."""
    users = round(rate / 10) if rate else CLIENTS
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "locust.json"
        environment = os.environ | {
            "BENCH_RESULT": str(result),
            "BENCH_PACING": "0.1" if rate else "0",
            "BENCH_FRESH": "1" if connections == "fresh" else "",
            "BENCH_SECONDS": str(seconds),
        }
        command = [sys.executable, "-m", "locust", "-f", str(LOCUSTFILE), "--headless", "--host", url, "--only-summary"]
        command += [
            "-u",
            str(users),
            "-r",
            str(users),
            "-t",
            f"{seconds + 3:.0f}s",
            "--stop-timeout",
            "2",
            "-L",
            "ERROR",
        ]
        subprocess.run([*prefix, *command], check=False, capture_output=True, env=environment, start_new_session=True)
        measured = json.loads(result.read_text())
    return row_of(measured["late_s"], measured["rate"], measured["cores"])


@contextmanager
def server(prefix: list[str]) -> Iterator[str]:
    command = [*prefix, sys.executable, __file__, "--role", "server"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.terminate()


def on_core(core: int, *, realtime: bool) -> list[str]:
    """argv that pins a command to one core, with the highest priority that the kernel allows.

    A new session is a new autogroup, whose weight is the group's nice value, not the process's.
    """
    if shutil.which("taskset") is None:
        return []
    pinned = ["taskset", "-c", str(core)]
    if realtime:
        return ["chrt", "-f", "10", *pinned]
    if os.geteuid() == 0 and Path("/proc/self/autogroup").exists():
        return ["sh", "-c", 'echo -20 >/proc/self/autogroup; exec "$0" "$@"', *pinned]
    return pinned


def measure(rate: float, seconds: float, rounds: int, *, realtime: bool) -> dict[tuple[str, str, str], list[Row]]:
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 1]
    load_core, server_core = on_core(cores[0], realtime=realtime), on_core(cores[-1], realtime=realtime)
    closed = ClosedLoop(duration_s=seconds, stages=(ClosedStage(start_s=0, clients=CLIENTS),))
    with_locust = subprocess.run([sys.executable, "-c", "import locust"], capture_output=True).returncode == 0
    if not with_locust:
        print("Locust is not installed and left out (make bench-extra installs it)\n")
    results: dict[tuple[str, str, str], list[Row]] = {}
    kinds: tuple[Connections, ...] = ("kept", "fresh")
    with server(server_core) as url:
        for _ in range(rounds):
            for kind in kinds:
                turns: dict[tuple[str, str], Callable[[], Row]] = {
                    ("paced", "mlscale"): lambda k=kind: ours(open_loop(rate, seconds), url, k, load_core),  # type: ignore[misc]
                    ("paced", "bare aiohttp"): lambda k=kind: bare("open", url, rate, seconds, k, load_core),  # type: ignore[misc]
                    ("flat out", "mlscale"): lambda k=kind: ours(closed, url, k, load_core),  # type: ignore[misc]
                    ("flat out", "bare aiohttp"): lambda k=kind: bare("closed", url, rate, seconds, k, load_core),  # type: ignore[misc]
                }
                if with_locust:
                    turns["paced", "Locust"] = lambda k=kind: locust(url, rate, seconds, k, load_core)  # type: ignore[misc]
                    turns["flat out", "Locust"] = lambda k=kind: locust(url, None, seconds, k, load_core)  # type: ignore[misc]
                for (what, tool), turn in turns.items():
                    results.setdefault((what, kind, tool), []).append(turn())
    return results


def report(results: dict[tuple[str, str, str], list[Row]], rate: float) -> None:
    print(f"{'':32}{'sent late by, ms':^36}{'requests/s':>12}{'of mlscale':>12}{'core':>7}")
    print(f"{'':32}{'p50':>8}{'p99':>8}{'max':>8}{'p99, each round':>22}")
    for (what, kind, tool), rows in sorted(results.items(), key=lambda item: (item[0][0], item[0][1])):
        middle = {name: statistics.median(row[name] for row in rows) for name in rows[0]}
        base = statistics.median(row["rate"] for row in results[what, kind, "mlscale"])
        rounds = " ".join(f"{row['p99_ms']:.2f}" for row in rows) if what == "paced" else ""
        late = f"{middle['p50_ms']:8.2f}{middle['p99_ms']:8.2f}{middle['max_ms']:8.2f}" if what == "paced" else " " * 24
        numbers = f"{late}{rounds:>22}{middle['rate']:12.0f}{middle['rate'] / base:12.2f}{middle['cores']:7.2f}"
        print(f"{what:<9}{kind:<7}{tool:<16}{numbers}")
    print(f"\npaced: {rate:g} requests/s due (Poisson; Locust: 10 a second and user). Medians of the rounds.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=2000.0)
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--realtime", action="store_true", help="all under SCHED_FIFO (root): less disturbed by a busy machine"
    )
    parser.add_argument("--role", choices=["server", "open", "closed"], help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    parser.add_argument("--connections", default="kept", help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.role:
        case "server":
            uvloop.run(serve())
        case "open":
            uvloop.run(bare_open(options.url, options.rate, options.seconds, options.connections))
        case "closed":
            uvloop.run(bare_closed(options.url, options.seconds, options.connections))
        case _:
            load = f"load average {os.getloadavg()[0]:.1f}"
            print(f"{platform.machine()}, {os.cpu_count()} cores, {platform.platform()}, {load}\n")
            report(measure(options.rate, options.seconds, options.rounds, realtime=options.realtime), options.rate)


if __name__ == "__main__":
    main()
