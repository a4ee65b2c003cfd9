"""The files of a node, and the names of everything outside its folder. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """The folder of a node: the cluster's own (`Layout`), or a machine that joins and leaves (`MachineLayout`).

    What is outside it has names derived from it, which are known without a record: a cgroup in every hierarchy, and a
    network interface.
    """

    root: Path

    @property
    def name(self) -> str:
        """The node's name in Kubernetes and its host name."""
        raise NotImplementedError

    @property
    def cgroup(self) -> str:
        """Name of the node's cgroup below the top of every hierarchy."""
        raise NotImplementedError

    @property
    def interface(self) -> str:
        """The outer end of the node's only network link (at most 15 characters)."""
        raise NotImplementedError

    @property
    def pod_cidr(self) -> str:
        """Address range of its pods."""
        raise NotImplementedError

    @property
    def init(self) -> Path:
        """Record of the node's first process."""
        return self.root / "init.json"

    @property
    def pki(self) -> Path:
        return self.root / "pki"

    @property
    def conf(self) -> Path:
        return self.root / "conf"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def records(self) -> Path:
        """NAME.json for each part: its process and the digest that it was started with."""
        return self.root / "parts"

    @property
    def data(self) -> Path:
        """Data of etcd, containerd and kubelet."""
        return self.root / "data"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"


@dataclass(frozen=True, slots=True)
class Layout(NodeLayout):
    """The folder of a cluster, which is that of its own node."""

    @property
    def name(self) -> str:
        return NODE_NAME

    @property
    def identifier(self) -> str:
        """8 hexadecimal digits, unique to the cluster."""
        return hashlib.sha256(str(self.root).encode()).hexdigest()[:8]

    @property
    def cgroup(self) -> str:
        return f"mlscale-node-{self.identifier}"

    @property
    def interface(self) -> str:
        return f"mlsc{self.identifier}"

    @property
    def pod_cidr(self) -> str:
        return "10.244.0.0/24"

    @property
    def lock(self) -> Path:
        """Outside the folder, since `down` removes that."""
        return self.root.with_name(f"{self.root.name}.lock")

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def settings(self) -> Path:
        """Addresses and the user's choices; written before anything else."""
        return self.root / "settings.json"

    @property
    def whole(self) -> Path:
        """Exists once the cluster has come up: its state is then worth keeping."""
        return self.root / "whole"

    @property
    def machines(self) -> Path:
        """A folder for each machine."""
        return self.root / "machines"

    def machine(self, name: str, number: int) -> MachineLayout:
        """The machine ``name``; ``number``, 1 to 60, is unique among existing machines."""
        return MachineLayout(self.machines / name, number)


@dataclass(frozen=True, slots=True)
class MachineLayout(NodeLayout):
    """The folder of a machine. Its cgroup, interface and addresses are inside the cluster's own node."""

    number: int

    @property
    def name(self) -> str:
        return self.root.name

    @property
    def cgroup(self) -> str:
        return f"machine-{self.number}"

    @property
    def interface(self) -> str:
        return f"machine{self.number}"

    @property
    def pod_cidr(self) -> str:
        return f"10.244.{self.number}.0/24"

    @property
    def addresses(self) -> tuple[str, str]:
        """Outer and inner end of its link, a network of 4 addresses (/30)."""
        return f"10.245.0.{4 * self.number + 1}", f"10.245.0.{4 * self.number + 2}"


def import_folders() -> tuple[str, str]:
    """Folders from which processes without site-packages import this package and mlscale."""
    return str(Path(__file__).resolve().parents[1]), str(package_home())


def default_layout() -> Layout:
    """The cluster of ``make cluster``."""
    return Layout(own_cluster())
