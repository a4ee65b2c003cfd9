"""load(): load-test any HTTP server; recorded as a run, with samples of the host."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from mlscale.runs import ClosedLoop, Connections, MlscaleError, OpenLoop, Run


@dataclass(frozen=True)
class LoadOptions:
    """Rarely changed settings of a load test.

    Args:
        check: "module:function(label, answer) -> bool", or "none"; None: compare with labels.jsonl.
        connections: "fresh" (one for each request) or "kept".
        workers: processes that share the schedule.
        ray: address of a Ray cluster, whose machines run the workers; None: this machine does.
        timeout_s: a request without an answer after that long has failed, s.
        seed: of the load's random draws.
        headers: sent with every request.
        method: None: POST with a body, else GET.
        body: the text to send with every request, in place of ``bodies``.
    """

    check: str | None = None
    connections: str = "fresh"
    workers: int = 1
    timeout_s: float = 30.0
    seed: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str | None = None
    body: str | None = None
    ray: str | None = None


def load(
    url: str,
    schedule: ClosedLoop | OpenLoop,
    *,
    out: Path | str,
    bodies: Path | str | None = None,
    options: LoadOptions | None = None,
) -> Run:
    """Send ``schedule`` to ``url`` and record what was sent and how it was answered.

    Args:
        out: folder of the new run.
        bodies: folder of files to POST, or one file; None: send GET requests.

    Raises:
        MlscaleError: the address, the bodies, the check or ``out`` is unusable, or a load worker failed.
    """
    from mlscale.analysis.validity import judge
    from mlscale.host.facts import host_facts
    from mlscale.host.sampling import Sampler
    from mlscale.loadgen.bodies import check_needs_labels
    from mlscale.loadgen.command import HostContext, check_choice, record_load
    from mlscale.loadgen.process import LoadSpec

    chosen = options or LoadOptions()
    if not 0 < chosen.timeout_s < math.inf:
        raise MlscaleError(f"{chosen.timeout_s:g} s is not a valid timeout", "--timeout", "use more than 0 s")
    if chosen.body is not None and bodies is not None:
        raise MlscaleError("give a body or bodies, not both", "--body", "remove one of them")
    if re.fullmatch(r"[A-Za-z-]+", chosen.method or "GET", re.ASCII) is None:
        raise MlscaleError(f"{chosen.method!r} is not an HTTP method", "--method", "use one such as POST")
    check_needs_labels(chosen.check, bodies)
    sampler = Sampler()
    context = HostContext(judge, host_facts(), lambda clock: sampler.sample(clock, "", dict))
    spec = LoadSpec(
        url=url,
        schedule=schedule,
        bodies=Path(bodies) if bodies is not None else None,
        check=chosen.check,
        seed=chosen.seed,
        connections=cast("Connections", check_choice(chosen.connections, Connections, "--connections")),
        timeout_s=chosen.timeout_s,
        start_s=None,
        workers=chosen.workers,
        headers=chosen.headers,
        method=chosen.method,
        body=chosen.body,
    )
    prefix: list[str] = []
    if chosen.ray is not None:
        from mlscale.loadgen import ray_job, remote

        sent = str(Path(bodies).absolute()) if bodies is not None else None
        prefix = remote.prefix(f"{ray_job.__name__}:open_job", ray_job.LEAD_S, address=chosen.ray, bodies=sent)
    return record_load(spec, Path(out), context, prefix)
