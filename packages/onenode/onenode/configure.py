"""Writes the configuration files of the parts, and computes digests that tell when a part needs a restart."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from mlscale.atomic import write_whole
from mlscale.environments.machine_types import Catalogue
from onenode.certificates import KeyPair, machine_leaves
from onenode.images import architecture
from onenode.layout import Layout, MachineLayout, NodeLayout
from onenode.parts import (
    API_PORT,
    CATALOGUE,
    DNS_READY_PORT,
    KUBECONFIG_USERS,
    MACHINE_TYPES,
    NAME_SERVER,
    PROGRAMS,
    Part,
    Programs,
)
from onenode.pki import ensure_certificates, issue_leaves
from onenode.render import containerd_config, kubeconfig, kubelet_config, name_server, pod_network, resolver
from onenode.settings import Settings

# File in `Layout.conf`: what the node's own programs see as /etc/resolv.conf.
RESOLVER: Final = "resolv.conf"


def server_url(settings: Settings) -> str:
    """URL of the API server, from the host and from inside."""
    return f"https://{settings.node_address}:{API_PORT}"


def write_configuration(layout: Layout, settings: Settings, programs: Programs) -> None:
    """Everything but the administrator's kubeconfig; unchanged files are left alone."""
    ensure_certificates(layout.pki, settings)
    for user in KUBECONFIG_USERS:
        write_whole(layout.conf / f"{user}.kubeconfig", _kubeconfig(layout, layout, settings, user))
    write_whole(layout.conf / RESOLVER, resolver())
    services = name_server(layout.conf / "keda.kubeconfig", settings.node_address, DNS_READY_PORT)
    write_whole(layout.conf / NAME_SERVER, services)
    _write_node(layout, layout, settings, settings.node_address, programs)


def write_machines(layout: Layout, programs: Programs, catalogue: str, machine: str) -> None:
    """Configuration of Karpenter and of the machines' daemon.

    Args:
        catalogue: text of a `Catalogue`.
        machine: the host's architecture, from `platform.machine`.

    Raises:
        MlscaleError: the catalogue is broken.
    """
    write_whole(layout.conf / MACHINE_TYPES, Catalogue.from_json(catalogue).as_kwok(architecture(machine)))
    write_whole(layout.conf / CATALOGUE, catalogue)
    write_whole(layout.conf / PROGRAMS, programs.to_json())


def write_machine(
    layout: MachineLayout, cluster: Layout, settings: Settings, programs: Programs, kubelet: Mapping[str, Any]
) -> None:
    """Configuration of a machine's parts. ``kubelet``: additional fields of the kubelet's."""
    issue_leaves(layout.pki, machine_leaves(layout), cluster.pki)
    write_whole(layout.conf / "kubelet.kubeconfig", _kubeconfig(layout, cluster, settings, "kubelet"))
    _write_node(layout, cluster, settings, layout.addresses[1], programs, kubelet)


def write_kubeconfig(layout: Layout, settings: Settings) -> None:
    """The administrator's kubeconfig, for users and the k3s environment: written once the cluster answers."""
    write_whole(layout.kubeconfig, _kubeconfig(layout, layout, settings, "admin"))


def digest_of(part: Part, layout: NodeLayout) -> str:
    """Digest of a part and of the files that its arguments name."""
    own = (layout.conf, layout.pki)
    named = [Path(word.rpartition("=")[2]) for word in part.argv]
    files = [file for file in named if any(file.is_relative_to(folder) for folder in own) and not file.is_dir()]
    return part.digest({str(file): file.read_text() for file in files})


def _write_node(
    layout: NodeLayout,
    cluster: Layout,
    settings: Settings,
    address: str,
    programs: Programs,
    kubelet: Mapping[str, Any] | None = None,
) -> None:
    """What the programs of every node read, and the folders they write to."""
    kind = subprocess.run(["stat", "-f", "-c", "%T", layout.root], capture_output=True, text=True, check=False).stdout
    snapshotter = "native" if kind.strip() == "overlayfs" else "overlayfs"  # overlays can't be nested
    runtime = containerd_config(layout, str(programs.plugins), programs["runc"], snapshotter)
    write_whole(layout.conf / "containerd.toml", runtime)
    write_whole(layout.conf / "cni/10-mlscale.conflist", pod_network(layout.pod_cidr))
    config = kubelet_config(layout, cluster.pki / "ca.crt", address, settings.cfs_period_s, kubelet)
    write_whole(layout.conf / "kubelet.json", config)
    for folder in (layout.logs, layout.records, layout.data):
        folder.mkdir(exist_ok=True, mode=0o700)


def _kubeconfig(layout: NodeLayout, cluster: Layout, settings: Settings, user: str) -> str:
    pair = KeyPair((layout.pki / f"{user}.crt").read_bytes(), (layout.pki / f"{user}.key").read_bytes())
    return kubeconfig(server_url(settings), (cluster.pki / "ca.crt").read_bytes(), user, pair)
