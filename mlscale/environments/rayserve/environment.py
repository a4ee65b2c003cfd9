"""Ray Serve with its own autoscaler, in a sandbox; each replica has its CPU quota from its first instruction on.

The driver is an agent inside the sandbox (agent.py). Ray binds ports to every interface, and inside there is
only ``lo``.
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import secrets
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar, Final

from mlscale.environments.agent import AgentProcess
from mlscale.environments.base import App, Component, Problem, Scaling
from mlscale.environments.composition import callees_first, composition_problems, shared_budget, shared_component
from mlscale.environments.rayserve.settings import RayServeScaling, arm_settings
from mlscale.environments.replica_starts import with_starts
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.sandbox import Sandbox, open_sandbox
from mlscale.runs import Event, Level, MlscaleError, Mode, Observation, ResourceSample, RunClock

_PORT: Final = 8000
_START_S: Final = 240.0


@dataclass(frozen=True)
class RayServeDeployed:
    """A running deployment (contract: `mlscale.environments.base.Deployed`)."""

    box: Sandbox
    agent: AgentProcess
    component: str
    """Whose the proxy and the control plane are; "" where there are several components."""
    facts: Mapping[str, Any]
    versions: Mapping[str, str]
    url: str = f"http://127.0.0.1:{_PORT}/"
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def load_prefix(self) -> Sequence[str]:
        """argv that runs a command inside the sandbox, as load generator."""
        return self.box.prefix

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """What happens, until ``stop`` is set. A started replica's event says what CPU it had used before its limit
        held. Raises ObservationLost."""
        removed: set[str] = set()

        def sample() -> Sequence[ResourceSample]:
            """Without the cgroups of replicas that are gone: those stay until the sandbox ends."""
            return [row for row in self.box.sample(clock, self.component) if row.subject not in removed]

        observations = self.agent.observations(clock, stop, sample=sample)
        for observation in with_starts(observations, self.box.replica_starts, clock):
            if isinstance(observation, Event) and observation.kind == "replica_removed":
                removed.add(observation.subject)
            yield observation


class RayServe:
    """The environment ``rayserve``."""

    name: ClassVar[str] = "rayserve"
    level: ClassVar[Level] = "application"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live"})
    settings: ClassVar[type[Scaling]] = RayServeScaling

    def arm(self, arm: str) -> RayServeScaling:
        """The settings of an arm: shipped, matched, static-min, static-max (METHOD §4)."""
        return arm_settings(arm)

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """What stands in the way, without side effects."""
        problems = [*_mode_problems(mode, self.modes), *_package_problems(), *_app_problems(app, scalings)]
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
    ) -> Iterator[RayServeDeployed]:
        """Bring the application up; on leaving, nothing of it is left.

        Raises:
            MlscaleError: something stands in the way (see `preflight`), or the start failed; the message ends with the
                log's last lines.
        """
        for problem in self.preflight(app, scalings, mode):
            if problem.fatal:
                raise MlscaleError(problem.what, problem.where, problem.remedy)
        settings = _settings(scalings)
        with open_sandbox(self.name, ledger, budget=shared_budget(settings)) as box:
            components = [_component_spec(box, component, settings[component.name]) for component in callees_first(app)]
            spec = _write_spec(box.folder, components, settings, warm_up)
            spawn = partial(box.spawn, role="control_plane", env=_environment(box.folder, settings))
            argv = [sys.executable, "-m", "mlscale.environments.rayserve.agent", str(spec)]
            with AgentProcess(spawn, argv, box.folder / "agent.log", self.name) as agent:
                facts = agent.wait_ready(_START_S + 30, "deploy")
                box.move(facts["vital"]["proxy"], "data_plane")
                facts = {**facts, "sandbox": box.facts, "scaling": _scaling_facts(settings)}
                yield RayServeDeployed(box, agent, shared_component(app), facts, _versions())

    def reap(self, entry: LedgerEntry) -> None:
        """Remove what ``entry`` names: an environment's leftovers are its sandbox."""
        from mlscale.host.reap import reap

        reap(entry)


def _mode_problems(mode: Mode, modes: frozenset[Mode]) -> list[Problem]:
    if mode in modes:
        return []
    return [Problem(f"has no mode {mode!r}", "rayserve", f"choose one of: {', '.join(sorted(modes))}")]


def _package_problems() -> list[Problem]:
    try:
        found = version("ray")
    except PackageNotFoundError:
        return [Problem("Ray is not installed", "rayserve", "install ray[serve]")]
    if importlib.util.find_spec("starlette") is None:
        return [Problem(f"Ray {found} is installed without Serve", "rayserve", "install ray[serve]")]
    return []


def _app_problems(app: App, scalings: Mapping[str, Scaling]) -> list[Problem]:
    problems = composition_problems(app)
    for component in app.components:
        problems += _component_problems(component, scalings.get(component.name))
    return problems


def _component_problems(component: Component, settings: Scaling | None) -> list[Problem]:
    where = f"component {component.name}"
    problems = [
        Problem("its weights are missing", f"{where}: {file}", "restore the file, or train the model")
        for file in component.weights
        if not file.is_file()
    ]
    module, _, factory = component.entry.partition(":")
    if not module or not factory:
        problems.append(
            Problem(f"entry {component.entry!r} is not package.module:factory", where, "name the factory so")
        )
    elif not _findable(module):
        problems.append(Problem(f"no module {module!r}", where, "install it, or put its folder on PYTHONPATH"))
    if settings is None:
        problems.append(Problem("no scaling settings", where, "pass scalings[component name]"))
    elif not isinstance(settings, RayServeScaling):
        problems.append(Problem(f"settings are {type(settings).__name__}", where, "pass RayServeScaling"))
    return problems


def _findable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def _settings(scalings: Mapping[str, Scaling]) -> dict[str, RayServeScaling]:
    return {name: scaling for name, scaling in scalings.items() if isinstance(scaling, RayServeScaling)}


def _scaling_facts(settings: Mapping[str, RayServeScaling]) -> dict[str, Any]:
    """The only component's settings, or every component's by its name."""
    told = {name: one.model_dump(mode="json") for name, one in settings.items()}
    return told if len(told) > 1 else next(iter(told.values()))


def _component_spec(box: Sandbox, component: Component, settings: RayServeScaling) -> dict[str, Any]:
    """What the agent is told of a component (agent.py), its replicas' wrapper made."""
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
) -> Path:
    files = [folder / f"warm-up-{number}" for number in range(len(warm_up))]
    for file, body in zip(files, warm_up, strict=True):
        file.write_bytes(body)
    (folder / "token").touch(mode=0o600)
    (folder / "token").write_text(secrets.token_hex(32))
    spec = {
        "components": components,
        "folder": str(folder),
        "port": _PORT,
        # Ray's bookkeeping: room for all replicas and for those that still drain, never the limit.
        "num_cpus": max(8, math.ceil(sum(2 * one.max_replicas * one.cpu_cores for one in settings.values())) + 1),
        "warm_up": [str(file) for file in files],
        "timeout_s": _START_S,
    }
    file = folder / "rayserve.json"
    file.write_text(json.dumps(spec))
    return file


def _environment(folder: Path, settings: Mapping[str, RayServeScaling]) -> dict[str, str]:
    """The agent's environment, which Ray's processes inherit: nothing of a Ray that the user may run besides."""
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
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
    }


def _versions() -> dict[str, str]:
    return {"python": sys.version.split()[0], "ray": version("ray")}
