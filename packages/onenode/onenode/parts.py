"""A node's parts as data: arguments, start order, health probe. Pure.

To add a part: a `Part` in `parts_of`, a certificate in `onenode.certificates.leaves` if it uses the API (its kubeconfig
is then conf/NAME.kubeconfig), and the objects it needs as a file in build/manifests.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from onenode.layout import (
    KUBELET_FOLDER,
    POD_CIDR,
    RUNTIME_SOCKET,
    SERVICE_CIDR,
    Layout,
    MachineLayout,
    NodeLayout,
    import_folders,
)
from onenode.settings import Settings

Stage = Literal["first", "api", "node"]
"""When a part starts: at once, once the API answers, once the node is Ready."""

# Parts with an API user of their own: each has conf/NAME.kubeconfig.
KUBECONFIG_USERS: Final = (
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "metrics-server",
    "karpenter",
    "keda",
)
# The machines' daemon accepts connections here, for its health probe.
MACHINES_SOCKET: Final = "/run/mlscale-machines.sock"
# Files in `NodeLayout.conf`, for Karpenter and for the machines' daemon.
MACHINE_TYPES: Final = "machine-types.json"
CATALOGUE: Final = "catalogue.json"
PROGRAMS: Final = "programs.json"

ETCD_PORT: Final = 2379
API_PORT: Final = 6443
METRICS_PORT: Final = 4443
# Karpenter's metrics and health.
KARPENTER_PORTS: Final = (4445, 4446)
# The health and metrics of KEDA's operator, its channel to KEDA's metrics server, and that one's own metrics.
KEDA_PORTS: Final = (4447, 4448, 9666, 4449)
# KEDA's metrics server, for the API server.
EXTERNAL_METRICS_PORT: Final = 4450
# KEDA's HTTP add-on: the interceptor's proxy and admin server, and the scaler that the operator asks.
HTTP_ADD_ON_PORTS: Final = (4451, 4452, 4453)
# CoreDNS's health, and its configuration in `NodeLayout.conf`.
DNS_READY_PORT: Final = 4454
NAME_SERVER: Final = "Corefile"
_ZAP: Final = ("--zap-encoder=console", "--zap-log-level=info")


@dataclass(frozen=True, slots=True)
class Probe:
    """A health check from inside the node's network: HTTP 200, or a socket that accepts connections.

    ``admin``: use the administrator's client certificate. Without it the server's certificate is not verified: the
    address is the node's loopback.
    """

    kind: Literal["http", "https", "unix", "tcp"]
    address: str
    port: int = 0
    path: str = "/healthz"
    admin: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One program of the node."""

    name: str
    argv: tuple[str, ...]
    probe: Probe
    stage: Stage
    environment: Mapping[str, str] = field(default_factory=dict)

    def digest(self, files: Mapping[str, str]) -> str:
        """Digest of everything that it is started with; ``files``: its configuration, name -> content. A part whose
        digest has changed is restarted."""
        content = [self.name, self.argv, sorted(self.environment.items()), sorted(files.items())]
        return hashlib.sha256(json.dumps(content).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Programs:
    """Locations of the programs. ``paths``: by name, others are looked up in PATH; ``environment``: variables that find
    their libraries and each other."""

    paths: Mapping[str, Path]
    plugins: Path
    environment: Mapping[str, str]

    def __getitem__(self, name: str) -> str:
        return str(self.paths.get(name, name))

    def to_json(self) -> str:
        paths = {name: str(path) for name, path in self.paths.items()}
        return json.dumps({"paths": paths, "plugins": str(self.plugins), "environment": dict(self.environment)})

    @classmethod
    def from_json(cls, text: str) -> Programs:
        """The inverse of `to_json`."""
        data = json.loads(text)
        paths = {name: Path(path) for name, path in data["paths"].items()}
        return cls(paths, Path(data["plugins"]), data["environment"])


def parts_of(layout: Layout, settings: Settings, programs: Programs) -> tuple[Part, ...]:
    """All parts of the cluster's own node, in the order in which they start."""
    node = settings.node_address
    parts = [
        _etcd(layout, programs),
        _containerd(layout, programs),
        _api_server(layout, settings, programs),
        _controller_manager(layout, settings, programs),
        _scheduler(layout, programs),
        _kubelet(layout, node, programs),
        _proxy(layout, layout.conf / "kube-proxy.kubeconfig", node, programs),
        _metrics_server(layout, settings, programs),
        _keda_operator(layout, programs),
        _keda_metrics(layout, settings, programs),
    ]
    if settings.machines:
        parts += [_karpenter(layout, programs), _machines(layout, settings)]
    if settings.zero:
        parts += [_coredns(layout, programs), _interceptor(layout, programs), _http_scaler(layout, programs)]
    return _with_environment(parts, programs)


def machine_parts(
    layout: MachineLayout, proxy: Path, labels: Mapping[str, str], programs: Programs
) -> tuple[Part, ...]:
    """All parts of a machine, in the order in which they start. ``proxy``: kube-proxy's kubeconfig; ``labels``: of its
    node, set by its kubelet."""
    _, address = layout.addresses
    parts = [
        _containerd(layout, programs),
        _kubelet(layout, address, programs, labels),
        _proxy(layout, proxy, address, programs),
    ]
    return _with_environment(parts, programs)


def _with_environment(parts: Iterable[Part], programs: Programs) -> tuple[Part, ...]:
    """The parts, with the programs' environment added to each."""
    environment = dict(programs.environment)
    return tuple(
        Part(part.name, part.argv, part.probe, part.stage, environment | dict(part.environment)) for part in parts
    )


def _etcd(layout: Layout, programs: Programs) -> Part:
    pki, client = layout.pki, f"https://127.0.0.1:{ETCD_PORT}"
    peer = "https://127.0.0.1:2380"
    argv = (
        programs["etcd"],
        "--name=mlscale",
        f"--data-dir={layout.data / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=mlscale={peer}",
        "--listen-metrics-urls=http://127.0.0.1:2381",
        "--client-cert-auth",
        f"--trusted-ca-file={pki / 'etcd-ca.crt'}",
        f"--cert-file={pki / 'etcd.crt'}",
        f"--key-file={pki / 'etcd.key'}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={pki / 'etcd-ca.crt'}",
        f"--peer-cert-file={pki / 'etcd.crt'}",
        f"--peer-key-file={pki / 'etcd.key'}",
    )
    return Part("etcd", argv, Probe("http", "127.0.0.1", 2381, "/health"), "first")


def _containerd(layout: NodeLayout, programs: Programs) -> Part:
    argv = (programs["containerd"], "--config", str(layout.conf / "containerd.toml"))
    return Part("containerd", argv, Probe("unix", RUNTIME_SOCKET), "first")


def _api_server(layout: Layout, settings: Settings, programs: Programs) -> Part:
    pki, node = layout.pki, settings.node_address
    argv = (
        programs["kube-apiserver"],
        f"--etcd-servers=https://127.0.0.1:{ETCD_PORT}",
        f"--etcd-cafile={pki / 'etcd-ca.crt'}",
        f"--etcd-certfile={pki / 'apiserver-etcd.crt'}",
        f"--etcd-keyfile={pki / 'apiserver-etcd.key'}",
        f"--bind-address={node}",
        f"--advertise-address={node}",
        f"--secure-port={API_PORT}",
        f"--service-cluster-ip-range={SERVICE_CIDR}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        "--anonymous-auth=false",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki / 'service-accounts.pub'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'apiserver-kubelet.crt'}",
        f"--kubelet-client-key={pki / 'apiserver-kubelet.key'}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={pki / 'front-proxy-ca.crt'}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pki / 'front-proxy.crt'}",
        f"--proxy-client-key-file={pki / 'front-proxy.key'}",
        "--enable-aggregator-routing=true",
        "--profiling=false",
    )
    return Part("kube-apiserver", argv, Probe("https", node, API_PORT, "/readyz", admin=True), "first")


def _controller_manager(layout: Layout, settings: Settings, programs: Programs) -> Part:
    pki = layout.pki
    argv = (
        programs["kube-controller-manager"],
        *_kubeconfigs(layout, "kube-controller-manager"),
        f"--service-account-private-key-file={pki / 'service-accounts.key'}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        f"--flex-volume-plugin-dir={KUBELET_FOLDER}/volume-plugins",
        f"--horizontal-pod-autoscaler-sync-period={settings.hpa_sync_s:g}s",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )
    return Part("kube-controller-manager", argv, Probe("https", "127.0.0.1", 10257), "api")


def _scheduler(layout: Layout, programs: Programs) -> Part:
    argv = (
        programs["kube-scheduler"],
        *_kubeconfigs(layout, "kube-scheduler"),
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        "--profiling=false",
    )
    return Part("kube-scheduler", argv, Probe("https", "127.0.0.1", 10259), "api")


def _kubelet(layout: NodeLayout, address: str, programs: Programs, labels: Mapping[str, str] | None = None) -> Part:
    argv = (
        programs["kubelet"],
        f"--kubeconfig={layout.conf / 'kubelet.kubeconfig'}",
        f"--config={layout.conf / 'kubelet.json'}",
        f"--hostname-override={layout.name}",
        f"--node-ip={address}",
        f"--root-dir={KUBELET_FOLDER}",
        f"--cert-dir={KUBELET_FOLDER}/pki",
        *((f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}",) if labels else ()),
    )
    return Part("kubelet", argv, Probe("http", "127.0.0.1", 10248), "api")


def _proxy(layout: NodeLayout, kubeconfig: Path, address: str, programs: Programs) -> Part:
    argv = (
        programs["kube-proxy"],
        f"--kubeconfig={kubeconfig}",
        "--proxy-mode=iptables",
        f"--cluster-cidr={POD_CIDR}",
        f"--hostname-override={layout.name}",
        f"--nodeport-addresses={address}/32",
        "--healthz-bind-address=127.0.0.1:10256",
        "--metrics-bind-address=127.0.0.1:10249",
        "--conntrack-max-per-core=0",  # host-wide, so they are left alone
        "--conntrack-tcp-timeout-established=0s",
        "--conntrack-tcp-timeout-close-wait=0s",
    )
    return Part("kube-proxy", argv, Probe("http", "127.0.0.1", 10256), "api")


def _metrics_server(layout: Layout, settings: Settings, programs: Programs) -> Part:
    pki, node = layout.pki, settings.node_address
    argv = (
        programs["metrics-server"],
        *_kubeconfigs(layout, "metrics-server"),
        f"--bind-address={node}",
        f"--secure-port={METRICS_PORT}",
        f"--tls-cert-file={pki / 'metrics-server-server.crt'}",
        f"--tls-private-key-file={pki / 'metrics-server-server.key'}",
        f"--kubelet-certificate-authority={pki / 'ca.crt'}",
        "--kubelet-preferred-address-types=InternalIP",
        "--metric-resolution=15s",
    )
    return Part("metrics-server", argv, Probe("https", node, METRICS_PORT, "/livez", admin=True), "node")


def _keda_operator(layout: Layout, programs: Programs) -> Part:
    """KEDA's operator: makes an HPA of each ScaledObject, and reads the metrics that it scales on."""
    health, metrics, channel, _ = KEDA_PORTS
    argv = (
        programs["keda-operator"],
        f"--cert-dir={layout.pki / 'keda'}",
        "--enable-webhook-patching=false",
        "--enable-apiservice-patching=false",
        f"--metrics-service-bind-address=127.0.0.1:{channel}",
        f"--metrics-bind-address=127.0.0.1:{metrics}",
        f"--health-probe-bind-address=127.0.0.1:{health}",
        *_ZAP,
    )
    return Part("keda-operator", argv, Probe("http", "127.0.0.1", health), "node", _keda_environment(layout))


def _keda_metrics(layout: Layout, settings: Settings, programs: Programs) -> Part:
    """KEDA's metrics server: external.metrics.k8s.io for the HPAs; it asks the operator."""
    tls, node = layout.pki / "keda", settings.node_address
    file = layout.conf / "keda.kubeconfig"
    argv = (
        programs["keda-adapter"],
        f"--lister-kubeconfig={file}",
        f"--authentication-kubeconfig={file}",
        f"--authorization-kubeconfig={file}",
        f"--bind-address={node}",
        f"--secure-port={EXTERNAL_METRICS_PORT}",
        f"--port={KEDA_PORTS[3]}",
        f"--metrics-service-address=127.0.0.1:{KEDA_PORTS[2]}",
        f"--cert-dir={tls}",
        f"--tls-cert-file={tls / 'tls.crt'}",
        f"--tls-private-key-file={tls / 'tls.key'}",
        "--zap-log-level=error",
    )
    probe = Probe("https", node, EXTERNAL_METRICS_PORT, "/readyz", admin=True)
    return Part("keda-metrics-apiserver", argv, probe, "node", _keda_environment(layout))


def _keda_environment(layout: Layout) -> dict[str, str]:
    file = str(layout.conf / "keda.kubeconfig")
    return {"KUBECONFIG": file, "WATCH_NAMESPACE": "", "POD_NAMESPACE": "keda", "KEDA_CLUSTER_OBJECT_NAMESPACE": "keda"}


def _coredns(layout: Layout, programs: Programs) -> Part:
    """Resolves the Services that the interceptor sends requests to."""
    argv = (programs["coredns"], f"-conf={layout.conf / NAME_SERVER}")
    return Part("coredns", argv, Probe("http", "127.0.0.1", DNS_READY_PORT, "/ready"), "node")


def _interceptor(layout: Layout, programs: Programs) -> Part:
    """KEDA's HTTP add-on: counts requests, and holds them while nothing runs."""
    proxy, admin, _ = HTTP_ADD_ON_PORTS
    environment = _keda_environment(layout) | {
        "KEDA_HTTP_PROXY_PORT": str(proxy),
        "KEDA_HTTP_ADMIN_PORT": str(admin),
        "OTEL_PROM_EXPORTER_ENABLED": "false",
    }
    probe = Probe("http", "127.0.0.1", admin, "/readyz")
    return Part("http-interceptor", (programs["http-add-on-interceptor"], *_ZAP), probe, "node", environment)


def _http_scaler(layout: Layout, programs: Programs) -> Part:
    """KEDA's HTTP add-on: tells KEDA's operator how many requests the interceptor has. It serves gRPC alone."""
    _, admin, port = HTTP_ADD_ON_PORTS
    target = "KEDA_HTTP_SCALER_TARGET_ADMIN"
    environment = _keda_environment(layout) | {
        f"{target}_NAMESPACE": "keda",
        f"{target}_DEPLOYMENT": "keda-add-ons-http-interceptor",
        f"{target}_SERVICE": "keda-add-ons-http-interceptor-admin",
        f"{target}_PORT": str(admin),
        "KEDA_HTTP_SCALER_PORT": str(port),
        "OTEL_PROM_EXPORTER_ENABLED": "false",
    }
    probe = Probe("tcp", "127.0.0.1", port)
    return Part("http-scaler", (programs["http-add-on-scaler"], *_ZAP), probe, "node", environment)


def _karpenter(layout: Layout, programs: Programs) -> Part:
    """Karpenter with its kwok provider, which only pretends to create machines."""
    metrics, health = KARPENTER_PORTS
    argv = (
        programs["kwok"],
        "--karpenter-service=karpenter",
        "--disable-leader-election=true",
        f"--instance-types-file-path={layout.conf / MACHINE_TYPES}",
        f"--metrics-port={metrics}",
        f"--health-probe-port={health}",
    )
    environment = {"SYSTEM_NAMESPACE": "kube-system", "KUBECONFIG": str(layout.conf / "karpenter.kubeconfig")}
    return Part("karpenter", argv, Probe("http", "127.0.0.1", health), "node", environment)


def _machines(layout: Layout, settings: Settings) -> Part:
    """The daemon that creates the machines (`onenode.machines.daemon`), in this interpreter."""
    argv = (
        sys.executable,
        "-m",
        "onenode.machines.daemon",
        f"--root={layout.root}",
        f"--api-server=https://{settings.node_address}:{API_PORT}",
        f"--programs={layout.conf / PROGRAMS}",
        f"--catalogue={layout.conf / CATALOGUE}",
    )
    return Part("machines", argv, Probe("unix", MACHINES_SOCKET), "node", _own_package())


def _own_package() -> dict[str, str]:
    """Environment to import this package and mlscale."""
    return {"PYTHONPATH": os.pathsep.join(import_folders()), "PYTHONDONTWRITEBYTECODE": "1"}


def _kubeconfigs(layout: Layout, user: str) -> tuple[str, ...]:
    """Flags for an API client that also authenticates and authorises its own clients."""
    file = layout.conf / f"{user}.kubeconfig"
    return f"--kubeconfig={file}", f"--authentication-kubeconfig={file}", f"--authorization-kubeconfig={file}"
