"""The one-node cluster of ``make cluster``, where more can be measured and no registry is needed.

It identifies itself by the ConfigMap kube-system/mlscale. Its node runs on this host: pods mount the host's interpreter
and this package read-only, and their cgroups and the arguments of its parts can be read. None of that needs the
cluster's own code.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.manifests import Packaging
from mlscale.environments.kubernetes.names import OWN_CLUSTER
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.usage import NodeUsage
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError

SERVER: Final = ("-m", "mlscale.serving.container")


@dataclass(frozen=True)
class OwnNode:
    """The ConfigMap's content (`onenode.manifests.identity`). ``init``: the node's first process; ``cgroups``: the
    node's own group in the CPU hierarchies; ``records``: folder with NAME.json, the process of each part."""

    image: str
    pause_image: str
    init: ProcessIdentity
    node_address: str
    cgroup_version: Literal[1, 2]
    cgroups: tuple[Path, ...]
    records: Path

    @property
    def here(self) -> bool:
        """Whether the node runs on this host."""
        return self.init.here_and_alive()

    def usage(self) -> NodeUsage:
        """Reads what its pods and its own programs use."""
        return NodeUsage(self.cgroup_version, self.cgroups)

    def arguments(self, program: str) -> list[str]:
        """The arguments of a part's process, such as "kube-controller-manager"; [] if it does not run."""
        try:
            record = json.loads((self.records / f"{program}.json").read_text())
            argv = Path(f"/proc/{int(record['pid'])}/cmdline").read_text().split("\0")
        except (OSError, ValueError, KeyError):
            return []
        return [word for word in argv[1:] if word]


def find_own_node(api: Api) -> OwnNode | None:
    """The node of our own cluster; None if ``api`` is another cluster's."""
    try:
        config_map = api.find(path_of("ConfigMap", OWN_CLUSTER, "kube-system"))
    except Refused:  # another cluster, where reading it is forbidden
        return None
    return None if config_map is None else read_config_map(config_map)


def read_config_map(config_map: Json) -> OwnNode:
    """Raises MlscaleError if it is broken."""
    data = config_map.get("data") or {}
    try:
        return OwnNode(
            str(data["image"]),
            str(data["pause_image"]),
            ProcessIdentity.from_json(json.loads(data["init"])),
            str(data["node_address"]),
            cast(Literal[1, 2], int(data["cgroup_version"])),
            tuple(Path(folder) for folder in json.loads(data["cgroups"])),
            Path(data["records"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise MlscaleError(f"it is broken: {error!r}", "ConfigMap kube-system/mlscale", "make cluster") from error


def packaging(node: OwnNode) -> Packaging:
    """The nearly empty image with this interpreter, this package and all import folders mounted."""
    from mlscale.host.interpreter import interpreter_mounts, package_home

    folders = [package_home(), *_import_folders()]
    mounts = interpreter_mounts(folders)
    paths = os.pathsep.join(str(folder) for folder in dict.fromkeys(folders))
    return Packaging(
        image=node.image,
        command=(sys.executable, *SERVER),
        pull_policy="Never",
        mounts=tuple(str(mount) for mount in mounts),
        environment={"PYTHONPATH": paths},
    )


def _import_folders() -> list[Path]:
    """Where an application may be imported from: the working folder and sys.path without site-packages."""
    folders = [Path.cwd(), *(Path(path) for path in sys.path if path and "site-packages" not in path)]
    return [
        folder for folder in dict.fromkeys(folders) if folder.is_dir() and not folder.is_relative_to(sys.base_prefix)
    ]
