"""The environment ``eks``: containers scaled by the HorizontalPodAutoscaler, machines by Karpenter.

Rehearsed on our own cluster with machines (``make cluster MACHINES=1``): Karpenter, kubelets and pods are real; only
the boot time of a virtual machine is drawn from a profile. Such a run is labelled ``rehearsal`` everywhere: it is not
an EKS run. Live on the cluster of the kubeconfig, where Karpenter (EKS Auto Mode's or self-managed) adds machines: the
same objects except for node class and machine types; or in a managed node group scaled by the Cluster Autoscaler. Live
mode has never been run on AWS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import ClassVar, Final

from mlscale.environments.base import Look, Problem, Scaling
from mlscale.environments.kubernetes import namespace, node_pool
from mlscale.environments.kubernetes.client import Api, Refused
from mlscale.environments.kubernetes.cluster import Cluster
from mlscale.environments.kubernetes.environment import KubernetesEnvironment, Room
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.names import BUFFER_PRIORITY, NODE_GROUP_LABEL
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.machine_choice import boot_problems, machine_problems
from mlscale.environments.machine_types import catalogue
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.state import own_kubeconfig
from mlscale.runs import Level, Mode

_REMEDY: Final = "make cluster MACHINES=1"
_DOCUMENT: Final = "docs/aws.md"
# The ConfigMap in kube-system that a Cluster Autoscaler reports in.
_AUTOSCALER: Final = "cluster-autoscaler-status"
# Auto Mode starts machines with more cores than that (EKS user guide, "Managed instances").
_AUTO_MODE_CORES: Final = 1.0


class Eks(KubernetesEnvironment):
    """Pods go to the run's own machines, which are added on demand."""

    name: ClassVar[str] = "eks"
    look: ClassVar[Look] = Look("Kubernetes (HPA + Karpenter)", "HPA + Karpenter", "#E69F00", "v", 6)
    level: ClassVar[Level] = "container+machine"
    modes: ClassVar[frozenset[Mode]] = frozenset({"live", "rehearsal"})
    settings: ClassVar[type[Scaling]] = MachineScaling
    ledger_kinds: ClassVar[frozenset[str]] = frozenset({node_pool.KIND})

    def arm(self, arm: str) -> MachineScaling:
        return MachineScaling.of_arm(arm)

    def start_up_s(self, scaling: Scaling) -> float:
        """As for pods, and a machine: Karpenter's batch (10 s at most), the longest boot, 20 s to join (assumed)."""
        assert isinstance(scaling, MachineScaling)
        return super().start_up_s(scaling) + 10.0 + scaling.longest_boot_s + 20.0

    def loads_inside(self, mode: Mode) -> bool:
        """A live cluster is reachable from here only by a load balancer, which a crash could leave behind."""
        return mode == "live"

    def no_room(self, api: Api, cluster: Cluster, scalings: Mapping[str, Scaling], mode: Mode) -> Sequence[Problem]:
        """Whether machines can be added, and hold a replica."""
        if mode == "rehearsal" and cluster.own is None:
            return [Problem("machines are rehearsed on our own cluster only", "kubeconfig", _REMEDY)]
        if mode == "live" and cluster.own is not None:
            return [
                Problem(
                    "the kubeconfig names our own cluster, not one on EKS",
                    "kubeconfig",
                    "mlscale measure eks --mode rehearsal",
                )
            ]
        scaling = _of_machines(scalings)
        problems = list(_no_machines(api, scaling, mode))
        if problems:
            return problems
        for name, each in scalings.items():
            assert isinstance(each, MachineScaling)
            problems += _machine_problems(name, each, mode)
        return problems

    @contextmanager
    def room(self, api: Api, name: str, scalings: Mapping[str, Scaling], mode: Mode, ledger: Ledger) -> Iterator[Room]:
        """The run's own machines; rehearsed ones boot at once until the application serves."""
        scaling = _of_machines(scalings)
        follows = {"claims": node_pool.claims(name), "nodes": node_pool.nodes({node_pool.POOL: name})}
        room = Room({node_pool.POOL: name}, follows, machines_scale=True, buffer_replicas=scaling.buffer_replicas)
        if mode == "live":
            memory = {kind: each.memory_mib for kind, each in catalogue().types.items()}
            if scaling.node_group is not None:
                label = {NODE_GROUP_LABEL: scaling.node_group}
                yield Room(
                    label,
                    {"nodes": node_pool.nodes(label)},
                    machines_scale=True,
                    buffer_replicas=scaling.buffer_replicas,
                )
                return
            with node_pool.created(api, name, scaling, memory, ledger, node_class=scaling.node_class, boot=None):
                yield room
            return
        known = catalogue()
        boot = known.boot_times_of(scaling.boot)
        memory = {kind: each.memory_mib for kind, each in known.types.items()}
        with node_pool.created(api, name, scaling, memory, ledger):
            yield Room(
                room.selector,
                room.follows,
                serving=partial(node_pool.set_boot_times, api, name, scaling.boot),
                machines_scale=True,
                buffer_replicas=room.buffer_replicas,
                facts={"boot": {"samples_s": list(boot.samples_s), "source": boot.source, "date": boot.date}},
            )

    def reap(self, entry: LedgerEntry) -> None:
        """Delete the namespace or machines that ``entry`` names, if its cluster answers."""
        if entry.kind == namespace.KIND:
            super().reap(entry)
        else:
            node_pool.reap(entry, own_kubeconfig())


def _no_machines(api: Api, scaling: MachineScaling, mode: Mode) -> Iterator[Problem]:
    """Why no machine could be added, or why no spare capacity can be kept on one."""
    if mode == "live" and scaling.node_group is not None:
        where, what = path_of("ConfigMap", _AUTOSCALER, "kube-system"), "no Cluster Autoscaler reports in kube-system"
        remedy = f"install it, or omit node_group; see {_DOCUMENT}"
    else:
        node_class = node_pool.NODE_CLASS if mode == "rehearsal" else scaling.node_class
        where, what = node_pool.class_path(node_class), f"the cluster has no node class {node_class}"
        remedy = _REMEDY if mode == "rehearsal" else f"set --scaling node_class=GROUP/KIND/NAME, see {_DOCUMENT}"
    needed = [(where, what, remedy)]
    if mode == "live" and scaling.buffer_replicas:
        create = f"kubectl create priorityclass {BUFFER_PRIORITY} --value=-10 --preemption-policy=Never"
        what = f"the cluster has no PriorityClass {BUFFER_PRIORITY} for buffer_replicas"
        needed.append((path_of("PriorityClass", BUFFER_PRIORITY), what, create))
    for where, what, remedy in needed:
        try:
            existing = api.find(where)
        except Refused as refused:
            yield Problem(f"may not be read: {refused.message}", where, remedy)
            continue
        if existing is None:
            yield Problem(what, where, remedy)


def _of_machines(scalings: Mapping[str, Scaling]) -> MachineScaling:
    return next(each for each in scalings.values() if isinstance(each, MachineScaling))


def _machine_problems(component: str, scaling: MachineScaling, mode: Mode) -> Iterator[Problem]:
    where = f"component {component}"
    if mode == "rehearsal":
        yield from boot_problems(scaling, where)
    cores = {n: each.cpu_cores for n, each in catalogue().types.items() if mode == "rehearsal" or each.on_ec2}
    auto = mode == "live" and scaling.auto_mode
    started = [name for name in cores if not auto or cores[name] > _AUTO_MODE_CORES]
    yield from machine_problems(scaling, scaling.cpu_cores, where, cores=cores, offered=started)
    small = [name for name in scaling.machine_types if name in cores and name not in started]
    if small:
        remedy = f"set --scaling machine_types=... (choose from: {', '.join(started)})"
        yield Problem(f"EKS Auto Mode never starts {', '.join(small)}: it wants more than 1 core", where, remedy)
