"""A machine: a node with namespaces and cgroups of its own, and the limits of its type, that joins the cluster.

It is nested in the cluster's own node: its cgroups, processes and network link are inside that node's, so its machines
end with the node.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mlscale.atomic import write_whole
from mlscale.environments.machine_types import RESERVED_MIB, MachineType
from mlscale.host.scratch import remove_folder
from onenode.configure import digest_of, write_machine
from onenode.layout import RUNTIME_SOCKET, Layout, MachineLayout
from onenode.machines.plan import PROVIDER, Machine
from onenode.node import Limits, Link, Node
from onenode.parts import Part, Programs, machine_parts
from onenode.settings import Settings
from onenode.waiting import wait_until

_NUMA: Final = Path("/sys/devices/system/node")
# Labels of its claim that a cloud's machine would set itself. Karpenter adds the rest.
_LABELS: Final = (
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/zone",
    "karpenter.sh/nodepool",
    "karpenter.sh/capacity-type",
)
# Karpenter removes it once it has registered the machine.
_TAINT: Final = {"key": "karpenter.sh/unregistered", "effect": "NoExecute"}
# CPU weight of a machine until its node is ready, beside 100 per core afterwards: in a cloud, a machine that boots and
# joins takes nothing from those whose pods are starting.
_JOINING_WEIGHT: Final = 5


@dataclass(frozen=True, slots=True)
class Site:
    """The cluster of ``layout``, where machines are created."""

    layout: Layout
    settings: Settings
    programs: Programs

    def of(self, machine: Machine) -> MachineLayout:
        """The machine's own folder and names."""
        return self.layout.machine(machine.name, machine.number)

    def runs(self, machine: Machine) -> bool:
        """Whether its first process runs."""
        return Node(self.of(machine)).init is not None

    def build(self, machine: Machine, kind: MachineType) -> None:
        """Create everything but what joins the cluster: first process, limits, network, containerd, images. Ends first
        what an earlier attempt left.

        Raises:
            MlscaleError: a part does not come up, or the host refuses something; `power_off` removes the rest.
        """
        layout = self.of(machine)
        node = Node(layout)
        node.clear()
        write_machine(layout, self.layout, self.settings, self.programs, kubelet_fields(machine, kind))
        covers = _covers(layout, kind)
        node.boot(Limits(kind.cpu_cores, kind.memory_mib * 2**20, _JOINING_WEIGHT), covers)
        outer, inner = layout.addresses
        node.link(Link(outer, inner, (("default", "via", outer),), (layout.pod_cidr,)))
        containerd, *_ = self._parts(machine)
        node.start(containerd, digest_of(containerd, layout))
        self._images(node)

    def power_on(self, machine: Machine) -> None:
        """Start kubelet and kube-proxy, which join the cluster, on a machine that `build` created.

        Raises:
            MlscaleError: it has not been built, or a part can't be started; `power_off` removes the rest.
        """
        layout = self.of(machine)
        _, *joining = self._parts(machine)
        for part in joining:
            Node(layout).start(part, digest_of(part, layout))

    def join(self, machine: Machine, kind: MachineType) -> None:
        """Give it its full share of the host's CPU.

        Raises:
            OSError: its groups are gone.
        """
        Node(self.of(machine)).groups.set_weight(max(1, round(100 * kind.cpu_cores)))

    def power_off(self, machine: Machine) -> None:
        """End it and remove its folder. Idempotent.

        Raises:
            MlscaleError: something can't be removed.
        """
        layout = self.of(machine)
        Node(layout).clear()
        remove_folder(layout.root)

    def _parts(self, machine: Machine) -> tuple[Part, ...]:
        """containerd first: it is the only one that does not use the cluster."""
        labels = {key: machine.labels[key] for key in _LABELS if key in machine.labels}
        return machine_parts(self.of(machine), self.layout.conf / "kube-proxy.kubeconfig", labels, self.programs)

    def _images(self, node: Node) -> None:
        """Import the images of the cluster's own node, as in a cloud's machine image."""
        socket = Path(f"/proc/{node.init.pid if node.init else 0}/root{RUNTIME_SOCKET}")
        wait_until(node, "containerd", "containerd's socket", socket.exists)
        ctr = [self.programs["ctr"], "--address", RUNTIME_SOCKET, "--namespace", "k8s.io", "images", "import"]
        for archive in sorted((self.layout.data / "images").glob("*.tar")):
            node.run([*ctr, str(archive)])


def kubelet_fields(machine: Machine, kind: MachineType) -> dict[str, Any]:
    """Additional fields of its kubelet's configuration."""
    return {
        "providerID": f"{PROVIDER}{machine.name}",
        "registerWithTaints": [_TAINT],
        "kubeReserved": {"cpu": f"{round(1000 * kind.reserved_cores)}m", "memory": f"{RESERVED_MIB}Mi"},
        "maxPods": kind.pods,
    }


def meminfo(text: str, memory_mib: int) -> str:
    """/proc/meminfo of a machine with ``memory_mib``, from the host's ``text``."""
    return re.sub(r"^MemTotal:.*$", f"MemTotal:       {memory_mib * 1024} kB", text, flags=re.MULTILINE)


def _covers(layout: MachineLayout, kind: MachineType) -> Mapping[str, str]:
    """Mounts by which the kubelet sees the type's cores and memory instead of the host's."""
    file = layout.root / "meminfo"
    write_whole(file, meminfo(Path("/proc/meminfo").read_text(), kind.memory_mib), 0o644)
    node = layout.root / "numa/node0"
    node.mkdir(parents=True, exist_ok=True)
    (node / "meminfo").write_text(f"Node 0 MemTotal:       {kind.memory_mib * 1024} kB\n")
    (node / "distance").write_text("10\n")
    for core in range(min(kind.visible_cores, os.cpu_count() or 1)):
        link = node / f"cpu{core}"
        link.unlink(missing_ok=True)
        link.symlink_to(f"/sys/devices/system/cpu/cpu{core}")
    return {"/proc/meminfo": str(file), str(_NUMA): str(node.parent)}
