"""The environment ``process-pool``: replicas are processes, a proxy queues requests and starts or stops them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from mlscale.environments import App, Problem, Scaling
from mlscale.environments.agent import AgentProcess
from mlscale.environments.sandbox_deployment import SandboxDeployed, SandboxEnvironment
from mlscale.host.ledger import Ledger
from mlscale.host.sandbox import free_ports, open_sandbox
from mlscale.runs import Mode

READY_S = 120.0


class PoolScaling(Scaling):
    """One replica for every ``target_ongoing`` requests waiting or in service."""

    target_ongoing: float = Field(default=1.0, gt=0, le=1000, description="requests in flight per replica")
    upscale_delay_s: float = Field(
        default=0.5, ge=0, le=3600, description="how long more replicas must be needed before one starts, s"
    )
    downscale_delay_s: float = Field(
        default=30.0, ge=0, le=3600, description="how long fewer replicas must be needed before one stops, s"
    )


class ProcessPool(SandboxEnvironment):
    """See `mlscale.environments.base.Environment`. The defaults serve as both shipped and matched: a careful user would
    set nothing else."""

    name: ClassVar[str] = "process-pool"
    settings: ClassVar[type[Scaling]] = PoolScaling

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Only applications of one component are supported."""
        if len(app.components) == 1:
            return []
        return [Problem("applications of several components are not supported", self.name, "measure it whole")]

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[SandboxDeployed]:
        """Start the pool in its own sandbox, which is removed on leaving."""
        (component,) = app.components
        scaling = scalings[component.name]
        assert isinstance(scaling, PoolScaling)
        with open_sandbox(f"{self.name} {app.name}", ledger, budget=scaling.shared_budget) as box:
            port = 8080 if box.isolated else free_ports(1)[0]
            python = box.replica_wrapper(Path(sys.executable), scaling.cpu_cores, scaling.cpu_period_s)
            settings = {
                "component": component.name,
                "entry": component.entry,
                "port": port,
                "python": str(python),
                **scaling.model_dump(),
            }
            log = box.folder / "pool.log"
            argv = [sys.executable, "-m", "process_pool.pool", json.dumps(settings)]
            with AgentProcess(partial(box.spawn, role="data_plane"), argv, log, "pool") as agent:
                facts = agent.wait_ready(READY_S, "start the first replica")
                url = f"http://127.0.0.1:{port}/decode"
                bodies = [_write_body(box.folder, number, body) for number, body in enumerate(warm_up)]
                agent.send("warm_up", bodies=bodies)
                agent.wait_ready(READY_S, "warm up")
                facts = {**facts, "sandbox": box.facts}
                yield SandboxDeployed(box, agent, component.name, url, facts, {"process-pool": "0.1"})


def _write_body(folder: Path, number: int, body: bytes) -> str:
    file = folder / f"body-{number}"
    file.write_bytes(body)
    return str(file)
