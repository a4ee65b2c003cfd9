"""A test's own one-node cluster, beside one that may be running."""

from __future__ import annotations

import http.client
import json
import os
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlscale.host.interpreter import interpreter_mounts
from mlscale.runs import MlscaleError
from onenode.layout import THIN_IMAGE, Layout
from onenode.node import Node
from onenode.preflight import check_host
from onenode.settings import Settings

REQUESTED = os.environ.get("CI") == "true" or os.environ.get("CLUSTER") == "1"
PATIENCE_S = 120.0
BUILD_AT_MOST_S = 2400.0  # with an empty cache, `up` compiles Kubernetes beside the other tests
PORT = 30081
SERVER = """
import http.server, numpy
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = ("numpy " + numpy.__version__).encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()
"""


def need_cluster_host() -> None:
    """Skip the test unless a cluster was requested and can be created."""
    if not REQUESTED:
        pytest.skip("creates a cluster of its own: CLUSTER=1 make test (Linux, root)")
    try:
        check_host()
    except MlscaleError as error:
        pytest.skip(f"no cluster can be made here: {error}")


@dataclass
class Cluster:
    """A test's own cluster, driven through the command line."""

    state: Path

    @property
    def layout(self) -> Layout:
        return Layout(self.state / "mlscale/cluster/default")

    @property
    def node(self) -> Node:
        return Node(self.layout)

    @property
    def settings(self) -> Settings:
        return Settings.from_json(self.layout.settings.read_text())

    def start_command(self, *words: str) -> subprocess.Popen[str]:
        argv = [sys.executable, "-m", "mlscale.commands.cli", *words]
        environment = {**os.environ, "XDG_STATE_HOME": str(self.state)}
        return subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def command(self, *words: str, code: int = 0) -> str:
        process = self.start_command(*words)
        try:
            out, errors = process.communicate(timeout=BUILD_AT_MOST_S)
        finally:
            process.terminate()  # after a timeout, it must not go on creating a cluster
        last = "\n".join((out + errors).splitlines()[-10:])
        assert process.returncode == code, f"{words}: exit code {process.returncode}\n{last}"
        return out

    def status(self, code: int = 0) -> dict[str, Any]:
        return dict(json.loads(self.command("cluster", "status", "--json", code=code)))

    def request(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """As the administrator, with the kubeconfig's certificates."""
        context = ssl.create_default_context(cafile=str(self.layout.pki / "ca.crt"))
        context.load_cert_chain(self.layout.pki / "admin.crt", self.layout.pki / "admin.key")
        kind = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        request = urllib.request.Request(
            f"https://{self.settings.node_address}:6443/{path}",
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": kind},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=10, context=context) as response:
            return dict(json.load(response))

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        last: object = "condition false"
        while time.monotonic() < deadline_s:
            try:
                if holds():
                    return
            except (OSError, http.client.HTTPException) as error:
                last = error
            time.sleep(0.1)
        pytest.fail(f"{what}: not within {PATIENCE_S:g} s ({last})")

    def answer(self) -> str:
        with urllib.request.urlopen(f"http://{self.settings.node_address}:{PORT}/", timeout=3) as response:
            return str(response.read().decode())

    def ready_pods(self) -> list[dict[str, Any]]:
        pods = self.request("GET", "api/v1/namespaces/default/pods")["items"]
        return [
            pod
            for pod in pods
            if any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions(pod))
        ]

    def identity(self) -> str:
        """Of etcd's data, read from etcd."""
        return str(self.request("GET", "api/v1/namespaces/kube-system")["metadata"]["uid"])

    def deploy(self) -> None:
        """A server run by this interpreter, in the thin image, behind a NodePort."""
        checkout = Path(__file__).resolve().parents[2]
        mounts = interpreter_mounts([checkout])
        volumes = [{"name": f"v{i}", "hostPath": {"path": str(path)}} for i, path in enumerate(mounts)]
        volume_mounts = [{"name": f"v{i}", "mountPath": str(path), "readOnly": True} for i, path in enumerate(mounts)]
        container = {
            "name": "server",
            "image": THIN_IMAGE,
            "imagePullPolicy": "Never",
            "command": [sys.executable, "-c", SERVER],
            "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "300m"}},
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
            "volumeMounts": volume_mounts,
        }
        labels = {"app": "server"}
        pod = {
            "containers": [container],
            "volumes": volumes,
            "automountServiceAccountToken": False,
            "dnsPolicy": "Default",
        }
        pod |= {"terminationGracePeriodSeconds": 0}
        spec = {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        }
        ports = [{"port": 80, "targetPort": 8080, "nodePort": PORT}]
        service = {"type": "NodePort", "selector": labels, "ports": ports}
        for version, kind, folder, content in (
            ("apps/v1", "Deployment", "apis/apps/v1/namespaces/default/deployments", spec),
            ("v1", "Service", "api/v1/namespaces/default/services", service),
        ):
            body = {"apiVersion": version, "kind": kind, "metadata": {"name": "server"}, "spec": content}
            self.request("PATCH", f"{folder}/server?fieldManager=test&force=true", body)


def conditions(resource: Mapping[str, Any]) -> list[dict[str, Any]]:
    return list(resource["status"].get("conditions", []))


def kill_up(cluster: Cluster, delay_s: float) -> None:
    process = cluster.start_command("cluster", "up")
    try:
        process.wait(delay_s)
    except subprocess.TimeoutExpired:
        process.kill()
    process.communicate()
