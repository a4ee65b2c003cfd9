"""load(): one load against any HTTP server, recorded as a run with what the host did meanwhile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from mlscale.runs import ClosedLoop, Connections, MlscaleError, OpenLoop, Run


@dataclass(frozen=True)
class LoadOptions:
    """What a load test rarely changes.

    Args:
        check: "module:function(label, answer) -> bool", or "none"; None: answers as in labels.jsonl.
        connections: "fresh" for each request, or "kept".
        workers: processes that share the schedule.
        timeout_s: a request without an answer after that long is a failure, s.
    """

    check: str | None = None
    connections: str = "fresh"
    workers: int = 1
    timeout_s: float = 30.0
    seed: int = 0


def load(
    url: str,
    schedule: ClosedLoop | OpenLoop,
    *,
    out: Path | str,
    bodies: Path | str | None = None,
    options: LoadOptions | None = None,
) -> Run:
    """Send ``schedule`` to ``url`` and say what was sent, and how it was answered.

    Args:
        out: folder of the new run. bodies: folder of files to POST; None: GET.

    Raises:
        MlscaleError: the address, the bodies, the check or ``out`` can't be used; a load worker failed.
    """
    from mlscale.analysis.validity import judge
    from mlscale.host.facts import host_facts
    from mlscale.host.sampling import Sampler
    from mlscale.loadgen.command import Surroundings, one_of, record_load
    from mlscale.loadgen.process import LoadSpec

    chosen = options or LoadOptions()
    if not 0 < chosen.timeout_s < math.inf:
        raise MlscaleError(f"{chosen.timeout_s:g} s is not a valid timeout", "--timeout", "use more than 0 s")
    sampler = Sampler()
    around = Surroundings(judge, host_facts(), lambda clock: sampler.sample(clock, "", dict))
    spec = LoadSpec(
        url=url,
        schedule=schedule,
        bodies=Path(bodies) if bodies is not None else None,
        check=chosen.check,
        seed=chosen.seed,
        connections=cast("Connections", one_of(chosen.connections, Connections, "--connections")),
        timeout_s=chosen.timeout_s,
        start_s=None,
        workers=chosen.workers,
    )
    return record_load(spec, Path(out), around)
