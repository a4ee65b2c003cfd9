"""Machines that Ray's autoscaler adds in a rehearsal: raylets on this host, each started once its machine has booted.

Runs in Ray's monitor, inside the sandbox, in a cloud provider's place, as Ray's own FakeMultiNodeProvider does, whose
nodes start at once. All is real but the time that a virtual machine takes to boot.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray.autoscaler.node_provider import NodeProvider
from ray.autoscaler.tags import NODE_KIND_HEAD, TAG_RAY_NODE_KIND, TAG_RAY_USER_NODE_TYPE

from mlscale.environments.machine_types import catalogue
from mlscale.environments.rayserve.cluster import NODE_PARAMETERS
from mlscale.environments.rayserve.machines import HEAD


@dataclass
class _Machine:
    tags: Mapping[str, str]
    boot: threading.Timer | None = None
    node: Any = None


class BootingProvider(NodeProvider):  # type: ignore[misc, unused-ignore]
    """``provider_config``: {"boot": name of boot times, "gcs_address", "folder": for sockets, "reports": a Unix
    datagram socket, which is told what happens to machines}."""

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._boot_times = catalogue().boot_times_of(provider_config["boot"])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._lock = threading.Lock()
        head = {TAG_RAY_NODE_KIND: NODE_KIND_HEAD, TAG_RAY_USER_NODE_TYPE: HEAD}
        self._machines = {HEAD: _Machine(head, node=HEAD)}
        self._requested = 0

    def non_terminated_nodes(self, tag_filters: dict[str, str]) -> list[str]:
        with self._lock:
            machines = self._machines.items()
            return [name for name, machine in machines if tag_filters.items() <= machine.tags.items()]

    def is_running(self, node_id: str) -> bool:
        with self._lock:
            return node_id in self._machines and self._machines[node_id].node is not None

    def is_terminated(self, node_id: str) -> bool:
        with self._lock:
            return node_id not in self._machines

    def node_tags(self, node_id: str) -> Mapping[str, str]:
        with self._lock:
            return self._machines[node_id].tags

    def create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        """Request ``count`` machines; like a cloud, it returns before they have booted."""
        for _ in range(count):
            with self._lock:
                self._requested += 1
                name = f"machine-{self._requested}"
                boot_s = self._boot_times.draw(name)
                boot = threading.Timer(boot_s, self._booted, (name, dict(resources)))
                boot.daemon = True
                self._machines[name] = _Machine(tags, boot)
                self._report("machine_requested", name, type=tags[TAG_RAY_USER_NODE_TYPE])
            boot.start()

    def terminate_node(self, node_id: str) -> None:
        with self._lock:
            machine = self._machines.pop(node_id)
        if machine.boot is not None:
            machine.boot.cancel()
        if machine.node is not None:
            machine.node.kill_all_processes(check_alive=False, allow_graceful=True)
        self._report("machine_removed", node_id)

    def _booted(self, name: str, resources: dict[str, float]) -> None:
        with self._lock:
            machine = self._machines.get(name)
            if machine is None:
                return
            self._report("machine_booted", name)
        try:
            node = self.start_raylet(name, machine.tags[TAG_RAY_USER_NODE_TYPE], resources)
        except Exception as error:  # of any kind: the autoscaler then asks for another machine
            logging.getLogger(__name__).exception("%s does not start", name)
            with self._lock:
                if self._machines.pop(name, None):
                    self._report("machine_failed", name, reason=str(error))
            return
        with self._lock:
            machine.node = node
            unwanted = name not in self._machines
        if unwanted:  # terminated meanwhile
            node.kill_all_processes(check_alive=False, allow_graceful=False)

    def start_raylet(self, name: str, machine_type: str, resources: dict[str, float]) -> Any:
        """A running node of Ray; several may start at once."""
        from ray._private.node import Node
        from ray._private.parameter import RayParams

        address, folder = self.provider_config["gcs_address"], Path(self.provider_config["folder"])
        parameters = RayParams(
            **NODE_PARAMETERS,
            node_name=name,
            num_cpus=0,
            resources=resources,
            gcs_address=address,
            redis_address=address,
            dashboard_agent_listen_port=0,
            # Nodes that start at once would choose the same names.
            raylet_socket_name=str(folder / f"{name}.raylet"),
            plasma_store_socket_name=str(folder / f"{name}.store"),
            env_vars={"RAY_CLOUD_INSTANCE_ID": name, "RAY_NODE_TYPE_NAME": machine_type},
        )
        return Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)

    def _report(self, kind: str, name: str, **detail: Any) -> None:
        message = {"t": time.monotonic(), "kind": kind, "subject": name, "detail": detail}
        self._socket.sendto(json.dumps(message).encode(), self.provider_config["reports"])
