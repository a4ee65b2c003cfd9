"""Machines that Ray's autoscaler adds in a rehearsal: nodes of Ray on this host, each started once its machine has
booted. Runs in Ray's monitor, inside the sandbox, in a cloud provider's place."""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from pathlib import Path
from typing import Any

from ray.autoscaler._private.fake_multi_node.node_provider import FakeMultiNodeProvider
from ray.autoscaler.tags import TAG_RAY_USER_NODE_TYPE

from mlscale.environments.machine_types import catalogue
from mlscale.environments.rayserve.cluster import NODE_PARAMETERS


class BootingProvider(FakeMultiNodeProvider):  # type: ignore[misc, unused-ignore]
    """Ray's own provider of nodes on one host, which boot first, and all at the same time.

    ``provider_config`` has besides: "boot", name of boot times; "folder", for sockets; "reports", a Unix datagram
    socket that is told what happens to machines.
    """

    def __init__(self, provider_config: dict[str, Any], cluster_name: str) -> None:
        super().__init__(provider_config, cluster_name)
        self._boot_times = catalogue().boot_times_of(provider_config["boot"])
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)

    def _create_node_with_resources_and_labels(
        self,
        node_config: dict[str, Any],
        tags: dict[str, str],
        count: int,
        resources: dict[str, float],
        labels: dict[str, str],
    ) -> None:
        """Request one machine; like a cloud, it returns before that has booted."""
        with self.lock:
            self._next_node_id += 1
            name = f"machine-{self._next_node_id}"
            boot = threading.Timer(self._boot_times.draw(name), self._booted, (name, dict(resources)))
            boot.daemon = True
            self._nodes[name] = {"tags": tags, "boot": boot, "node": None}
            self._report("machine_requested", name, type=tags[TAG_RAY_USER_NODE_TYPE])
        boot.start()

    def _booted(self, name: str, resources: dict[str, float]) -> None:
        with self.lock:
            machine = self._nodes.get(name)
            if machine is None:
                return
            self._report("machine_booted", name)
        try:
            node = self.start_node(name, machine["tags"][TAG_RAY_USER_NODE_TYPE], resources)
        except Exception as error:  # of any kind: the autoscaler then asks for another machine
            logging.getLogger(__name__).exception("%s does not start", name)
            with self.lock:
                if self._nodes.pop(name, None):
                    self._report("machine_failed", name, reason=str(error))
            return
        with self.lock:
            machine["node"] = node
            unwanted = name not in self._nodes
        if unwanted:  # terminated meanwhile
            self._terminate_node(machine)

    def start_node(self, name: str, machine_type: str, resources: dict[str, float]) -> Any:
        """A running node of Ray; several may start at once."""
        from ray._private.node import Node
        from ray._private.parameter import RayParams

        folder = Path(self.provider_config["folder"])
        parameters = RayParams(
            **NODE_PARAMETERS,
            node_name=name,
            num_cpus=0,
            resources=resources,
            gcs_address=self._gcs_address,
            redis_address=self._gcs_address,
            dashboard_agent_listen_port=0,
            # Nodes that start at once would choose the same names.
            raylet_socket_name=str(folder / f"{name}.raylet"),
            plasma_store_socket_name=str(folder / f"{name}.store"),
            env_vars={"RAY_CLOUD_INSTANCE_ID": name, "RAY_NODE_TYPE_NAME": machine_type},
        )
        return Node(parameters, head=False, shutdown_at_exit=False, spawn_reaper=False)

    def _terminate_node(self, node: dict[str, Any]) -> None:
        node["boot"].cancel()
        if node["node"] is not None:
            super()._terminate_node(node)

    def terminate_node(self, node_id: str) -> None:
        super().terminate_node(node_id)
        self._report("machine_removed", node_id)

    def _report(self, kind: str, name: str, **detail: Any) -> None:
        message = {"t": time.monotonic(), "kind": kind, "subject": name, "detail": detail}
        self._socket.sendto(json.dumps(message).encode(), self.provider_config["reports"])
