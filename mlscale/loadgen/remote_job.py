"""A load worker as a job on another machine: ``python -m mlscale.loadgen.remote_job``, in the application's image.

It is told everything at its start, in the environment variable `ORDER`, since nothing can be sent to a job that runs;
so also the moment at which the schedule starts. Whatever it has to say it prints, a line each: what the worker says,
then the worker's tables, compressed. `mlscale.loadgen.remote` reads the lines where the run is measured.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
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
from typing import Any, Final

from mlscale.errors import MlscaleError
from mlscale.loadgen.bodies import BodySet
from mlscale.loadgen.spec import Failed, Go, WorkerSpec

ORDER: Final = "MLSCALE_LOAD"
# Environment variable: the folder of the photo set; by default where containers/app/Dockerfile puts it.
PHOTOS: Final = "MLSCALE_PHOTOS"
_IN_IMAGE: Final = "/opt/code/data/photos/load"
# The worker's part of the requests table; that of the hops table is called hops- and so.
STREAM: Final = "requests.arrows"
TABLE: Final = "table "
# Of a table in one line: container runtimes split lines of more than 16 KiB.
LINE_BYTES: Final = 12_000
_WARM_UP_ROUNDS: Final = 2
_ANSWER_S: Final = 60.0


def order(spec: WorkerSpec, zero_at: float, start_s: float, bodies_sha256: str) -> str:
    """What a job is told, as text for `ORDER`.

    Args:
        zero_at: zero of the run's clock, Unix time on the job's machine.
        start_s: zero of the schedule on the run's clock.
        bodies_sha256: of the files that are sent (`BodySet.facts`), which the job's own has to equal.
    """
    told = {
        "spec": json.loads(spec.model_dump_json()),
        "zero_at": zero_at,
        "start_s": start_s,
        "bodies_sha256": bodies_sha256,
    }
    return base64.b64encode(gzip.compress(json.dumps(told).encode())).decode()


def main() -> int:
    """The worker's exit code; 2: an error that was said."""
    try:
        told = json.loads(gzip.decompress(base64.b64decode(os.environ[ORDER])))
        with TemporaryDirectory() as folder:
            return _work(told, Path(folder))
    except MlscaleError as error:
        _say(Failed(what=error.what, where=error.where, remedy=error.remedy).model_dump_json())
        return 2


def _work(told: dict[str, Any], folder: Path) -> int:
    spec = WorkerSpec.model_validate(told["spec"]).model_copy(update={"stream": folder / STREAM})
    if spec.bodies is not None:
        place = Path(os.environ.get(PHOTOS, _IN_IMAGE))
        bodies = BodySet.read(place)
        if bodies.facts["sha256"] != told["bodies_sha256"]:
            raise MlscaleError("the image holds other files to send", str(place), "build and push the image anew")
        spec = spec.model_copy(update={"bodies": place})
        _warm_up(spec, bodies)
    worker = subprocess.Popen(
        [sys.executable, "-P", "-m", "mlscale.loadgen.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert worker.stdin is not None
    assert worker.stdout is not None
    signal.signal(signal.SIGTERM, lambda *_: worker.terminate())
    origin_s = time.monotonic() + told["zero_at"] - time.time()
    go = Go(origin_s=origin_s, start_s=told["start_s"])
    worker.stdin.write(f"{spec.model_dump_json()}\n{go.model_dump_json()}\n".encode())
    worker.stdin.flush()
    for line in worker.stdout:
        _say(line.decode().rstrip("\n"))
    code = worker.wait()
    for part in tables(folder):
        _say(part)
    return code


def tables(folder: Path) -> Iterator[str]:
    """The files of ``folder`` as lines: TABLE NAME PART OF SHA256 BASE64."""
    for file in sorted(folder.iterdir()):
        packed = gzip.compress(file.read_bytes())
        digest = hashlib.sha256(packed).hexdigest()
        parts = [packed[first : first + LINE_BYTES * 3 // 4] for first in range(0, len(packed), LINE_BYTES * 3 // 4)]
        for number, part in enumerate(parts, 1):
            yield f"{TABLE}{file.name} {number} {len(parts)} {digest} {base64.b64encode(part).decode()}"


def _warm_up(spec: WorkerSpec, bodies: BodySet) -> None:
    """POST every file twice, each on a connection of its own, before the worker starts."""
    for _ in range(_WARM_UP_ROUNDS):
        for name, body, kind in zip(bodies.names, bodies.bodies, bodies.content_types, strict=True):
            request = urllib.request.Request(spec.url, body, {"Content-Type": kind})
            try:
                with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
                    answer.read()
            except urllib.error.URLError as error:
                what = f"warm-up with {name} failed: {error}"
                raise MlscaleError(what, spec.url, "see the application's log") from error


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
