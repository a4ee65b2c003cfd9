"""A load worker as a job on another machine: ``python -m mlscale.loadgen.remote_job``, in the application's image.

Nothing can be sent to a running job, so it gets everything in the environment variable `INSTRUCTIONS`, including the
schedule's start. It prints the worker's messages, then the worker's tables, compressed; `mlscale.loadgen.remote` reads
these lines where the run is measured.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from pydantic import BaseModel

from mlscale.errors import MlscaleError
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.spec import Failed, Go, WorkerSpec

# Environment variable: what the job has to do.
INSTRUCTIONS: Final = "MLSCALE_LOAD"
# Environment variable: folder of the files to send; default: where containers/app/Dockerfile puts it.
BODIES: Final = "MLSCALE_BODIES"
_BODIES_IN_IMAGE: Final = "/opt/code/data/photos/load"
# The worker's part of the requests table; its part of the hops table has the prefix "hops-".
STREAM: Final = "requests.arrows"
TABLE: Final = "table "
# Most bytes of a table per line: container runtimes split lines longer than 16 KiB.
LINE_BYTES: Final = 12_000
_WARM_UP_ROUNDS: Final = 2
_ANSWER_S: Final = 60.0


class Instructions(BaseModel):
    """What a job has to do, as the value of `INSTRUCTIONS`.

    Attributes:
        zero_at: zero of the run's clock, Unix time on the job's machine.
        start_s: zero of the schedule on the run's clock.
        bodies_sha256: of the files to send (`BodySet.facts`); the job's own must have the same.
        warm_up: POST every file twice before the load.
    """

    spec: WorkerSpec
    zero_at: float
    start_s: float
    bodies_sha256: str
    warm_up: bool

    def encode(self) -> str:
        return base64.b64encode(gzip.compress(self.model_dump_json().encode())).decode()


def main() -> int:
    """The worker's exit code; 2: a reported error."""
    try:
        instructions = Instructions.model_validate_json(gzip.decompress(base64.b64decode(os.environ[INSTRUCTIONS])))
        with TemporaryDirectory() as folder:
            return _work(instructions, Path(folder))
    except MlscaleError as error:
        _print(Failed.of(error).model_dump_json())
        return 2


def _work(instructions: Instructions, folder: Path) -> int:
    spec = instructions.spec.model_copy(update={"stream": folder / STREAM})
    if spec.load.bodies is not None:
        source = Path(os.environ.get(BODIES, _BODIES_IN_IMAGE))
        bodies = BodySet.read(source)
        if bodies.facts["sha256"] != instructions.bodies_sha256:
            raise MlscaleError("the image has different files to send", str(source), "rebuild and push the image")
        spec = spec.model_copy(update={"load": spec.load.model_copy(update={"bodies": source})})
        if instructions.warm_up:
            _warm_up(spec.load.url, bodies)
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "mlscale.loadgen.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    origin_s = time.monotonic() + instructions.zero_at - time.time()
    go = Go(origin_s=origin_s, start_s=instructions.start_s)
    worker.stdin.write(f"{spec.model_dump_json()}\n{go.model_dump_json()}\n".encode())
    worker.stdin.flush()
    for line in worker.stdout:
        _print(line.decode().rstrip("\n"))
    code = worker.wait()
    for part in tables(folder):
        _print(part)
    return code


def tables(folder: Path) -> Iterator[str]:
    """The files of ``folder`` as lines: TABLE NAME PART OF SHA256 BASE64."""
    for file in sorted(folder.iterdir()):
        packed = gzip.compress(file.read_bytes())
        digest = hashlib.sha256(packed).hexdigest()
        parts = [packed[first : first + LINE_BYTES * 3 // 4] for first in range(0, len(packed), LINE_BYTES * 3 // 4)]
        for number, part in enumerate(parts, 1):
            yield f"{TABLE}{file.name} {number} {len(parts)} {digest} {base64.b64encode(part).decode()}"


def _warm_up(url: str, bodies: BodySet) -> None:
    """POST every file twice, on a new connection each time, before the worker starts."""
    for _ in range(_WARM_UP_ROUNDS):
        for name, body, kind in zip(bodies.names, bodies.bodies, bodies.content_types, strict=True):
            request = urllib.request.Request(url, body, {"Content-Type": kind})
            try:
                with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                    answer.read()
            except urllib.error.URLError as error:
                what = f"warm-up with {name} failed: {error}"
                raise MlscaleError(what, url, "see the application's log") from error


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
