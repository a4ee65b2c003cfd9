"""The files of a node, and the names of everything outside its folder. Pure."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from mlscale.host.interpreter import package_home
from mlscale.host.state import own_cluster

# Name of the cluster's own node in Kubernetes, and its host name inside.
NODE_NAME: Final = "mlscale"
# containerd's socket, inside a node.
RUNTIME_SOCKET: Final = "/run/containerd/containerd.sock"
KUBELET_FOLDER: Final = "/var/lib/kubelet"
CONTAINERD_FOLDER: Final = "/var/lib/containerd"
# Folder in `NodeLayout.data` -> its path inside the node: the usual ones, and short enough for sockets.
BINDS: Final = {"kubelet": KUBELET_FOLDER, "containerd": CONTAINERD_FOLDER, "pod-logs": "/var/log/pods"}
# Search path for programs inside the node, after its own.
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SERVICE_CIDR: Final = "10.96.0.0/16"
API_SERVICE_ADDRESS: Final = "10.96.0.1"
# The whole cluster's; each node has a /24 of it (`NodeLayout.pod_cidr`).
POD_CIDR: Final = "10.244.0.0/16"
THIN_IMAGE: Final = "localhost/mlscale/thin:1"
PAUSE_IMAGE: Final = "localhost/mlscale/pause:1"


class NodeLayout:
    """The folder of a node: the cluster's own (`Layout`), or a machine that joins and leaves (`MachineLayout`).

    What is outside it has names derived from it, which are known without a record: a cgroup in every hierarchy, and a
    network interface.

    Args:
        name: the node's name in Kubernetes and its host name.
        cgroup: name of the node's cgroup below the top of every hierarchy.
        interface: the outer end of the node's only network link (at most 15 characters).
        pod_cidr: address range of its pods.
    """

    def __init__(self, root: Path, name: str, cgroup: str, interface: str, pod_cidr: str) -> None:
        self.root, self.name, self.cgroup, self.interface, self.pod_cidr = root, name, cgroup, interface, pod_cidr
        self.init = root / "init.json"
        """Record of the node's first process."""
        self.pki = root / "pki"
        self.conf = root / "conf"
        self.logs = root / "logs"
        self.records = root / "parts"
        """NAME.json for each part: its process and the digest that it was started with."""
        self.data = root / "data"
        """Data of etcd, containerd and kubelet."""

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"


class Layout(NodeLayout):
    """The folder of a cluster, which is that of its own node."""

    def __init__(self, root: Path) -> None:
        identifier = hashlib.sha256(str(root).encode()).hexdigest()[:8]
        super().__init__(root, NODE_NAME, f"mlscale-node-{identifier}", f"mlsc{identifier}", "10.244.0.0/24")
        self.lock = root.with_name(f"{root.name}.lock")
        """Outside the folder, since `down` removes that."""
        self.kubeconfig = root / "kubeconfig"
        self.settings = root / "settings.json"
        """Addresses and the user's choices; written before anything else."""
        self.whole = root / "whole"
        """Exists once the cluster has come up: its state is then worth keeping."""
        self.machines = root / "machines"
        """A folder for each machine."""

    def machine(self, name: str, number: int) -> MachineLayout:
        """The machine ``name``; ``number``, 1 to 60, is unique among existing machines."""
        return MachineLayout(self.machines / name, number)


class MachineLayout(NodeLayout):
    """The folder of a machine. Its cgroup, interface and addresses are inside the cluster's own node."""

    def __init__(self, root: Path, number: int) -> None:
        super().__init__(root, root.name, f"machine-{number}", f"machine{number}", f"10.244.{number}.0/24")
        self.addresses = f"10.245.0.{4 * number + 1}", f"10.245.0.{4 * number + 2}"
        """Outer and inner end of its link, a network of 4 addresses (/30)."""


def import_folders() -> tuple[str, str]:
    """Folders from which processes without site-packages import this package and mlscale."""
    return str(Path(__file__).resolve().parents[1]), str(package_home())


def default_layout() -> Layout:
    """The cluster of ``make cluster``."""
    return Layout(own_cluster())
