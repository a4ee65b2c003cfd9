"""What the cluster holds from the start: the files in build/manifests, and the ConfigMap that says whose it is."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mlscale.environments.kubernetes_names import OWN_CLUSTER
from mlscale.host.processes import ProcessIdentity
from onenode.layout import PAUSE_IMAGE, THIN_IMAGE, NodeLayout
from onenode.node_cgroups import NodeGroups
from onenode.settings import Settings

# Of the ConfigMap kube-system/mlscale; another number means that its keys are others.
FORMAT: Final = "2"


def manifests(folder: Path, **values: str) -> list[dict[str, Any]]:
    """The objects of every JSON file in ``folder``, ${NAME} replaced by ``values``. Raises KeyError for a NAME that is
    none of them."""
    objects: list[dict[str, Any]] = []
    for file in sorted(folder.glob("*.json")):
        objects += json.loads(string.Template(file.read_text()).substitute(values))
    return objects


def registration_last(objects: Iterable[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(all but APIServices, APIServices): one is registered when its server answers, or the API server asks again only
    much later."""
    every = list(objects)
    late = [one for one in every if one["kind"] == "APIService"]
    return [one for one in every if one["kind"] != "APIService"], late


def identity(settings: Settings, init: ProcessIdentity, layout: NodeLayout, groups: NodeGroups) -> dict[str, Any]:
    """The ConfigMap kube-system/mlscale: by it one knows that a cluster is this host's own, and what of it can be seen
    from the host.

    Keys, all text: format; image (that pods mount the host's programs into); pause_image (of pods that do nothing);
    init (the node's first process, a `ProcessIdentity` as JSON); node_address (where NodePorts answer);
    cgroup_version and cgroups (folders of the node's cgroup, as a JSON list); records (folder of a NAME.json with the
    process of each part); cfs_period_s.
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
