"""The parent's side of load workers: start, watch, stop, and one report at the end."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final, Self

from pydantic import TypeAdapter, ValidationError

from mlscale.errors import MlscaleError
from mlscale.loadgen.spec import Beat, Done, Failed, Go, Ready, Said, WorkerSpec
from mlscale.loadgen.stimulus import Summary, merge
from mlscale.runs.info import Connections, StimulusReport
from mlscale.runs.schedule import ClosedLoop, OpenLoop

_SAID: Final[TypeAdapter[Ready | Beat | Done | Failed]] = TypeAdapter(Said)
_STOP_S: Final = 10.0
_POLL_S: Final = 0.05


@dataclass(frozen=True)
class LoadSpec:
    """What is sent where, and when.

    Args:
        url: where to; bodies are POSTed, without bodies it is a GET.
        headers: of every request.
        bodies: folder of what is sent (`mlscale.loadgen.bodies.BodySet`).
        check: "module:function" that judges answers (`mlscale.loadgen.bodies.load_check`).
        seed, block: all that is random comes from these two.
        connections: a fresh connection for each request, or kept ones (each client of a closed loop keeps its own).
        timeout_s: a request without a whole answer after that long is given up.
        check_answers: False: answers are not checked, whatever is known of them.
        origin_s: zero of the run's clock, ``time.monotonic()`` seconds.
        start_s: zero of the schedule on the run's clock; None: `LoadProcess.release` says it later.
        workers: number of processes that share the schedule.
        abort_lateness_s, abort_after_s: an open loop is given up when sending is that far behind for that long.
        max_open: and when so many requests are open in one worker; None: what the limit of file descriptors allows.
    """

    url: str
    schedule: ClosedLoop | OpenLoop
    headers: Mapping[str, str] = field(default_factory=dict)
    bodies: Path | None = None
    check: str | None = None
    seed: int = 0
    block: int = 0
    connections: Connections = "fresh"
    timeout_s: float = 30.0
    check_answers: bool = True
    origin_s: float = 0.0
    start_s: float | None = 0.0
    workers: int = 1
    abort_lateness_s: float = 1.0
    abort_after_s: float = 3.0
    max_open: int | None = None


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """Where the load stands, all workers together. ``share``: of the schedule's length (1: all sent, or nearly)."""

    t_s: float
    share: float
    begun: int
    finished: int
    failed: int
    open: int
    cpu_s: float
    rss_bytes: float


class LoadProcess:
    """The load workers of one run. Leaving its context stops them; they also stop when this process dies."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._spec: LoadSpec | None = None
        self._start_s = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, spec: LoadSpec, prefix: Sequence[str], streams: Sequence[Path]) -> None:
        """Start the workers; they send from the schedule's start on (or from `release` on).

        Args:
            prefix: argv to put in front of the workers' own (places them in a namespace, say).
            streams: where worker i streams its part of the requests table.
        """
        if len(streams) != spec.workers:
            raise ValueError(f"{len(streams)} streams for {spec.workers} workers")
        if self._workers:
            raise ValueError("started already")
        self._spec = spec
        try:
            for worker, stream in enumerate(streams):
                self._workers.append(_Worker(prefix, _worker_spec(spec, worker, stream)))
        except BaseException:
            self.stop()
            raise
        if spec.start_s is not None:
            self.release(spec.origin_s, spec.start_s)

    def wait_ready(self, at_most_s: float = 60.0) -> None:
        """Wait until every worker has read its bodies and is ready to send.

        Raises:
            MlscaleError: a worker failed, or wasn't ready in time; all are stopped then.
        """
        deadline_s = time.monotonic() + at_most_s
        for worker in self._workers:
            worker.spoke.wait(max(deadline_s - time.monotonic(), 0.0))
            if worker.spoke.is_set() and worker.ready:
                continue
            gone = worker.spoke.is_set()  # it said something else, or its standard output ended
            self.stop()
            raise (worker.failure() if gone else None) or MlscaleError(
                f"it was not ready after {at_most_s:g} s", "load generator", "stop what else keeps the CPUs busy"
            )

    def release(self, origin_s: float, start_s: float) -> None:
        """Tell the workers the run's clock and when on it the schedule starts (see `Go`): one moment for all."""
        for worker in self._workers:
            worker.tell(Go(origin_s=origin_s, start_s=start_s).model_dump_json())
        self._start_s = start_s

    @property
    def not_before_s(self) -> float:
        """From when on the schedule may start, ``time.monotonic()`` seconds: where the load comes from elsewhere, it
        takes a while to get there."""
        return max((worker.not_before_s for worker in self._workers), default=0.0)

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the workers (of their prefix, where they have one)."""
        return tuple(worker.pid for worker in self._workers)

    def poll(self) -> int | None:
        """None while a worker runs; then 0, or a failed worker's exit code. One worker's end in failure or by an
        abort ends the others."""
        codes = [worker.code() for worker in self._workers]
        if any(worker.gave_up for worker in self._workers):
            for worker in self._workers:
                worker.hang_up()
        if any(code is None for code in codes):
            return None
        return next((code for code in codes if code), 0)

    def join(self, at_most_s: float) -> bool:
        """Wait for the workers' end, that long at most; whether they have ended."""
        deadline_s = time.monotonic() + at_most_s
        while self.poll() is None:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            running = next((worker for worker in self._workers if not worker.ended.is_set()), self._workers[0])
            running.ended.wait(min(left_s, _POLL_S))
        return True

    def progress(self) -> LoadProgress:
        """As of the workers' last reports (twice a second)."""
        beats = [worker.beat for worker in self._workers if worker.beat is not None]
        t_s = max((beat.t_s for beat in beats), default=0.0)
        if self._spec is None:
            raise ValueError("not started")
        elapsed_s = t_s - self._start_s if beats else 0.0
        return LoadProgress(
            t_s=t_s,
            share=min(max(elapsed_s / self._spec.schedule.duration_s, 0.0), 1.0),
            begun=sum(beat.begun for beat in beats),
            finished=sum(beat.finished for beat in beats),
            failed=sum(beat.failed for beat in beats),
            open=sum(beat.open for beat in beats),
            cpu_s=sum(beat.cpu_s for beat in beats),
            rss_bytes=sum(beat.rss_bytes for beat in beats),
        )

    def stop(self, patience_s: float = _STOP_S) -> None:
        """Stop sending: open requests are recorded as unfinished. Idempotent; afterwards no worker is left."""
        for worker in self._workers:
            worker.hang_up()
        deadline_s = time.monotonic() + patience_s
        for worker in self._workers:
            worker.end(max(deadline_s - time.monotonic(), 0.0))

    def wait(self) -> StimulusReport:
        """Wait for the workers' end. A load that was given up says why in ``aborted``.

        Raises:
            MlscaleError: a worker failed; what was recorded is still in its stream.
        """
        try:
            while not self.join(1.0):
                pass
        except BaseException:
            self.stop()
            raise
        self.stop()
        failed = next((worker.failure() for worker in self._workers if worker.failure() is not None), None)
        if failed is not None:
            raise failed
        return merge([worker.summary for worker in self._workers if worker.summary is not None])


def _worker_spec(spec: LoadSpec, worker: int, stream: Path) -> WorkerSpec:
    return WorkerSpec(
        url=spec.url,
        headers=dict(spec.headers),
        schedule=spec.schedule,
        bodies=spec.bodies.absolute() if spec.bodies else None,
        seed=spec.seed,
        block=spec.block,
        connections=spec.connections,
        timeout_s=spec.timeout_s,
        check=spec.check,
        check_answers=spec.check_answers,
        stream=stream.absolute(),
        worker=worker,
        workers=spec.workers,
        abort_lateness_s=spec.abort_lateness_s,
        abort_after_s=spec.abort_after_s,
        max_open=spec.max_open,
    )


class _Worker:
    """One worker process and what it said."""

    def __init__(self, prefix: Sequence[str], spec: WorkerSpec) -> None:
        self.spoke = threading.Event()
        self.ready = False
        self.not_before_s = 0.0
        self.ended = threading.Event()
        self.beat: Beat | None = None
        self.failed: MlscaleError | None = None
        self._done: Done | None = None
        self._complaints: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", "mlscale.loadgen.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is the parent's to handle
        )
        self._listeners = [
            threading.Thread(target=self._listen, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._overhear, args=(self._process.stderr,), daemon=True),
        ]
        for listener in self._listeners:
            listener.start()
        self.tell(spec.model_dump_json())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def summary(self) -> Summary | None:
        return self._done.summary if self._done else None

    @property
    def gave_up(self) -> bool:
        """It failed or aborted, so that the others need not go on."""
        if self._done is not None:
            return self._done.summary.aborted is not None
        return self.failed is not None or self.code() is not None

    def tell(self, line: str) -> None:
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.write(line.encode() + b"\n")
            stdin.flush()
        except (BrokenPipeError, ValueError):  # it has ended, and said why
            return

    def code(self) -> int | None:
        """The exit code once the process has ended and everything that it said has been read."""
        code = self._process.poll()
        if code is None:
            return None
        for listener in self._listeners:
            listener.join(timeout=2.0)
        self.ended.set()
        return code

    def failure(self) -> MlscaleError | None:
        if self.failed is not None:
            return self.failed
        if self._done is not None:
            return None
        last = self._complaints[-1] if self._complaints else "it said nothing"
        return MlscaleError(
            f"it ended with code {self._process.returncode}: {last}", "load generator", "what was recorded is kept"
        )

    def hang_up(self) -> None:
        """End its standard input: it stops."""
        stdin = self._process.stdin
        assert stdin is not None
        try:
            stdin.close()
        except BrokenPipeError:  # unwritten rest for a process that has ended
            return

    def end(self, patience_s: float) -> None:
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for listener in self._listeners:
            listener.join(timeout=2.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self.ended.set()

    def _listen(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            try:
                message = _SAID.validate_json(line)
            except ValidationError:
                self._complaints.append(line.decode(errors="replace").strip())
                continue
            match message:
                case Ready(not_before_s=not_before_s):
                    self.ready, self.not_before_s = True, not_before_s
                case Beat():
                    self.beat = message
                case Done():
                    self._done = message
                case Failed(what=what, where=where, remedy=remedy):
                    self.failed = MlscaleError(what, where, remedy)
            self.spoke.set()
        self.spoke.set()
        self.ended.set()

    def _overhear(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            self._complaints.append(line.decode(errors="replace").strip())
