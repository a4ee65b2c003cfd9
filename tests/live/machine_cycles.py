"""Cycles of machines that join for pending pods and leave after them; and what they could leave behind."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from mlscale.environments.kubernetes.client import Api
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.node_pool import NODE_CLASS, POOL, claims, node_pool, remove
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.machine_types import catalogue
from mlscale.host.interpreter import interpreter_mounts
from onenode.layout import THIN_IMAGE, default_layout
from onenode.node import Node

PATIENCE_S = 120.0
SLEEPER = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); time.sleep(3600)"


def machine_leftovers(api: Api) -> list[str]:
    """Traces of machines: at the API server, in the node's folder, cgroups and network. Waits half a minute for them to
    go."""
    deadline = time.monotonic() + 30
    while (left := _leftovers(api)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _leftovers(api: Api) -> list[str]:
    host = Node(default_layout())
    left = [f"{kind} {item['metadata']['name']}" for kind in ("NodePool", "NodeClaim") for item in _all(api, kind)]
    left += [f"Node {node['metadata']['name']}" for node in _all(api, "Node") if POOL in node["metadata"]["labels"]]
    machines = default_layout().machines
    left += [str(path) for path in machines.iterdir()] if machines.exists() else []
    left += [str(path) for folder in host.groups.folders for path in folder.glob("machine-*")]
    for what in ("link", "route"):
        left += [line for line in host.run(["ip", what]).splitlines() if "machine" in line]
    return left


@contextmanager
def machines_with_pods(api: Api, name: str, number: int) -> Iterator[None]:
    """``number`` machines for as many pods, ready during the block; then pods and pool are removed."""
    scaling = MachineScaling(machine_types=("rehearsal.small",), max_machines=max(1, number), boot="1s")
    memory_mib = {name: machine.memory_mib for name, machine in catalogue().types.items()}
    api.apply(path_of("NodePool", name), node_pool(name, scaling, memory_mib, NODE_CLASS, scaling.boot))
    pods = [f"{name}-{count}" for count in range(number)]
    try:
        for pod in pods:
            api.apply(path_of("Pod", pod, "default"), _pod(pod, name))
        _until(lambda: all(_is_ready(api, pod) for pod in pods), f"{number} pods are ready")
        nodes = {str(api.get(path_of("Pod", pod, "default"))["spec"]["nodeName"]) for pod in pods}
        assert len(nodes) == number, "each has a machine of its own"
        yield
    finally:
        for pod in pods:
            api.delete(path_of("Pod", pod, "default"))
        remove(api, name)


def cycle(api: Api, name: str, number: int) -> None:
    """Machines join for pods; the pods are deleted, and Karpenter removes the machines by itself."""
    with machines_with_pods(api, name, number):
        for count in range(number):
            api.delete(path_of("Pod", f"{name}-{count}", "default"))
        _until(lambda: not api.get(*claims(name))["items"], "Karpenter removes the machines")


def _all(api: Api, kind: str) -> list[dict[str, Any]]:
    return list(api.get(path_of(kind))["items"])


def _pod(name: str, pool: str) -> dict[str, Any]:
    folders = {f"v{count}": str(path) for count, path in enumerate(interpreter_mounts())}
    volumes = [{"name": volume, "hostPath": {"path": path}} for volume, path in folders.items()]
    mounts = [{"name": volume, "mountPath": path, "readOnly": True} for volume, path in folders.items()]
    command = [sys.executable, "-c", SLEEPER]
    container = {"name": "sleeps", "image": THIN_IMAGE, "imagePullPolicy": "Never", "command": command}
    container |= {"resources": {"requests": {"cpu": "250m", "memory": "32Mi"}}, "volumeMounts": mounts}
    spec = {"nodeSelector": {POOL: pool}, "terminationGracePeriodSeconds": 1, "containers": [container]}
    spec |= {"volumes": volumes, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _is_ready(api: Api, pod: str) -> bool:
    status = api.get(path_of("Pod", pod, "default"))["status"]
    return any(entry["type"] == "Ready" and entry["status"] == "True" for entry in status.get("conditions") or ())


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.2)
