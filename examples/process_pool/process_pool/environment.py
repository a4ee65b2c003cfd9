"""The environment ``process-pool``: replicas are processes, a proxy queues requests and starts or stops them."""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from mlscale.environments import App, Problem, Scaling
from mlscale.environments.agent import AgentProcess
from mlscale.environments.replica_starts import with_starts
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.reap import reap
from mlscale.host.sandbox import Sandbox, open_sandbox
from mlscale.runs import Level, Mode, Observation, RunClock

READY_S = 120.0


class PoolScaling(Scaling):
    """One replica for every ``target_ongoing`` requests that wait or are served."""

    target_ongoing: float = Field(default=1.0, gt=0, le=1000, description="requests in flight per replica")
    upscale_delay_s: float = Field(
        default=0.5, ge=0, le=3600, description="so long more are needed before one starts, s"
    )
    downscale_delay_s: float = Field(
        default=30.0, ge=0, le=3600, description="so long fewer are needed before one ends, s"
    )


@dataclass(frozen=True)
class PoolDeployed:
    """See `mlscale.environments.base.Deployed`."""

    box: Sandbox
    agent: AgentProcess
    component: str
    url: str
    facts: Mapping[str, Any]
    headers: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=lambda: {"process-pool": "0.1"})

    @property
    def load_prefix(self) -> Sequence[str]:
        """Places the load generator in the sandbox's network."""
        return self.box.prefix

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """What the pool tells, and what everything uses, twice a second."""
        seen = self.agent.observations(clock, stop, sample=partial(self.box.sample, clock, self.component))
        yield from with_starts(seen, self.box.replica_starts, clock)


class ProcessPool:
    """See `mlscale.environments.base.Environment`."""

    name: ClassVar[str] = "process-pool"
    level: ClassVar[Level] = "application"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]] = PoolScaling

    def arm(self, arm: str) -> PoolScaling:
        """The pool's defaults are what a careful user would set."""
        from mlscale.environments.base import scaling_of_arm

        return scaling_of_arm(arm, PoolScaling(), PoolScaling())

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """It serves whole applications."""
        if len(app.components) == 1:
            return []
        return [Problem("an application of several components", self.name, "measure it whole")]

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[PoolDeployed]:
        """The pool in a sandbox of its own; gone on leaving."""
        (component,) = app.components
        scaling = scalings[component.name]
        assert isinstance(scaling, PoolScaling)
        with open_sandbox(f"{self.name} {app.name}", ledger, budget=scaling.shared_budget) as box:
            port = 8080 if box.isolated else _free_port()
            python = box.replica_wrapper(Path(sys.executable), scaling.cpu_cores, scaling.cpu_period_s)
            told = {
                "component": component.name,
                "entry": component.entry,
                "port": port,
                "python": str(python),
                **scaling.model_dump(),
            }
            log = box.folder / "pool.log"
            argv = [sys.executable, "-m", "process_pool.pool", json.dumps(told)]
            with AgentProcess(partial(box.spawn, role="data_plane"), argv, log, "pool") as agent:
                facts = agent.wait_ready(READY_S, "start the first replica")
                url = f"http://127.0.0.1:{port}/decode"
                agent.send(
                    "warm_up", bodies=[_written(box.folder, number, body) for number, body in enumerate(warm_up)]
                )
                agent.wait_ready(READY_S, "warm up")
                yield PoolDeployed(box, agent, component.name, url, {**facts, "sandbox": box.facts})

    def reap(self, entry: LedgerEntry) -> None:
        """Everything lives in the sandbox, so its own reaper does it."""
        reap(entry)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _written(folder: Path, number: int, body: bytes) -> str:
    file = folder / f"body-{number}"
    file.write_bytes(body)
    return str(file)
