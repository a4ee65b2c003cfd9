"""The environment ``rayserve``: Ray Serve with its own autoscaler, in a sandbox.

Each replica has its CPU quota from its first instruction on. The driver is an agent inside the sandbox (agent.py). Ray
listens on every interface; inside there is only ``lo``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Final

from mlscale.environments.agent import AgentProcess
from mlscale.environments.base import App, Component, Look, Problem, Scaling, raise_fatal
from mlscale.environments.composition import app_problems, callees_first, shared_budget, shared_component
from mlscale.environments.rayserve import existing
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.environments.sandbox_deployment import SandboxDeployed, SandboxEnvironment, quota_problems
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.sandbox import Sandbox, free_ports, open_sandbox
from mlscale.runs import Mode

_PORT: Final = 8000
_START_S: Final = 240.0


class RayServe(SandboxEnvironment):
    """The environment ``rayserve``."""

    name: ClassVar[str] = "rayserve"
    look: ClassVar[Look] = Look("Ray Serve", "Ray Serve", "#D55E00", "s", 2)
    settings: ClassVar[type[Scaling]] = RayServeScaling
    ledger_kinds: ClassVar[frozenset[str]] = frozenset({existing.KIND})
    deployed: ClassVar[type[SandboxDeployed]] = SandboxDeployed

    def in_mode(self, mode: Mode) -> RayServe:
        """Itself, or its rehearsal, in which Ray's own autoscaler adds machines."""
        if mode != "rehearsal":
            return self
        from mlscale.environments.rayserve.rehearsal import RehearsedRayServe  # which imports this module

        return RehearsedRayServe()

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Why a run can't start, without side effects."""
        addresses = {scaling.address for scaling in _settings(scalings).values()}
        if addresses != {""}:
            return [*app_problems(self, app, scalings, mode, here=False), *_cluster_problems(app, _settings(scalings))]
        problems = [*_package_problems(), *app_problems(self, app, scalings, mode), *quota_problems()]
        if sys.platform != "linux":
            problems.append(
                Problem(
                    "no network namespace: Ray listens on every interface", sys.platform, "run on Linux", fatal=False
                )
            )
        return problems

    @contextmanager
    def deploy(
        self, app: App, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger, warm_up: Sequence[bytes]
    ) -> Iterator[SandboxDeployed | existing.ExistingDeployed]:
        """Deploy the application; on leaving, everything is removed.

        Raises:
            MlscaleError: a preflight problem, or the start failed; the message ends with the last lines of the log.
        """
        raise_fatal(self.preflight(app, scalings, mode))
        settings = _settings(scalings)
        if settings[app.front].address:
            with existing.deployed_on(app, settings, ledger, warm_up) as deployed:
                yield deployed
            return
        with open_sandbox(self.name, ledger, budget=shared_budget(settings)) as box:
            components = [_component_spec(box, component, settings[component.name]) for component in callees_first(app)]
            port = _PORT if box.isolated else free_ports(1)[0]
            machines = self.machines(app, settings, box)
            spec = _write_spec(box.folder, components, settings, warm_up, port, machines)
            spawn = partial(box.spawn, role="control_plane", env=_environment(box.folder, settings))
            argv = [sys.executable, "-m", "mlscale.environments.rayserve.agent", str(spec)]
            with AgentProcess(spawn, argv, box.folder / "agent.log", self.name) as agent:
                facts = agent.wait_ready(_START_S + 30, "deploy")
                box.move(facts["vital"]["proxy"], "data_plane")
                facts = {**facts, "sandbox": box.facts, "scaling": _scaling_facts(settings)}
                if machines is not None:
                    facts |= {name: machines[name] for name in ("autoscaling", "boot")}
                url = f"http://127.0.0.1:{port}/"
                versions = {"python": sys.version.split()[0], "ray": version("ray")}
                yield self.deployed(box, agent, shared_component(app), url, facts, versions)

    def machines(self, app: App, settings: Mapping[str, RayServeScaling], box: Sandbox) -> dict[str, Any] | None:
        """The machines in the agent's SPEC (agent.py)."""
        return None

    def reap(self, entry: LedgerEntry) -> None:
        """Remove the sandbox, or the application on a cluster."""
        existing.reap(entry) if entry.kind == existing.KIND else super().reap(entry)


def _cluster_problems(app: App, settings: Mapping[str, RayServeScaling]) -> list[Problem]:
    if len({(each.address, each.working_dir, each.load_from) for each in settings.values()}) > 1:
        what = "its components differ in address, working_dir or load_from"
        return [Problem(what, f"app {app.name}", "give one of each for all")]
    return existing.problems(next(iter(settings.values()))) if settings else []


def _package_problems() -> list[Problem]:
    try:
        installed = version("ray")
    except PackageNotFoundError:
        return [Problem("Ray is not installed", "rayserve", "install ray[serve]")]
    if importlib.util.find_spec("starlette") is None:
        return [Problem(f"Ray {installed} is installed without Serve", "rayserve", "install ray[serve]")]
    if importlib.util.find_spec("rfc3987_syntax") is not None:
        # Ray imports jsonschema, which imports it if it is there (METHOD §4).
        what = "rfc3987-syntax is installed: each replica compiles its grammars when it starts (seconds at a low quota)"
        return [Problem(what, "rayserve", "uninstall rfc3987-syntax; nothing here needs it", fatal=False)]
    return []


def _settings(scalings: Mapping[str, Scaling]) -> dict[str, RayServeScaling]:
    return {name: scaling for name, scaling in scalings.items() if isinstance(scaling, RayServeScaling)}


def _scaling_facts(settings: Mapping[str, RayServeScaling]) -> dict[str, Any]:
    """The settings of the only component, or of all components by name."""
    scalings = {name: scaling.model_dump(mode="json") for name, scaling in settings.items()}
    return scalings if len(scalings) > 1 else next(iter(scalings.values()))


def _component_spec(box: Sandbox, component: Component, settings: RayServeScaling) -> dict[str, Any]:
    """A component's part of the agent's SPEC (agent.py); creates the wrapper of its replicas."""
    cores, period_s = settings.cpu_cores, settings.cpu_period_s
    return {
        "name": component.name,
        "entry": component.entry,
        "calls": list(component.calls),
        "settings": settings.model_dump(mode="json"),
        "python": str(box.replica_wrapper(Path(sys.executable), cores, period_s, component.name)),
    }


def _write_spec(
    folder: Path,
    components: Sequence[Mapping[str, Any]],
    settings: Mapping[str, RayServeScaling],
    warm_up: Sequence[bytes],
    port: int,
    machines: Mapping[str, Any] | None,
) -> Path:
    files = [folder / f"warm-up-{number}" for number in range(len(warm_up))]
    for file, body in zip(files, warm_up, strict=True):
        file.write_bytes(body)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    spec = {
        "components": components,
        "folder": str(folder),
        "port": port,
        # Only Ray's bookkeeping: room for all replicas, draining ones included, so that it never is the limit.
        "num_cpus": max(8, math.ceil(sum(2 * one.max_replicas * one.cpu_cores for one in settings.values())) + 1),
        "warm_up": [str(file) for file in files],
        "timeout_s": _START_S,
        "machines": machines,
    }
    file = folder / "rayserve.json"
    file.write_text(json.dumps(spec))
    return file


def _environment(folder: Path, settings: Mapping[str, RayServeScaling]) -> dict[str, str]:
    """The agent's environment, which Ray's processes inherit; without settings for any other Ray."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    paths = [
        str(Path.cwd()),
        *(path for path in sys.path if path and "site-packages" not in path and Path(path).is_dir()),
    ]
    at_once = max(one.startup_concurrency for one in settings.values())
    more = {"RAY_worker_maximum_startup_concurrency": str(at_once)}
    return {
        **kept,
        **(more if at_once else {}),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "PYTHONUNBUFFERED": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_DISABLE_IMPORT_WARNING": "1",
        # If the port turns out to be taken, the proxy must fail rather than share connections with another process.
        "SERVE_SOCKET_REUSE_PORT_ENABLED": "0",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }
