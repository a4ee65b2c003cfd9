"""The environment ``eks``: containers scaled by the HorizontalPodAutoscaler, machines by Karpenter.

So far it is rehearsed: on our own cluster with machines (``make cluster MACHINES=1``), where Karpenter, kubelets and
pods are real and only the time that a virtual machine takes to boot is drawn from a profile. Such a run is labelled
``rehearsal`` everywhere, and is no EKS run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar

from mlscale.cluster.machines.types import RESERVED_CORES
from mlscale.environments import kubernetes_namespace, kubernetes_pool
from mlscale.environments.base import Problem, Scaling
from mlscale.environments.kubernetes_client import Api, Refused
from mlscale.environments.kubernetes_cluster import Cluster
from mlscale.environments.kubernetes_environment import KubernetesEnvironment
from mlscale.environments.kubernetes_machine_settings import MachineScaling, machine_arm_settings
from mlscale.environments.kubernetes_own import machine_catalogue, own_kubeconfig
from mlscale.environments.kubernetes_paths import path_of
from mlscale.environments.kubernetes_room import Room
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.runs import Level, MlscaleError, Mode

_REMEDY = "make cluster MACHINES=1"


class Eks(KubernetesEnvironment):
    """Pods go to machines of the run's own, which come as they are needed."""

    name: ClassVar[str] = "eks"
    level: ClassVar[Level] = "container+machine"
    modes: ClassVar[frozenset[Mode]] = frozenset({"rehearsal"})
    settings: ClassVar[type[Scaling]] = MachineScaling
    ledger_kinds: ClassVar[frozenset[str]] = frozenset({kubernetes_pool.KIND})

    def arm(self, arm: str) -> MachineScaling:
        """shipped, matched, static-min, static-max; see `machine_arm_settings`."""
        return machine_arm_settings(arm)

    def no_room(self, api: Api, cluster: Cluster, scalings: Mapping[str, Scaling]) -> Sequence[Problem]:
        """Whether machines can come, and hold a replica."""
        if cluster.own is None:
            return [Problem("machines come and go on our own cluster only", "kubeconfig", _REMEDY)]
        try:
            known = api.find(path_of("NodeClass", kubernetes_pool.NODE_CLASS))
        except Refused as refused:
            return [Problem(f"may not be asked: {refused.message}", "NodeClass", _REMEDY)]
        if known is None:
            return [Problem("the cluster has no machines that come and go", "Karpenter", _REMEDY)]
        problems: list[Problem] = []
        for name, scaling in scalings.items():
            assert isinstance(scaling, MachineScaling)
            problems += _of_machines(name, scaling)
        return problems

    @contextmanager
    def room(self, api: Api, name: str, scalings: Mapping[str, Scaling], ledger: Ledger) -> Iterator[Room]:
        """Machines of the run's own, that boot at once until the application serves."""
        scaling = next(each for each in scalings.values() if isinstance(each, MachineScaling))
        catalogue = machine_catalogue()
        boot = catalogue.boot_times_of(scaling.boot)
        with kubernetes_pool.made(api, name, scaling, catalogue.types, ledger):
            yield Room(
                selector={kubernetes_pool.POOL: name},
                follows={"claims": kubernetes_pool.claims(name), "nodes": kubernetes_pool.nodes(name)},
                serving=partial(kubernetes_pool.now_booting, api, name, scaling.boot),
                machines_scale=True,
                buffer_replicas=scaling.buffer_replicas,
                facts={"boot": {"samples_s": list(boot.samples_s), "source": boot.source, "date": boot.date}},
            )

    def reap(self, entry: LedgerEntry) -> None:
        """Remove the namespace or the machines that ``entry`` names, if its cluster answers."""
        if entry.kind == kubernetes_namespace.KIND:
            super().reap(entry)
        else:
            kubernetes_pool.reap(entry, own_kubeconfig())


def _of_machines(component: str, scaling: MachineScaling) -> Iterator[Problem]:
    where = f"component {component}"
    catalogue = machine_catalogue()
    try:
        catalogue.boot_times_of(scaling.boot)
    except MlscaleError as error:
        yield Problem(error.what, f"{where}, boot", error.remedy)
    unknown = [name for name in scaling.machine_types if name not in catalogue.types]
    if unknown:
        yield Problem(f"no machine type {', '.join(unknown)}", where, f"choose of {', '.join(catalogue.types)}")
        return
    room = max(catalogue.types[name].cpu_cores for name in scaling.machine_types) - RESERVED_CORES
    if scaling.cpu_cores > room:
        yield Problem(
            f"a replica wants {scaling.cpu_cores:g} cores, the largest machine has {room:g} for pods",
            where,
            "lower cpu_cores, or allow a larger type (machine_types)",
        )
