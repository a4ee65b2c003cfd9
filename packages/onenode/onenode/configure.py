"""Writes the files that the parts are started with, and says when a part was started with others."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlscale.environments.machine_types import Catalogue
from onenode.atomic_files import write_whole
from onenode.certificates import Issued, machine_leaves
from onenode.images import architecture
from onenode.layout import Layout, MachineLayout, NodeLayout
from onenode.parts import API_PORT, CATALOGUE, KUBECONFIG_USERS, MACHINE_TYPES, PROGRAMS, Part, Programs
from onenode.pki import ensure_certificates, issue_leaves
from onenode.render import containerd_config, kubeconfig, kubelet_config, pod_network
from onenode.settings import Settings


def server_url(settings: Settings) -> str:
    """Where the API answers, from the host as from inside."""
    return f"https://{settings.node_address}:{API_PORT}"


def write_configuration(layout: Layout, settings: Settings, programs: Programs) -> None:
    """Everything but the kubeconfig for people; files that hold the right text already are left alone."""
    ensure_certificates(layout.pki, settings)
    for user in KUBECONFIG_USERS:
        write_whole(layout.conf / f"{user}.kubeconfig", _kubeconfig(layout, layout, settings, user))
    _write_node(layout, layout, settings, settings.node_address, programs)


def write_machines(layout: Layout, programs: Programs, catalogue: str, machine: str) -> None:
    """What Karpenter and the daemon of the machines read.

    Args:
        catalogue: text of a `Catalogue`.
        machine: the host's kind, as `platform.machine` says.

    Raises:
        MlscaleError: the catalogue is broken.
    """
    write_whole(layout.conf / MACHINE_TYPES, Catalogue.from_json(catalogue).as_kwok(architecture(machine)))
    write_whole(layout.conf / CATALOGUE, catalogue)
    write_whole(layout.conf / PROGRAMS, programs.to_json())


def write_machine(
    layout: MachineLayout, cluster: Layout, settings: Settings, programs: Programs, kubelet: Mapping[str, Any]
) -> None:
    """Everything that a machine's parts are started with. ``kubelet``: fields of its configuration."""
    issue_leaves(layout.pki, machine_leaves(layout), cluster.pki)
    write_whole(layout.conf / "kubelet.kubeconfig", _kubeconfig(layout, cluster, settings, "kubelet"))
    _write_node(layout, cluster, settings, layout.addresses[1], programs, kubelet)


def write_kubeconfig(layout: Layout, settings: Settings) -> None:
    """The administrator's, for people and for the k3s environment: written once the cluster answers."""
    write_whole(layout.kubeconfig, _kubeconfig(layout, layout, settings, "admin"))


def digest_of(part: Part, layout: NodeLayout) -> str:
    """Of a part with the contents of the files that its arguments name."""
    own = (layout.conf, layout.pki)
    named = [Path(word.rpartition("=")[2]) for word in part.argv]
    files = [file for file in named if any(file.is_relative_to(folder) for folder in own)]
    return part.digest({str(file): file.read_text() for file in files})


def _write_node(
    layout: NodeLayout,
    cluster: Layout,
    settings: Settings,
    address: str,
    programs: Programs,
    kubelet: Mapping[str, Any] | None = None,
) -> None:
    """What the programs of any node read, and the folders that they write to."""
    snapshotter = "native" if _filesystem(layout.root) == "overlay" else "overlayfs"
    runtime = containerd_config(layout, str(programs.plugins), programs["runc"], snapshotter)
    write_whole(layout.conf / "containerd.toml", runtime)
    write_whole(layout.conf / "cni/10-mlscale.conflist", pod_network(layout.pod_cidr))
    config = kubelet_config(layout, cluster.pki / "ca.crt", address, settings.cfs_period_s, kubelet)
    write_whole(layout.conf / "kubelet.json", config)
    for folder in (layout.logs, layout.records, layout.data):
        folder.mkdir(exist_ok=True, mode=0o700)


def _kubeconfig(layout: NodeLayout, cluster: Layout, settings: Settings, user: str) -> str:
    pair = Issued((layout.pki / f"{user}.crt").read_bytes(), (layout.pki / f"{user}.key").read_bytes())
    return kubeconfig(server_url(settings), (cluster.pki / "ca.crt").read_bytes(), user, pair)


def _filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Kind of the file system that ``path`` lies on."""
    best, kind = Path("/"), ""
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split(" ")[4])
        if path.is_relative_to(point) and point.is_relative_to(best):
            best, kind = point, after.split(" ")[0]
    return kind
