"""The sending process: ``python -m mlscale.loadgen.worker``, controlled through standard input (`spec`).

It reads a `WorkerSpec`, reports `Ready`, reads `Go`, sends its part of the schedule and reports `Done`. The end of
standard input (also its parent's death) stops it: open requests are recorded as unfinished, the stream closed. So does
SIGTERM, which never comes from its parent and is therefore reported: the schedule was not sent in full.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import uvloop

from mlscale.errors import MlscaleError
from mlscale.loadgen.bodies import bodies_of, load_check
from mlscale.loadgen.client import Client, open_connections_allowed
from mlscale.loadgen.process import TOLD_TO_STOP
from mlscale.loadgen.recorder import Recorder
from mlscale.loadgen.schedules import WorkerShare
from mlscale.loadgen.send_queue import SendQueue, make_queue
from mlscale.loadgen.sender import Limits, Sender
from mlscale.loadgen.spec import Beat, Done, Failed, Go, Ready, WorkerSpec
from mlscale.loadgen.stimulus import Summary, Tally
from mlscale.runs.schedule import OpenLoop

_BEAT_S: Final = 0.5
_MAX_LINE: Final = 64 * 2**20
_BACKLOG_ROWS: Final = 65_536


def main() -> int:
    """Exit code 0: sent, stopped or aborted, and reported; 2: a reported error; 3: the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and stops its workers
    messages = os.dup(1)
    os.dup2(2, 1)  # what a check prints must not get between the messages
    try:
        return uvloop.run(_work(messages))
    except MlscaleError as error:
        _send_last(messages, Failed.of(error))
        return 2
    except OSError as error:
        failed = Failed(
            what=f"the load generator failed: {error.strerror or error}",
            where=str(error.filename or "requests table"),
            remedy="make room, or choose another --out; the recorded part is kept",
        )
        _send_last(messages, failed)
        return 2
    except EOFError:
        return 3


async def _work(messages: int) -> int:
    """``messages``: the descriptor that they are written to."""
    lines, stopped = await _open_stdin()
    spec = WorkerSpec.model_validate_json(await _next_line(lines))
    load = spec.load
    bodies = bodies_of(load)
    part = WorkerShare(spec.worker, load.workers)
    queue = make_queue(load.schedule, load.seed, load.block, len(bodies) if bodies else 0, part)
    allowed = open_connections_allowed()
    limits = Limits(load.abort_lateness_s, load.abort_after_s, min(load.max_open or allowed, allowed))
    client = Client(load, bodies, load_check(load.check, bodies.labels) if bodies else None)
    _send_message(messages, Ready())
    go = Go.model_validate_json(await _next_line(lines))
    tally = Tally(load.schedule)
    recorder = Recorder(spec.stream, tally, bodies.names if bodies else (), go.origin_s, go.start_s)
    zero_s = go.origin_s + go.start_s
    sender = Sender(queue, client, recorder, zero_s, limits, open_loop=isinstance(load.schedule, OpenLoop))
    try:
        summary = await _send(messages, sender, recorder, tally, queue, go, stopped)
    except BaseException:
        _close_quietly(recorder)
        raise
    _send_last(messages, Done(summary=summary))
    return 0


async def _send(
    messages: int,
    sender: Sender,
    recorder: Recorder,
    tally: Tally,
    queue: SendQueue,
    go: Go,
    stopped: asyncio.Future[None],
) -> Summary:
    zero_s = go.origin_s + go.start_s
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, sender.abort, TOLD_TO_STOP)
    loop.set_exception_handler(lambda _, context: sender.fail(context))
    stopped.add_done_callback(lambda _: sender.stop())
    late_s = time.monotonic() - zero_s
    if late_s > 0:
        sender.abort(f"the load generator was ready {late_s:.2f} s after the schedule's start")
    gc.collect()
    gc.freeze()  # objects that exist now stay, so the collector needn't scan them
    beat = asyncio.ensure_future(_beat(messages, sender, recorder, go.origin_s))
    cpu_s, begun_s = time.process_time(), time.monotonic()
    try:
        await sender.run()
    finally:
        beat.cancel()
    cpu_s, ended_s = time.process_time() - cpu_s, time.monotonic()
    recorder.close()
    if sender.aborted or stopped.done():
        for times in _backlog(queue, ended_s - zero_s):
            tally.add_unsent(times)
    return tally.summary(cpu_s=cpu_s, wall_s=max(ended_s - max(begun_s, zero_s), 0.0), aborted=sender.aborted)


def _backlog(queue: SendQueue, until_s: float) -> Iterator[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    """Intended times of requests that were due but not sent, some at a time."""
    times: list[float] = []
    while (due_s := queue.next_s()) is not None and due_s <= until_s:
        times.append(queue.take().intended_s)
        if len(times) == _BACKLOG_ROWS:
            yield np.array(times, dtype=np.float64)
            times.clear()
    yield np.array(times, dtype=np.float64)


async def _beat(messages: int, sender: Sender, recorder: Recorder, origin_s: float) -> None:
    while True:
        await asyncio.sleep(_BEAT_S)
        _send_message(
            messages,
            Beat(
                t_s=time.monotonic() - origin_s,
                begun=sender.begun,
                finished=recorder.finished,
                failed=recorder.failed,
                open=sender.open_requests,
                cpu_s=time.process_time(),
                rss_bytes=_rss_bytes(),
                answered=recorder.answered,
                response_sum_s=recorder.response_sum_s,
            ),
        )


def _rss_bytes() -> float:
    try:
        return float(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:  # no /proc, and no psutil in the application's image: the peak, which macOS counts in bytes
        return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


async def _open_stdin() -> tuple[asyncio.StreamReader, asyncio.Future[None]]:
    """Standard input as a stream, and a future that completes at its end."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=_MAX_LINE)
    stopped: asyncio.Future[None] = loop.create_future()

    class _Input(asyncio.StreamReaderProtocol):
        def eof_received(self) -> bool | None:
            if not stopped.done():
                stopped.set_result(None)
            return super().eof_received()

        def connection_lost(self, exc: Exception | None) -> None:
            if not stopped.done():
                stopped.set_result(None)
            super().connection_lost(exc)

    await loop.connect_read_pipe(lambda: _Input(reader), sys.stdin)
    return reader, stopped


async def _next_line(reader: asyncio.StreamReader) -> bytes:
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise EOFError("standard input ended")
    return line


def _send_message(messages: int, message: Ready | Beat) -> None:
    """Send a message that may be lost: a parent that doesn't read must not delay sending."""
    os.set_blocking(messages, False)
    try:
        os.write(messages, message.model_dump_json().encode() + b"\n")
    except (BlockingIOError, BrokenPipeError):  # a full pipe, or the parent is gone: then standard input ends too
        return


def _send_last(messages: int, message: Done | Failed) -> None:
    os.set_blocking(messages, True)
    line = memoryview(message.model_dump_json().encode() + b"\n")
    try:
        while line:
            line = line[os.write(messages, line) :]
    except BrokenPipeError:  # the parent is gone; the stream keeps what was recorded
        return


def _close_quietly(recorder: Recorder) -> None:
    try:
        recorder.close()
    except OSError:  # report the error being raised, not this one
        return


if __name__ == "__main__":
    sys.exit(main())
