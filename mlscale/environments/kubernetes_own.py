"""Our own one-node cluster (``make cluster``), where more can be seen and nothing needs a registry.

It says of itself what it is, in the ConfigMap kube-system/mlscale. Its node runs on this host: pods take the host's
interpreter and this package by read-only mounts, their cgroups can be read, and so can the parts' arguments.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlscale.cluster.machines.types import Catalogue
from mlscale.environments.kubernetes_client import Api, Json, Refused
from mlscale.environments.kubernetes_manifests import Packaging
from mlscale.environments.kubernetes_paths import path_of
from mlscale.environments.kubernetes_usage import NodeUsage
from mlscale.host.processes import boot_id, process_start
from mlscale.runs import MlscaleError

CONFIG_MAP: Final = "mlscale"
SERVER: Final = ("-m", "mlscale.application.container")


@dataclass(frozen=True)
class OwnNode:
    """What the ConfigMap says (`mlscale.cluster.manifests.identity`). ``pid`` and ``start`` name the node's first
    process in the boot ``boot``, as its host sees it."""

    image: str
    pid: int
    start: str
    boot: str
    node_address: str
    host_address: str

    @property
    def here(self) -> bool:
        """Whether that process runs, on this host."""
        return self.boot == boot_id() and process_start(self.pid) == self.start


def own_kubeconfig() -> Path:
    """Where ``make cluster`` writes its kubeconfig."""
    from mlscale.cluster.layout import default_layout

    return default_layout().kubeconfig


def find_own(api: Api) -> OwnNode | None:
    """Our own cluster, where ``api`` is its; None for any other."""
    try:
        found = api.find(path_of("ConfigMap", CONFIG_MAP, "kube-system"))
    except Refused:  # another's, where that may not be read
        return None
    return None if found is None else read_config_map(found)


def read_config_map(found: Json) -> OwnNode:
    """Raises MlscaleError where it is broken."""
    data = found.get("data") or {}
    try:
        process = int(data["init_pid"]), str(data["init_start"]), str(data["boot_id"])
        return OwnNode(str(data["image"]), *process, str(data["node_address"]), str(data["host_address"]))
    except (KeyError, TypeError, ValueError) as error:
        raise MlscaleError(f"it is broken: {error!r}", "ConfigMap kube-system/mlscale", "make cluster") from error


def packaging(node: OwnNode, module: str) -> Packaging:
    """This interpreter and this package in the nearly empty image, and the folders that ``module`` may come from."""
    from mlscale.host.interpreter import interpreter_mounts

    package = Path(__file__).resolve().parents[2]
    own = module.partition(".")[0] == "mlscale"
    folders = [package] if own else [package, *_import_folders()]
    mounts = interpreter_mounts(folders)
    paths = os.pathsep.join(str(folder) for folder in dict.fromkeys(folders))
    return Packaging(
        image=node.image,
        command=(sys.executable, *SERVER),
        pull_policy="Never",
        mounts=tuple(str(mount) for mount in mounts),
        environment={"PYTHONPATH": paths},
    )


def part_arguments(program: str) -> list[str]:
    """The arguments of one of the node's parts, such as "kube-controller-manager", off its process; [] where there is
    none."""
    from mlscale.cluster.layout import default_layout
    from mlscale.cluster.node import Node

    record = Node(default_layout()).record(program)
    try:
        words = Path(f"/proc/{record.identity.pid}/cmdline").read_text().split("\0") if record is not None else []
    except OSError:
        return []
    return [word for word in words[1:] if word]


def machine_catalogue() -> Catalogue:
    """The machine types and boot times of ``make cluster MACHINES=1``."""
    from mlscale.cluster.programs import sources

    return Catalogue.from_json((sources() / "machines/types.json").read_text())


def own_groups() -> NodeUsage:
    """The cgroups of our own cluster's node."""
    from mlscale.cluster.hierarchies import node_groups
    from mlscale.cluster.layout import default_layout

    group = node_groups(default_layout().cgroup).part("")
    return NodeUsage(group.version, tuple(folder.parent for folder in group.folders))


def _import_folders() -> list[Path]:
    """Where a user's own model may lie: the working folder and what was put on the path."""
    found = [Path.cwd(), *(Path(path) for path in sys.path if path and "site-packages" not in path)]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir() and not folder.is_relative_to(sys.base_prefix)]
