"""Configuration files of the parts, as text. Pure. YAML files are written as JSON, which is YAML."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from onenode.certificates import KeyPair
from onenode.layout import CONTAINERD_FOLDER, KUBELET_FOLDER, PAUSE_IMAGE, RUNTIME_SOCKET, NodeLayout
from onenode.settings import DEFAULT_CFS_PERIOD_S

_UNUSED: Final = ("aufs", "btrfs", "devmapper", "zfs")


def kubeconfig(server: str, authority: bytes, user: str, pair: KeyPair) -> str:
    """A self-contained kubeconfig. ``server``: URL; ``authority``: PEM."""

    def data(pem: bytes) -> str:
        return base64.b64encode(pem).decode()

    identity = {"client-certificate-data": data(pair.certificate), "client-key-data": data(pair.key)}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "mlscale", "cluster": {"server": server, "certificate-authority-data": data(authority)}}],
        "users": [{"name": user, "user": identity}],
        "contexts": [{"name": "mlscale", "context": {"cluster": "mlscale", "user": user}}],
        "current-context": "mlscale",
    }
    return json.dumps(content, indent=2)


def kubelet_config(
    layout: NodeLayout, clients: Path, address: str, cfs_period_s: float, more: Mapping[str, Any] | None = None
) -> str:
    """A KubeletConfiguration (kubelet.config.k8s.io/v1beta1): authenticated by certificate or token, authorised by
    the API server, cgroups managed by the kubelet, no eviction and no removal of images when disk runs low.

    Args:
        clients: CA certificate of its clients.
        address: to listen on.
        cfs_period_s: period of the containers' CPU quota.
        more: additional fields.
    """
    content: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": address,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(clients)},
        },
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(layout.pki / "kubelet-server.crt"),
        "tlsPrivateKeyFile": str(layout.pki / "kubelet-server.key"),
        "readOnlyPort": 0,
        "healthzBindAddress": "127.0.0.1",
        "healthzPort": 10248,
        "containerRuntimeEndpoint": f"unix://{RUNTIME_SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": "/",
        "enforceNodeAllocatable": [],
        "failSwapOn": False,
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        "resolvConf": "/dev/null",
        "clusterDomain": "cluster.local",
        "volumePluginDir": f"{KUBELET_FOLDER}/volume-plugins",
        **(more or {}),
    }
    if cfs_period_s != DEFAULT_CFS_PERIOD_S:
        content["featureGates"] = {"CustomCPUCFSQuotaPeriod": True}
        content["cpuCFSQuotaPeriod"] = f"{round(cfs_period_s * 1e6)}us"
    return json.dumps(content, indent=2)


def containerd_config(layout: NodeLayout, plugins: str, runc: str, snapshotter: str) -> str:
    """containerd's configuration (version 2, which containerd 1.x and 2.x read).

    ``restrict_oom_score_adj``: without CAP_SYS_RESOURCE every pod fails otherwise. ``disable_apparmor``: a profile
    would be loaded into the host's kernel and stay. ``plugins``: folder of the CNI plugins.
    """
    unused = ", ".join(json.dumps(f"io.containerd.snapshotter.v1.{name}") for name in _UNUSED)
    return f"""version = 2
root = "{CONTAINERD_FOLDER}"
state = "/run/containerd"
disabled_plugins = [{unused}]

[grpc]
  address = "{RUNTIME_SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
  path = "{CONTAINERD_FOLDER}/opt"

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  restrict_oom_score_adj = true
  disable_apparmor = true

[plugins."io.containerd.grpc.v1.cri".cni]
  bin_dir = {json.dumps(plugins)}
  conf_dir = {json.dumps(str(layout.conf / "cni"))}

[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
  BinaryName = {json.dumps(runc)}
  SystemdCgroup = false
"""


def pod_network(subnet: str) -> str:
    """The CNI configuration: each pod on a link of its own, routed, so that kube-proxy's rules see every packet
    without the kernel's bridge filter. The reservations lie in the node's /run and end with its pods."""
    addresses = {
        "type": "host-local",
        "dataDir": "/run/cni/addresses",
        "ranges": [[{"subnet": subnet}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    link = {"type": "ptp", "ipMasq": False, "ipam": addresses}
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return json.dumps({"cniVersion": "0.4.0", "name": "mlscale", "plugins": [link, ports]}, indent=2)


def resolver() -> str:
    """The node's /etc/resolv.conf: names of Services, as NAME.NAMESPACE, from `name_server`."""
    return "nameserver 127.0.0.1\nsearch svc.cluster.local cluster.local\noptions ndots:5\n"


def name_server(kubeconfig: Path, address: str, ready_port: int) -> str:
    """CoreDNS's configuration: the cluster's Services, for the node and for pods that ask its ``address``."""
    return f"""cluster.local {{
    bind 127.0.0.1 {address}
    errors
    ready 127.0.0.1:{ready_port}
    kubernetes {{
        kubeconfig {kubeconfig}
    }}
}}
"""
