"""The cluster's initial objects: the files in build/manifests, and the ConfigMap that identifies the cluster."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mlscale.environments.kubernetes.names import OWN_CLUSTER
from mlscale.host.processes import ProcessIdentity
from onenode.layout import PAUSE_IMAGE, THIN_IMAGE, NodeLayout
from onenode.node_cgroups import NodeGroups
from onenode.settings import Settings

# Version of the keys in the ConfigMap kube-system/mlscale.
FORMAT: Final = "2"


def manifests(folder: Path, **values: str) -> list[dict[str, Any]]:
    """The objects of all JSON files in ``folder``, with ${NAME} replaced by ``values``. Raises KeyError if one is
    missing."""
    objects: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.json")):
        objects += json.loads(string.Template(file.read_text()).substitute(values))
    return objects


def split_registrations(objects: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(all but APIServices, APIServices): these are registered once their server answers, since the API server retries
    only much later."""
    objects = list(objects)
    registrations = [manifest for manifest in objects if manifest["kind"] == "APIService"]
    return [manifest for manifest in objects if manifest["kind"] != "APIService"], registrations


def identity(settings: Settings, init: ProcessIdentity, layout: NodeLayout, groups: NodeGroups) -> dict[str, Any]:
    """The ConfigMap kube-system/mlscale: identifies this host's own cluster, and what the host can observe of it.

    Keys, all text: format; image (that pods mount the host's programs into); pause_image (of idle pods); init (the
    node's first process, a `ProcessIdentity` as JSON); node_address (of NodePorts); cgroup_version and cgroups (folders
    of the node's cgroup, as a JSON list); records (folder with NAME.json, the process of each part); cfs_period_s.
    """
    data = {
        "format": FORMAT,
        "image": THIN_IMAGE,
        "pause_image": PAUSE_IMAGE,
        "init": json.dumps(init.to_json()),
        "node_address": settings.node_address,
        "cgroup_version": str(groups.version),
        "cgroups": json.dumps([str(folder) for folder in groups.cpu_folders]),
        "records": str(layout.records),
        "cfs_period_s": repr(settings.cfs_period_s),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": OWN_CLUSTER, "namespace": "kube-system"},
        "data": data,
    }
