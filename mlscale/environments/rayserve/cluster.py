"""A minimal one-node Ray for one application. Runs in the agent, inside the sandbox."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from mlscale.environments.rayserve.machines import HEAD, HEAD_TYPE, MILLICORES, millicores

HOST: Final = "127.0.0.1"
# Services that are not started: none of them is needed for serving or for Serve's autoscaling.
OFF: Final = ("dashboard", "log monitor", "usage statistics")
AUTOSCALER: Final = "cluster autoscaler monitor"
# Of every node.
NODE_PARAMETERS: Final = {
    "num_gpus": 0,
    "setup_worker_path": str(Path(__file__).with_name("setup_worker.py")),
    "include_dashboard": False,
    "include_log_monitor": False,
    "object_store_memory": 80 * 2**20,
    "min_worker_port": 0,
    "max_worker_port": 0,
}

# Read by Ray's processes: that its autoscaler v2 is wanted, with nodes on one host, and which of them is the head.
_AUTOSCALED: Final = {
    "RAY_enable_autoscaler_v2": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_CLOUD_INSTANCE_ID": HEAD,
    "RAY_NODE_TYPE_NAME": HEAD_TYPE,
}


@dataclass
class Cluster:
    """The running head node; ``processes`` maps a name to a pid."""

    node: Any

    @property
    def processes(self) -> dict[str, int]:
        return {name: infos[0].process.pid for name, infos in self.node.all_processes.items() if infos}

    def ended(self) -> str | None:
        """The name of a process of the node that has ended."""
        for name, infos in self.node.all_processes.items():
            if infos and infos[0].process.poll() is not None:
                return str(name)
        return None

    def kill(self) -> None:
        self.node.kill_all_processes(check_alive=False, allow_graceful=False)


def start(folder: Path, num_cpus: int, machines: Mapping[str, Any] | None = None) -> Cluster:
    """Start GCS and raylet (as ``ray start --head --no-monitor --include-log-monitor=false`` does) and connect to them.

    Starting takes as long as importing Ray Serve, so the two run concurrently.

    Args:
        machines: {"gcs_port", "autoscaling": `mlscale.environments.rayserve.rehearsal.autoscaling`, "provider": more of
            its provider's configuration} where Ray's own autoscaler adds machines.
    """
    if machines is not None:
        os.environ |= _AUTOSCALED
    import ray
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    class HeadNode(Node):  # type: ignore[misc, unused-ignore]
        def start_api_server(self, **_: object) -> None:
            """Skipped: without a dashboard it only reports usage statistics, and delays ray.init by seconds."""

    more = {"no_monitor": True, "num_cpus": num_cpus} if machines is None else _autoscaled(folder, machines)
    parameters = RayParams(**NODE_PARAMETERS, **more, temp_dir=str(folder))
    imports = threading.Thread(target=import_module, args=("ray.serve",), name="import ray.serve")
    imports.start()
    node = HeadNode(parameters, head=True, shutdown_at_exit=False, spawn_reaper=False, ray_init_cluster=True)
    imports.join()
    ray.init(address=node.address, log_to_driver=False, configure_logging=False, namespace="serve")
    return Cluster(node)


def _autoscaled(folder: Path, machines: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters of a head node with Ray's autoscaler."""
    from ray.autoscaler._private.monitor import BASE_READONLY_CONFIG  # has every field that Ray requires

    own = machines["autoscaling"]
    whole = {**BASE_READONLY_CONFIG, **own, "provider": own["provider"] | machines["provider"]}
    file = folder.with_name("autoscaling.json")  # JSON is YAML
    file.write_text(json.dumps(whole))
    head = own["available_node_types"][HEAD_TYPE]
    return {
        "autoscaling_config": str(file),
        "gcs_server_port": machines["gcs_port"],
        "node_name": HEAD,
        "num_cpus": 0,
        "resources": head["resources"],
    }


def autoscaling_config(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`ray.serve.config.AutoscalingConfig` as data, from the fields of RayServeScaling."""
    names = (
        "min_replicas",
        "max_replicas",
        "target_ongoing_requests",
        "upscale_delay_s",
        "downscale_delay_s",
        "downscale_to_zero_delay_s",
        "look_back_period_s",
        "metrics_interval_s",
        "upscaling_factor",
        "downscaling_factor",
        "aggregation_function",
    )
    return {name: settings[name] for name in names}


def sandboxed_options(settings: Mapping[str, Any], name: str, python: str, policy_address: str) -> dict[str, Any]:
    """`deployment_options` with the interpreter ``python`` for its replicas, a wrapper that enforces their quota, and
    Ray's policy reporting its readings to ``policy_address``."""
    options = deployment_options(settings, name)
    # num_cpus is Ray's bookkeeping only; the wrapper's cgroup is what limits the replica.
    options["ray_actor_options"]["runtime_env"] = {"py_executable": python}
    if "machine_types" in settings:
        needs = {MILLICORES: millicores(settings["cpu_cores"])}
        options["ray_actor_options"] |= {"num_cpus": 0, "resources": needs}
    if "autoscaling_config" in options:
        options["autoscaling_config"]["policy"] = {
            "policy_function": "mlscale.environments.rayserve.policy:ReportingPolicy",
            "policy_kwargs": {"address": policy_address},
        }
    return options


def deployment_options(settings: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Arguments of ``Deployment.options``."""
    options: dict[str, Any] = {
        "name": name,
        "max_ongoing_requests": settings["max_ongoing_requests"],
        "max_queued_requests": settings["max_queued_requests"],
        "graceful_shutdown_wait_loop_s": settings["graceful_shutdown_wait_loop_s"],
        "graceful_shutdown_timeout_s": settings["graceful_shutdown_timeout_s"],
        "health_check_period_s": settings["health_check_period_s"],
        "health_check_timeout_s": settings["health_check_timeout_s"],
        "request_router_config": {
            "initial_backoff_s": settings["initial_backoff_s"],
            "backoff_multiplier": settings["backoff_multiplier"],
            "max_backoff_s": settings["max_backoff_s"],
        },
        "ray_actor_options": {"num_cpus": settings["cpu_cores"]},
    }
    if settings["min_replicas"] == settings["max_replicas"]:
        return options | {"num_replicas": settings["max_replicas"]}
    return options | {"autoscaling_config": autoscaling_config(settings)}


def facts(details: Mapping[str, Any], *, autoscaled: bool) -> dict[str, Any]:
    """What the running Serve reports: every setting of each deployment (without interpreters, whose paths are this
    run's own) and the constants that affect decisions.

    ``details``: component -> the controller's DeploymentDetails.

    Returns:
        {"deployment": settings} for a single component, else {"deployments": {component: settings}}; in both cases
        with "constants" and "services_off".
    """
    from ray.serve._private import constants

    configs = {name: _config(deployment) for name, deployment in details.items()}
    names = (
        "CONTROL_LOOP_INTERVAL_S",
        "RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR",
        "RAY_SERVE_COLLECT_AUTOSCALING_METRICS_ON_HANDLE",
        "RAY_SERVE_MIN_HANDLE_METRICS_TIMEOUT_S",
        "RAY_SERVE_QUEUE_LENGTH_CACHE_TIMEOUT_S",
        "RAY_SERVE_QUEUE_LENGTH_RESPONSE_DEADLINE_S",
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD",
        "RAY_SERVE_RUN_ROUTER_IN_SEPARATE_LOOP",
        "RAY_SERVE_METRICS_EXPORT_INTERVAL_MS",
        "RAY_SERVE_HTTP_KEEP_ALIVE_TIMEOUT_S",
        "RAY_SERVE_PROXY_USE_GRPC",
        "RAY_SERVE_USE_GRPC_BY_DEFAULT",
        "PROXY_HEALTH_CHECK_PERIOD_S",
    )
    values = {name: getattr(constants, name) for name in names if hasattr(constants, name)}
    deployments = {"deployments": configs} if len(configs) > 1 else {"deployment": next(iter(configs.values()))}
    off = OFF if autoscaled else (*OFF, AUTOSCALER)
    return {**deployments, "constants": values, "services_off": list(off)}


def _config(details: Any) -> Any:
    return details.deployment_config.model_dump(
        mode="json", exclude={"autoscaling_config": {"policy": True}, "ray_actor_options": {"runtime_env": True}}
    )
