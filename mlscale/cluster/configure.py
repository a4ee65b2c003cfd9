"""Writes the files that the parts are started with, and says when a part was started with others."""

from __future__ import annotations

from pathlib import Path

from mlscale.cluster.certificates import Issued
from mlscale.cluster.files import write_whole
from mlscale.cluster.layout import Layout
from mlscale.cluster.parts import API_PORT, KUBECONFIG_USERS, Part, Programs
from mlscale.cluster.pki import ensure_certificates
from mlscale.cluster.render import containerd_config, kubeconfig, kubelet_config, pod_network
from mlscale.cluster.settings import Settings


def server_url(settings: Settings) -> str:
    """Where the API answers, from the host as from inside."""
    return f"https://{settings.node_address}:{API_PORT}"


def write_configuration(layout: Layout, settings: Settings, programs: Programs) -> None:
    """Everything but the kubeconfig for people; files that hold the right text already are left alone."""
    ensure_certificates(layout.pki, settings)
    for user in KUBECONFIG_USERS:
        write_whole(layout.conf / f"{user}.kubeconfig", _kubeconfig(layout, settings, user))
    snapshotter = "native" if _filesystem(layout.root) == "overlay" else "overlayfs"
    runtime = containerd_config(layout, str(programs.plugins), programs["runc"], snapshotter)
    write_whole(layout.conf / "containerd.toml", runtime)
    write_whole(layout.conf / "cni/10-mlscale.conflist", pod_network())
    write_whole(layout.conf / "kubelet.json", kubelet_config(layout, settings))
    for folder in (layout.logs, layout.records, layout.data):
        folder.mkdir(exist_ok=True, mode=0o700)


def write_kubeconfig(layout: Layout, settings: Settings) -> None:
    """The administrator's, for people and for the k3s environment: written once the cluster answers."""
    write_whole(layout.kubeconfig, _kubeconfig(layout, settings, "admin"))


def digest_of(part: Part, layout: Layout) -> str:
    """Of a part with the contents of the files that its arguments name."""
    own = (layout.conf, layout.pki)
    named = [Path(word.rpartition("=")[2]) for word in part.argv]
    files = [file for file in named if any(file.is_relative_to(folder) for folder in own)]
    return part.digest({str(file): file.read_text() for file in files})


def _kubeconfig(layout: Layout, settings: Settings, user: str) -> str:
    pair = Issued((layout.pki / f"{user}.crt").read_bytes(), (layout.pki / f"{user}.key").read_bytes())
    return kubeconfig(server_url(settings), (layout.pki / "ca.crt").read_bytes(), user, pair)


def _filesystem(path: Path, mountinfo: Path = Path("/proc/self/mountinfo")) -> str:
    """Kind of the file system that ``path`` lies on."""
    best, kind = Path("/"), ""
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = Path(before.split(" ")[4])
        if path.is_relative_to(point) and point.is_relative_to(best):
            best, kind = point, after.split(" ")[0]
    return kind
