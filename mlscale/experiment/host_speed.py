"""How fast this host is just now: the CPU time of decoding a photo on it, by a process of its own.

The cores of a shared host are not equally fast all day, and what an answer costs goes with it. A run that the twin is
held against is therefore probed before its deployment and after its teardown (METHOD §8).
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from mlscale.cluster.cache import die_with_parent
from mlscale.load.photos import PhotoSet
from mlscale.runs import MlscaleError

ROUNDS: Final = 2
"""How often each photo is decoded, after one that counts for nothing; 3 s of work with the project's own photos."""
_AT_MOST_S: Final = 120.0


def photo_cpu_s(photos: Path) -> float:
    """CPU time of a photo of the set on the bare host, mean, s: one thread, no quota, nothing deployed.

    Raises:
        MlscaleError: the photos can't be decoded, or not in two minutes.
    """
    command = [sys.executable, "-m", __name__, str(photos)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_AT_MOST_S, preexec_fn=die_with_parent
        )
        return float(done.stdout)
    except (subprocess.SubprocessError, ValueError) as error:
        said = (getattr(error, "stderr", None) or str(error)).strip().splitlines()
        remedy = "try `mlscale decode` on one of them"
        raise MlscaleError(f"the host's speed was not found: {said[-1]}", str(photos), remedy) from error


def _decode_all(bodies: tuple[bytes, ...]) -> float:
    from mlscale.application.decoder import make_decoder

    decoder = make_decoder()
    decoder(bodies[0])
    begun_s = time.thread_time()
    for _ in range(ROUNDS):
        for body in bodies:
            decoder(body)
    return (time.thread_time() - begun_s) / (ROUNDS * len(bodies))


if __name__ == "__main__":
    sys.stdout.write(f"{_decode_all(PhotoSet.read(Path(sys.argv[1])).bodies):.6f}\n")
