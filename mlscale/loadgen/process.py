"""Controls load workers from the parent: start, watch, stop, and report."""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final, Self

from pydantic import ValidationError

from mlscale.errors import MlscaleError
from mlscale.loadgen.spec import MESSAGE, Beat, Done, Failed, Go, LoadSpec, Ready, WorkerSpec
from mlscale.loadgen.stimulus import Summary, merge
from mlscale.runs.info import StimulusReport

_STOP_S: Final = 10.0
_POLL_S: Final = 0.05
# How long after its last request's timeout a worker may still run, s: it only closes its stream then. (One that was
# stopped, by SIGSTOP or a debugger, never ends.)
_LATE_S: Final = 60.0
# The same for a job on another machine, whose tables come through the log of its platform.
_LATE_REMOTE_S: Final = 600.0
# Why a worker was aborted by a SIGTERM, which came from a user or from the platform of its job, not from here.
TOLD_TO_STOP: Final = "told to stop (SIGTERM)"


class LoadProcess:
    """The load workers of one run. Leaving the context stops them, as does this process's death."""

    def __init__(self) -> None:
        self._workers: list[_Worker] = []
        self._spec: LoadSpec | None = None
        self._start_s = 0.0
        self._overdue_s = math.inf  # time.monotonic()
        self._first_stopped: _Worker | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, spec: LoadSpec, prefix: Sequence[str], streams: Sequence[Path]) -> None:
        """Start the workers; sending begins after `release`.

        Args:
            prefix: argv to prepend to the workers' own (to enter a namespace, say).
            streams: file of each worker's part of the requests table.
        """
        if len(streams) != spec.workers:
            raise ValueError(f"{len(streams)} streams for {spec.workers} workers")
        if self._workers:
            raise ValueError("started already")
        self._spec = spec
        try:
            for worker, stream in enumerate(streams):
                self._workers.append(_Worker(prefix, WorkerSpec(load=spec, worker=worker, stream=stream)))
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, at_most_s: float = 120.0) -> None:
        """Wait until every worker has read its bodies and is ready to send.

        Raises:
            MlscaleError: a worker failed or wasn't ready in time; then all are stopped.
        """
        deadline_s = time.monotonic() + at_most_s
        for worker in self._workers:
            worker.responded.wait(max(deadline_s - time.monotonic(), 0.0))
            if worker.responded.is_set() and worker.ready:
                continue
            failed = worker.responded.is_set()  # with another message, or by closing its standard output
            self.stop()
            raise (worker.failure() if failed else None) or MlscaleError(
                f"not ready after {at_most_s:g} s", "load generator", "stop other processes that keep the CPUs busy"
            )

    def release(self, origin_s: float, start_s: float) -> None:
        """Tell all workers the run's clock and the schedule's start on it (see `Go`)."""
        for worker in self._workers:
            worker.send(Go(origin_s=origin_s, start_s=start_s).model_dump_json())
        self._start_s = start_s
        if self._spec is not None:
            self._overdue_s = origin_s + start_s + self._spec.schedule.duration_s + self._spec.timeout_s

    @property
    def not_before_s(self) -> float:
        """Earliest start of the schedule, ``time.monotonic()`` seconds: a load sent from elsewhere takes a while to
        start."""
        return max((worker.not_before_s for worker in self._workers), default=0.0)

    @property
    def pids(self) -> tuple[int, ...]:
        """Pids of the workers (of their prefix, if they have one)."""
        return tuple(worker.pid for worker in self._workers)

    def join(self, at_most_s: float) -> bool:
        """Wait at most ``at_most_s`` for the workers to end; returns whether they have. If one worker fails or aborts,
        the others are stopped.

        Raises:
            MlscaleError: a worker runs although everything was to be sent and answered long ago.
        """
        deadline_s = time.monotonic() + at_most_s
        while not self._ended():
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                return False
            running = next((worker for worker in self._workers if not worker.ended.is_set()), self._workers[0])
            running.ended.wait(min(left_s, _POLL_S))
        return True

    def _ended(self) -> bool:
        codes = [worker.code() for worker in self._workers]
        early = [worker for worker in self._workers if worker.stopped_early]
        if early:
            self._first_stopped = self._first_stopped or early[0]
            for worker in self._workers:
                worker.close_stdin()
        late_s = _LATE_REMOTE_S if self.not_before_s else _LATE_S
        if None in codes and time.monotonic() > self._overdue_s + late_s:
            what = f"it still runs {late_s:g} s after the schedule's end and the last request's timeout"
            raise MlscaleError(what, "load generator", "measure again; the recorded part is kept")
        return None not in codes

    def progress(self) -> Beat:
        """The workers' latest reports (twice a second) as one: their sums, at the time of the last."""
        beats = [worker.beat for worker in self._workers if worker.beat is not None]
        counts = Beat.model_fields.keys() - {"type", "t_s"}
        sums = {name: sum(getattr(beat, name) for beat in beats) for name in counts}
        return Beat(t_s=max((beat.t_s for beat in beats), default=0.0), **sums)

    def stop(self, patience_s: float = _STOP_S) -> None:
        """Stop sending and end all workers; open requests are recorded as unfinished. Idempotent."""
        for worker in self._workers:
            worker.close_stdin()
        deadline_s = time.monotonic() + patience_s
        for worker in self._workers:
            worker.end(max(deadline_s - time.monotonic(), 0.0))

    def wait(self) -> StimulusReport:
        """Wait for the workers to end. ``aborted`` in the report says why a load was aborted.

        Raises:
            MlscaleError: a worker failed, hangs or was told to stop; its stream keeps what was recorded.
        """
        try:
            while not self.join(1.0):
                pass
        except BaseException:
            self.stop()
            raise
        self.stop()
        # The others may have failed because they were stopped, so the first failure gives the reason.
        workers = sorted(self._workers, key=lambda worker: worker is not self._first_stopped)
        failed = next((worker.failure() for worker in workers if worker.failure() is not None), None)
        if failed is not None:
            raise failed
        report = self.report()
        assert report is not None
        if report.aborted == TOLD_TO_STOP:
            raise MlscaleError(TOLD_TO_STOP, "load generator", "measure again; the recorded part is kept")
        return report

    def report(self) -> StimulusReport | None:
        """What the workers that have ended sent, also after `stop`; None: none has reported."""
        summaries = [worker.summary for worker in self._workers if worker.summary is not None]
        return merge(summaries) if summaries else None


class _Worker:
    """One worker process and its messages."""

    def __init__(self, prefix: Sequence[str], spec: WorkerSpec) -> None:
        self.responded = threading.Event()
        self.ready = False
        self.not_before_s = 0.0
        self.ended = threading.Event()
        self.beat: Beat | None = None
        self.failed: MlscaleError | None = None
        self.summary: Summary | None = None
        self._stopped = False
        self._stderr_lines: deque[str] = deque(maxlen=20)
        self._process = subprocess.Popen(
            [*prefix, sys.executable, "-P", "-m", "mlscale.loadgen.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C at the terminal is the parent's to handle
        )
        self._readers = [
            threading.Thread(target=self._read_stdout, args=(self._process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr, args=(self._process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()
        assert self._process.stdin is not None
        self._stdin = self._process.stdin
        self.send(spec.model_dump_json())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def stopped_early(self) -> bool:
        """Whether it failed or aborted, so that the others can stop."""
        if self.summary is not None:
            return self.summary.aborted is not None
        return self.failed is not None or self.code() is not None

    def send(self, line: str) -> None:
        try:
            self._stdin.write(line.encode() + b"\n")
            self._stdin.flush()
        except (BrokenPipeError, ValueError):  # it has ended and reported why
            return

    def code(self) -> int | None:
        """The exit code, once the process has ended and all its output has been read."""
        code = self._process.poll()
        if code is None:
            return None
        for reader in self._readers:
            reader.join(timeout=2.0)
        self.ended.set()
        return code

    def failure(self) -> MlscaleError | None:
        if self.failed is not None or self.summary is not None:
            return self.failed
        last = self._stderr_lines[-1] if self._stderr_lines else "no output"
        return MlscaleError(
            f"exited with code {self._process.returncode}: {last}", "load generator", "the recorded part is kept"
        )

    def close_stdin(self) -> None:
        """Close its standard input, which stops it."""
        self._stopped = True
        try:
            self._stdin.close()
        except BrokenPipeError:  # unsent data for a process that has ended
            return

    def end(self, patience_s: float) -> None:
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join(timeout=2.0)
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()
        self.ended.set()

    def _read_stdout(self, stdout: IO[bytes]) -> None:
        for line in stdout:
            try:
                message = MESSAGE.validate_json(line)
            except ValidationError:
                self._stderr_lines.append(line.decode(errors="replace").strip())
                continue
            match message:
                case Ready(not_before_s=not_before_s):
                    self.ready, self.not_before_s = True, not_before_s
                case Beat():
                    self.beat = message
                case Done(summary=summary):
                    if self._stopped and summary.aborted == TOLD_TO_STOP:  # to a job elsewhere our stop is a SIGTERM
                        summary = summary.model_copy(update={"aborted": None})
                    self.summary = summary
                case Failed(what=what, where=where, remedy=remedy):
                    self.failed = MlscaleError(what, where, remedy)
            self.responded.set()
        self.responded.set()
        self.ended.set()

    def _read_stderr(self, stderr: IO[bytes]) -> None:
        for line in stderr:
            self._stderr_lines.append(line.decode(errors="replace").strip())
