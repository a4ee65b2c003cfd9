"""The rehearsal of Ray Serve on machines: Ray's own autoscaler adds them, on this host, in the sandbox.

All is real (Serve's autoscaler, Ray's autoscaler v2, raylets, replicas) but the time that a virtual machine takes to
boot, which is drawn from a profile. Such a run is labelled ``rehearsal`` everywhere.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar, Final

from mlscale.environments.base import App, Problem, Scaling
from mlscale.environments.composition import shared_component
from mlscale.environments.machine_choice import boot_problems, machine_problems
from mlscale.environments.machine_types import RESERVED_CORES, catalogue
from mlscale.environments.rayserve.environment import RayServe
from mlscale.environments.rayserve.machines import HEAD, HEAD_TYPE, MILLICORES, millicores
from mlscale.environments.rayserve.settings import RayMachineScaling, RayServeScaling
from mlscale.environments.sandbox_deployment import SandboxDeployed
from mlscale.host.sandbox import Sandbox, free_ports
from mlscale.runs import Event, Level, Mode, Observation, ReplicaSample, RunClock

_GCS_PORT: Final = 6379


@dataclass
class RehearsedDeployed(SandboxDeployed):
    """See `mlscale.environments.base.Deployed`."""

    def observe(self, clock: RunClock, stop: threading.Event) -> Iterator[Observation]:
        """As in a sandbox, with numbers of machines."""
        return with_machines(super().observe(clock, stop))


class RehearsedRayServe(RayServe):
    """The environment ``rayserve`` in the mode ``rehearsal``."""

    level: ClassVar[Level] = "application+machine"
    modes: ClassVar[frozenset[Mode]] = frozenset({"rehearsal"})
    settings: ClassVar[type[Scaling]] = RayMachineScaling
    deployed: ClassVar[type[SandboxDeployed]] = RehearsedDeployed

    def start_up_s(self, scaling: Scaling) -> float:
        """Serve's delay, three of Ray's looks (5 s each), the longest boot, 40 s for raylet and replica (assumed)."""
        assert isinstance(scaling, RayMachineScaling)
        return scaling.upscale_delay_s + scaling.look_back_period_s + 15.0 + scaling.longest_boot_s + 40.0

    def preflight(self, app: App, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Why a run can't start, without side effects."""
        problems = list(super().preflight(app, scalings, mode))
        cores = {name: each.cpu_cores for name, each in catalogue().types.items()}
        found = {name: each for name, each in scalings.items() if isinstance(each, RayMachineScaling)}
        for name, each in found.items():
            where = f"component {name}"
            problems += [
                *boot_problems(each, where),
                *machine_problems(each, each.cpu_cores, where, cores=cores, offered=cores),
            ]
            if each.address:
                problems.append(Problem("machines are rehearsed here only", f"{where}, address", "omit it"))
        if len({(each.machine_types, each.max_machines, each.boot) for each in found.values()}) > 1:
            problems.append(
                Problem("its components have different machines", f"app {app.name}", "use the same for all")
            )
        return problems

    def machines(self, app: App, settings: Mapping[str, RayServeScaling], box: Sandbox) -> dict[str, Any]:
        scalings = [each for each in settings.values() if isinstance(each, RayMachineScaling)]
        port = _GCS_PORT if box.isolated else free_ports(1)[0]
        reports = str(box.folder / "machines.sock")
        provider = {"gcs_address": f"127.0.0.1:{port}", "folder": str(box.folder), "reports": reports}
        return {
            "component": shared_component(app),
            "reports": reports,
            "gcs_port": port,
            "autoscaling": autoscaling(scalings),
            "provider": provider,
            "boot": asdict(catalogue().boot_times_of(scalings[0].boot)),
        }


def autoscaling(scalings: Sequence[RayMachineScaling]) -> dict[str, Any]:
    """Fields of Ray's autoscaling configuration; machines are those of the first of ``scalings``, which agree on them.

    The head node has room for the least replicas and no more, so that every further one needs a machine.
    """
    choice, types = scalings[0], catalogue().types
    least = sum(one.min_replicas * millicores(one.cpu_cores) for one in scalings)
    room = {name: millicores(types[name].cpu_cores - RESERVED_CORES) for name in choice.machine_types}
    machines = {
        name: {"resources": {MILLICORES: size}, "node_config": {}, "max_workers": choice.max_machines}
        for name, size in room.items()
    }
    return {
        "cluster_name": "mlscale",
        "max_workers": choice.max_machines,
        "upscaling_speed": choice.upscaling_speed,
        "idle_timeout_minutes": choice.idle_timeout_s / 60,
        "provider": {
            "type": "external",
            "module": "mlscale.environments.rayserve.node_provider.BootingProvider",
            "disable_node_updaters": True,
            "disable_launch_config_check": True,
            "launch_multiple": True,
            "head_node_id": HEAD,
            "boot": choice.boot,
        },
        "head_node_type": HEAD_TYPE,
        "available_node_types": {
            HEAD_TYPE: {"resources": {MILLICORES: least}, "node_config": {}, "max_workers": 0},
            **machines,
        },
    }


def with_machines(observations: Iterable[Observation]) -> Iterator[Observation]:
    """The observations, each ReplicaSample with the number of machines that were requested and are ready by then. The
    head node is not counted."""
    requested, ready = set[str](), set[str]()
    for observation in observations:
        if isinstance(observation, ReplicaSample):
            yield replace(observation, machines_desired=len(requested), machines_ready=len(ready))
            continue
        if isinstance(observation, Event):
            match observation.kind:
                case "machine_requested":
                    requested.add(observation.subject)
                case "machine_ready":
                    ready.add(observation.subject)
                case "machine_failed" | "machine_removed":
                    requested.discard(observation.subject)
                    ready.discard(observation.subject)
        yield observation
