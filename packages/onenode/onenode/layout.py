"""Where the files of a node lie, and the names that everything outside its folder has. Pure."""

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
# Folder in `NodeLayout.data` -> where it is seen inside the node: the usual places, and short enough for sockets.
BINDS: Final = {"kubelet": KUBELET_FOLDER, "containerd": CONTAINERD_FOLDER, "pod-logs": "/var/log/pods"}
# Where programs are looked for inside the node, behind its own.
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

SERVICE_CIDR: Final = "10.96.0.0/16"
API_SERVICE_ADDRESS: Final = "10.96.0.1"
# Of the whole cluster; each node has a /24 of it (`NodeLayout.pod_cidr`).
POD_CIDR: Final = "10.244.0.0/16"
THIN_IMAGE: Final = "localhost/mlscale/thin:1"
PAUSE_IMAGE: Final = "localhost/mlscale/pause:1"


@dataclass(frozen=True, slots=True)
class NodeLayout:
    """The folder of one node: the cluster's own (`Layout`), or a machine that comes and goes (`MachineLayout`).

    What lies outside it has names that follow from it, so that they are known without any record: a cgroup in every
    hierarchy, and one network interface.
    """

    root: Path

    @property
    def name(self) -> str:
        """Of the node in Kubernetes, and its host name."""
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
        """Where its pods have their addresses."""
        raise NotImplementedError

    @property
    def init(self) -> Path:
        """Which process is the node's first one."""
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
        """NAME.json for each part: its process and what it was started with."""
        return self.root / "parts"

    @property
    def data(self) -> Path:
        """etcd, containerd and kubelet keep theirs below."""
        return self.root / "data"

    def log(self, part: str) -> Path:
        return self.logs / f"{part}.log"


@dataclass(frozen=True, slots=True)
class Layout(NodeLayout):
    """The folder of one cluster, which is that of its own node."""

    @property
    def name(self) -> str:
        return NODE_NAME

    @property
    def identifier(self) -> str:
        """8 hexadecimal digits, one cluster's own."""
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
        """Beside the folder, since `down` removes that."""
        return self.root.with_name(f"{self.root.name}.lock")

    @property
    def kubeconfig(self) -> Path:
        return self.root / "kubeconfig"

    @property
    def settings(self) -> Path:
        """Addresses and what the user chose; written before anything else."""
        return self.root / "settings.json"

    @property
    def whole(self) -> Path:
        """There once the cluster has come up: its state is then worth keeping."""
        return self.root / "whole"

    @property
    def machines(self) -> Path:
        """A folder for each machine."""
        return self.root / "machines"

    def machine(self, name: str, number: int) -> MachineLayout:
        """Of the machine ``name``; ``number``, 1 to 60, is its alone while it exists."""
        return MachineLayout(self.machines / name, number)


@dataclass(frozen=True, slots=True)
class MachineLayout(NodeLayout):
    """The folder of one machine. Its cgroup, interface and addresses are inside the cluster's own node."""

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
        """Of the outer and the inner end of its link, a network of 4 addresses (/30)."""
        return f"10.245.0.{4 * self.number + 1}", f"10.245.0.{4 * self.number + 2}"


def import_folders() -> tuple[str, str]:
    """From where processes without site-packages import this package and mlscale."""
    return str(Path(__file__).resolve().parents[1]), str(package_home())


def default_layout() -> Layout:
    """The cluster that ``make cluster`` makes."""
    return Layout(own_cluster())
