"""A load worker's stand-in where the load comes from another machine, beside the application.

`LoadProcess` starts it in the place of `mlscale.loadgen.worker`: a deployment's ``load_prefix`` is `prefix`, and the
worker's own argv behind it is left alone. To `LoadProcess` it speaks as a worker does; the work is a job elsewhere
(`mlscale.loadgen.remote_job`), whose lines it passes on and whose tables it writes where the worker would have written
them.
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
from typing import Any, Protocol

from pydantic import TypeAdapter, ValidationError

from mlscale.errors import MlscaleError
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.remote_job import ORDER, STREAM, TABLE, order
from mlscale.loadgen.spec import Beat, Done, Failed, Go, Ready, Said, WorkerSpec

_SAID: TypeAdapter[Ready | Beat | Done | Failed] = TypeAdapter(Said)


class RemoteJob(Protocol):
    """One job on another machine."""

    clock_ahead_s: float
    """How far that machine's clock is ahead of this one's, s."""

    def start(self, environment: Mapping[str, str]) -> None:
        """Run `mlscale.loadgen.remote_job` there with these environment variables. Raises MlscaleError."""
        ...

    def lines(self) -> Iterator[str]:
        """What it prints, as it comes, until it has ended. Raises MlscaleError where it got lost."""
        ...

    def stop(self) -> None:
        """Have it stop sending; it still tells what it sent. A second call does nothing."""
        ...


def prefix(opener: str, lead_s: float, **arguments: Any) -> list[str]:
    """argv of the stand-in.

    Args:
        opener: "package.module:function"; called with ``arguments`` it returns a `RemoteJob`.
        lead_s: how long a job may take from being started until it can send, s.
    """
    told = json.dumps({"opener": opener, "lead_s": lead_s, "arguments": arguments})
    return [sys.executable, "-P", "-m", "mlscale.loadgen.remote", told]


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: all was said; 2: an error that was said; 3: nobody listens any more."""
    told = json.loads((sys.argv[1:] if argv is None else argv)[0])
    try:
        module, _, function = told["opener"].partition(":")
        job: RemoteJob = getattr(importlib.import_module(module), function)(**told["arguments"])
        return _relay(job, told["lead_s"])
    except MlscaleError as error:
        _say(Failed(what=error.what, where=error.where, remedy=error.remedy))
        return 2
    except EOFError:
        return 3


def _relay(job: RemoteJob, lead_s: float) -> int:
    spec = WorkerSpec.model_validate_json(_next_line())
    digest = BodySet.read(spec.bodies).facts["sha256"] if spec.bodies is not None else ""
    _say(Ready(not_before_s=time.monotonic() + lead_s))
    go = Go.model_validate_json(_next_line())
    zero_at = time.time() + job.clock_ahead_s + go.origin_s - time.monotonic()
    job.start({ORDER: order(spec, zero_at, go.start_s, digest)})
    threading.Thread(target=_stop_at_end_of_input, args=(job,), daemon=True).start()
    last, parts = _passed_on(job)
    if isinstance(last, Done):
        found = dict(_files(parts))
        if STREAM not in found:
            raise MlscaleError("its requests did not come back", "load generator's log", "measure again")
        for name, content in found.items():
            spec.stream.with_name(name.replace(STREAM, spec.stream.name)).write_bytes(content)
    _say(last or Failed(what="the job ended without a report", where="load generator", remedy="see its log"))
    return 0 if isinstance(last, Done) else 2


def _passed_on(job: RemoteJob) -> tuple[Done | Failed | None, dict[str, dict[int, tuple[int, str, str]]]]:
    """The job's last word, and the lines of its tables: name -> part -> (of how many, sha256, base64)."""
    last: Done | Failed | None = None
    parts: dict[str, dict[int, tuple[int, str, str]]] = defaultdict(dict)
    for line in job.lines():
        if line.startswith(TABLE):
            name, number, of, digest, text = line.removeprefix(TABLE).split(" ")
            parts[name][int(number)] = (int(of), digest, text)
            continue
        try:
            said = _SAID.validate_json(line)
        except ValidationError:
            sys.stderr.write(line + "\n")
            continue
        if isinstance(said, Beat):
            _say(said)
        elif isinstance(said, Done | Failed):
            last = said
    return last, parts


def _files(parts: Mapping[str, Mapping[int, tuple[int, str, str]]]) -> Iterator[tuple[str, bytes]]:
    """Name and content of each table.

    Raises:
        MlscaleError: a part is missing, or the whole is not what was sent.
    """
    for name, found in parts.items():
        of, digest, _ = next(iter(found.values()))
        packed = b"".join(base64.b64decode(found[number][2]) for number in sorted(found))
        if sorted(found) != list(range(1, of + 1)) or hashlib.sha256(packed).hexdigest() != digest:
            what = f"{name} came back with {len(found)} of {of} parts"
            raise MlscaleError(what, "load generator's log", "measure again; what was sent can't be told")
        yield name, gzip.decompress(packed)


def _stop_at_end_of_input(job: RemoteJob) -> None:
    sys.stdin.buffer.read()
    job.stop()


def _next_line() -> bytes:
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        raise EOFError("standard input ended")
    return line


def _say(message: Ready | Beat | Done | Failed) -> None:
    sys.stdout.write(message.model_dump_json() + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
