"""Stands in for a load worker when the load is sent from another machine, close to the application.

`LoadProcess` starts it in place of `mlscale.loadgen.worker`: a deployment's ``load_prefix`` is `prefix`, and the
worker's argv that follows is ignored. It exchanges a worker's messages with `LoadProcess`; the work is done by a job
elsewhere (`mlscale.loadgen.remote_job`), whose messages it relays and whose tables it writes to the worker's files.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib
import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from mlscale.errors import MlscaleError
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.remote_job import INSTRUCTIONS, STREAM, TABLE, Instructions
from mlscale.loadgen.spec import MESSAGE, Beat, Done, Failed, Go, Ready, WorkerMessage, WorkerSpec
from mlscale.runs.info import ClockOffset
from mlscale.runs.schedule import ClosedLoop, OpenLoop, Trace


class RemoteJob(Protocol):
    """One job on another machine."""

    warms_up: bool
    """Whether it first POSTs every file twice."""
    clock_within_s: float
    """Largest acceptable uncertainty of its machine's clock, s; infinite: any is accepted, and recorded."""

    def clock(self) -> ClockOffset:
        """Its machine's clock beside this one's, now. Raises MlscaleError if the job is lost."""
        ...

    def send_bodies(self, bodies: Path) -> None:
        """Copy the files to send (a folder, or one file) to its machine, unless they are in its image. Raises
        MlscaleError."""
        ...

    def start(self, environment: Mapping[str, str]) -> None:
        """Run `mlscale.loadgen.remote_job` with these environment variables. Raises MlscaleError."""
        ...

    def lines(self) -> Iterator[str]:
        """Its output lines as they arrive, until it ends; they are read no further than needed. Raises MlscaleError if
        the job is lost."""
        ...

    def stop(self) -> None:
        """Stop sending; it still reports what it sent. Idempotent."""
        ...


def prefix(opener: str, lead_s: float, **arguments: Any) -> list[str]:
    """argv of the stand-in.

    Args:
        opener: "package.module:class" of a `RemoteJob`, which is made with ``arguments``.
        lead_s: time from a job's start until it can send, s.
    """
    arguments_json = json.dumps({"opener": opener, "lead_s": lead_s, "arguments": arguments})
    return [sys.executable, "-P", "-m", "mlscale.loadgen.remote", arguments_json]


def refuse_local_files(schedule: ClosedLoop | OpenLoop) -> None:
    """Raise MlscaleError for a recorded trace, whose file is on this machine, where the job doesn't see it."""
    if isinstance(schedule, OpenLoop) and isinstance(schedule.rate, Trace):
        what = "a recorded trace can't be sent from elsewhere, since its file is on this machine"
        raise MlscaleError(what, schedule.rate.file, "use a schedule in JSON, such as a staircase of the trace's rates")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: reported in full; 2: a reported error; 3: the parent is gone."""
    options = json.loads((sys.argv[1:] if argv is None else argv)[0])
    try:
        module, _, function = options["opener"].partition(":")
        job: RemoteJob = getattr(importlib.import_module(module), function)(**options["arguments"])
        return _relay(job, options["lead_s"])
    except MlscaleError as error:
        _send(Failed.of(error))
        return 2
    except EOFError:
        return 3


def _relay(job: RemoteJob, lead_s: float) -> int:
    spec = WorkerSpec.model_validate_json(_next_line())
    refuse_local_files(spec.load.schedule)
    digest = ""
    if spec.load.bodies is not None:
        digest = BodySet.read(spec.load.bodies).facts["sha256"]
        job.send_bodies(spec.load.bodies)
    _send(Ready(not_before_s=time.monotonic() + lead_s))
    go = Go.model_validate_json(_next_line())
    before = _known(job.clock(), job)
    zero_at = time.time() + before.ahead_s + go.origin_s - time.monotonic()
    instructions = Instructions(
        spec=spec, zero_at=zero_at, start_s=go.start_s, bodies_sha256=digest, warm_up=job.warms_up
    )
    job.start({INSTRUCTIONS: instructions.encode()})
    threading.Thread(target=_stop_at_end_of_input, args=(job,), daemon=True).start()
    last, parts = _relay_output(job)
    if isinstance(last, Done):
        files = dict(_files(parts))
        if STREAM not in files:
            raise MlscaleError("its table of requests is missing", "load generator's log", "measure again")
        for name, content in files.items():
            spec.stream.with_name(name.replace(STREAM, spec.stream.name)).write_bytes(content)
        clock = _known(_over_the_load(before, job.clock()), job)
        last = Done(summary=last.summary.model_copy(update={"clock": clock}))
    _send(last or Failed(what="the job ended without a report", where="load generator", remedy="see its log"))
    return 0 if isinstance(last, Done) else 2


def _over_the_load(before: ClockOffset, after: ClockOffset) -> ClockOffset:
    """The clock as used from the start on, and how far off it may have been at the end."""
    drift_s = abs(after.ahead_s - before.ahead_s)
    return before.model_copy(update={"within_s": max(before.within_s, drift_s + after.within_s)})


def _known(clock: ClockOffset, job: RemoteJob) -> ClockOffset:
    """Raises MlscaleError if the clock is not known well enough."""
    if clock.within_s > job.clock_within_s:
        what = (
            f"its clock is known within {1000 * clock.within_s:.1f} ms only, {1000 * job.clock_within_s:g} are allowed"
        )
        raise MlscaleError(what, clock.machine, "synchronise the clocks (chrony), or use a faster network")
    return clock


def _relay_output(job: RemoteJob) -> tuple[Done | Failed | None, dict[str, dict[int, tuple[int, str, str]]]]:
    """The job's last message, and the parts of its tables: name -> part number -> (number of parts, sha256, base64)."""
    last: Done | Failed | None = None
    parts: dict[str, dict[int, tuple[int, str, str]]] = defaultdict(dict)
    for line in job.lines():
        if line.startswith(TABLE):
            name, number, total, digest, text = line.removeprefix(TABLE).split(" ")
            parts[name][int(number)] = (int(total), digest, text)
        else:
            last = _relay_message(line) or last
        if isinstance(last, Failed) or (last is not None and _is_whole(parts)):
            break
    return last, parts


def _relay_message(line: str) -> Done | Failed | None:
    """The message, if it is a worker's last. A beat is passed on; anything else belongs into the log."""
    try:
        message = MESSAGE.validate_json(line)
    except ValidationError:
        sys.stderr.write(line + "\n")
        return None
    if isinstance(message, Beat):
        _send(message)
    return message if isinstance(message, Done | Failed) else None


def _is_whole(parts: Mapping[str, Mapping[int, tuple[int, str, str]]]) -> bool:
    """Whether every announced part is there; the table of requests is announced last (`remote_job.tables`)."""
    announced = {name: next(iter(received.values()))[0] for name, received in parts.items()}
    return STREAM in parts and all(len(parts[name]) == total for name, total in announced.items())


def _files(parts: Mapping[str, Mapping[int, tuple[int, str, str]]]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each table.

    Raises:
        MlscaleError: a part is missing, or the digest doesn't match.
    """
    for name, received in parts.items():
        total, digest, _ = next(iter(received.values()))
        packed = b"".join(base64.b64decode(received[number][2]) for number in sorted(received))
        if sorted(received) != list(range(1, total + 1)) or hashlib.sha256(packed).hexdigest() != digest:
            what = f"{name} is incomplete or corrupt: {len(received)} of {total} parts arrived"
            raise MlscaleError(what, "load generator's log", "measure again; what was sent is unknown")
        yield name, gzip.decompress(packed)


def _stop_at_end_of_input(job: RemoteJob) -> None:
    sys.stdin.buffer.read()
    job.stop()


def _next_line() -> bytes:
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        raise EOFError("standard input ended")
    return line


def _send(message: WorkerMessage) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
