"""Load for an application on a Ray cluster from one of its nodes: a task there, started by Ray Client on the head."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Final
from urllib.parse import urlsplit

from mlscale.environments.rayserve import rest
from mlscale.loadgen import ray_cluster, ray_job
from mlscale.runs import MlscaleError

# Ray's default (``ray start --ray-client-server-port``).
_CLIENT_PORT: Final = 10001
_REMEDY: Final = "or send the load from here, without load_from"


def check(api: rest.ServeApi, name: str) -> None:
    """Raise MlscaleError if no task can be sent to the node ``name`` (its IP or ID)."""
    find(api, name)
    there = api.version()
    try:
        here = version("ray")
    except PackageNotFoundError:
        here = "none"
    if here != there:
        what = f"the cluster has Ray {there}, and this machine {here}: a task is sent by Ray itself"
        raise MlscaleError(what, "load_from", f"install ray[serve]=={there} here, {_REMEDY}")
    try:
        ray_cluster.check_reachable(_client(api))
    except MlscaleError as error:
        raise MlscaleError(error.what, error.where, f"open the port of Ray Client on the head, {_REMEDY}") from error


def find(api: rest.ServeApi, name: str) -> rest.Json:
    """The node. Raises MlscaleError: there is none that is alive, or the cluster does not answer."""
    alive = [node for node in api.nodes() if node["state"] == "ALIVE"]
    for node in alive:
        if name in (node["node_ip"], node["node_id"]):
            return node
    there = ", ".join(str(node["node_ip"]) for node in alive)
    raise MlscaleError(f"no node {name!r} is alive in Ray at {api.address}", "load_from", f"choose one of: {there}")


def head_ip(api: rest.ServeApi) -> str:
    """The head's address as the other nodes know it."""
    return next(str(node["node_ip"]) for node in api.nodes() if node["is_head_node"] and node["state"] == "ALIVE")


def prefix(api: rest.ServeApi, node: rest.Json, working_dir: str) -> list[str]:
    """argv to put before the load generator's command, so that it runs on ``node``."""
    return ray_job.prefix(_client(api), str(node["node_id"]), working_dir)


def _client(api: rest.ServeApi) -> str:
    return f"ray://{urlsplit(api.address).hostname}:{_CLIENT_PORT}"
