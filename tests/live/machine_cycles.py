"""Machines that come for pods without room and go after them, over and over; and what they could leave."""

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
SLEEPS = "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit()); time.sleep(3600)"


def left_of_machines(api: Api) -> list[str]:
    """What is there of machines: at the API server, in the node's folder, in its groups, in its network. Waits half a
    minute for it to go."""
    deadline = time.monotonic() + 30
    while (left := _left(api)) and time.monotonic() < deadline:
        time.sleep(0.5)
    return left


def _left(api: Api) -> list[str]:
    node = Node(default_layout())
    left = [f"{kind} {each['metadata']['name']}" for kind in ("NodePool", "NodeClaim") for each in _all(api, kind)]
    left += [f"Node {each['metadata']['name']}" for each in _all(api, "Node") if POOL in each["metadata"]["labels"]]
    machines = default_layout().machines
    left += [str(path) for path in machines.iterdir()] if machines.exists() else []
    left += [str(path) for folder in node.groups.folders for path in folder.glob("machine-*")]
    for what in ("link", "route"):
        left += [line for line in node.run(["ip", what]).splitlines() if "machine" in line]
    return left


@contextmanager
def held(api: Api, name: str, number: int) -> Iterator[None]:
    """``number`` machines for as many pods, ready for the length of the block; then the pods go, and their pool."""
    scaling = MachineScaling(machine_types=("rehearsal.small",), max_machines=max(1, number), boot="1s")
    memory_mib = {kind: each.memory_mib for kind, each in catalogue().types.items()}
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
    """Machines come for pods; the pods go, and Karpenter takes the machines away by its own decision."""
    with held(api, name, number):
        for count in range(number):
            api.delete(path_of("Pod", f"{name}-{count}", "default"))
        _until(lambda: not api.get(*claims(name))["items"], "Karpenter takes the machines away")


def _all(api: Api, kind: str) -> list[dict[str, Any]]:
    return list(api.get(path_of(kind))["items"])


def _pod(name: str, pool: str) -> dict[str, Any]:
    folders = {f"v{count}": str(path) for count, path in enumerate(interpreter_mounts())}
    volumes = [{"name": volume, "hostPath": {"path": path}} for volume, path in folders.items()]
    mounts = [{"name": volume, "mountPath": path, "readOnly": True} for volume, path in folders.items()]
    command = [sys.executable, "-c", SLEEPS]
    container = {"name": "sleeps", "image": THIN_IMAGE, "imagePullPolicy": "Never", "command": command}
    container |= {"resources": {"requests": {"cpu": "250m", "memory": "32Mi"}}, "volumeMounts": mounts}
    spec = {"nodeSelector": {POOL: pool}, "terminationGracePeriodSeconds": 1, "containers": [container]}
    spec |= {"volumes": volumes, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": spec}


def _is_ready(api: Api, pod: str) -> bool:
    status = api.get(path_of("Pod", pod, "default"))["status"]
    return any(each["type"] == "Ready" and each["status"] == "True" for each in status.get("conditions") or ())


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.2)
