"""The one-node cluster of ``make cluster``, where more can be seen and nothing needs a registry.

It says what it is in the ConfigMap kube-system/mlscale. Its node runs on this host: pods take the host's interpreter
and this package by read-only mounts, their cgroups can be read, and so can the arguments of its parts. Nothing of the
cluster's own code is needed for that.
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
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.usage import NodeUsage
from mlscale.environments.kubernetes_names import OWN_CLUSTER
from mlscale.host.processes import ProcessIdentity
from mlscale.runs import MlscaleError

SERVER: Final = ("-m", "mlscale.serving.container")


@dataclass(frozen=True)
class OwnNode:
    """What the ConfigMap says (`onenode.manifests.identity`). ``init``: the node's first process; ``cgroups``:
    the node's own group where CPU is counted; ``records``: folder of a NAME.json with the process of each part."""

    image: str
    pause_image: str
    init: ProcessIdentity
    node_address: str
    cgroup_version: Literal[1, 2]
    cgroups: tuple[Path, ...]
    records: Path

    @property
    def here(self) -> bool:
        """Whether the node runs, on this host."""
        return self.init.here_and_alive()

    def usage(self) -> NodeUsage:
        """What its pods and its own programs use."""
        return NodeUsage(self.cgroup_version, self.cgroups)

    def arguments(self, program: str) -> list[str]:
        """The arguments of one of its parts, such as "kube-controller-manager", off its process; [] where there is
        none."""
        try:
            record = json.loads((self.records / f"{program}.json").read_text())
            words = Path(f"/proc/{int(record['pid'])}/cmdline").read_text().split("\0")
        except (OSError, ValueError, KeyError):
            return []
        return [word for word in words[1:] if word]


def find_own(api: Api) -> OwnNode | None:
    """Our own cluster, where ``api`` is its; None for any other."""
    try:
        found = api.find(path_of("ConfigMap", OWN_CLUSTER, "kube-system"))
    except Refused:  # another's, where that may not be read
        return None
    return None if found is None else read_config_map(found)


def read_config_map(found: Json) -> OwnNode:
    """Raises MlscaleError where it is broken."""
    data = found.get("data") or {}
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
    """This interpreter and this package in the nearly empty image, and the folders that modules are imported from."""
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
    """Where models may lie: the working folder and what is on the path."""
    found = [Path.cwd(), *(Path(path) for path in sys.path if path and "site-packages" not in path)]
    return [folder for folder in dict.fromkeys(found) if folder.is_dir() and not folder.is_relative_to(sys.base_prefix)]
