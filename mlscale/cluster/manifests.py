"""What the cluster holds from the start: the files in cluster/manifests, and the ConfigMap that says whose it is."""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from mlscale.cluster.layout import THIN_IMAGE
from mlscale.cluster.settings import Settings
from mlscale.host.processes import ProcessIdentity

FORMAT: Final = "1"
"""Of the ConfigMap kube-system/mlscale; another number means that its keys are others."""


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


def identity(settings: Settings, init: ProcessIdentity) -> dict[str, Any]:
    """The ConfigMap kube-system/mlscale, by which one knows that a cluster is this host's own.

    Keys, all text: format, image (that pods mount the host's programs into), init_pid and init_start (the node's first
    process, as seen from the host), boot_id, node_address (where NodePorts answer), host_address (where the node
    reaches the host), cfs_period_s.
    """
    data = {
        "format": FORMAT,
        "image": THIN_IMAGE,
        "init_pid": str(init.pid),
        "init_start": init.start,
        "boot_id": init.boot_id,
        "node_address": settings.node_address,
        "host_address": settings.host_address,
        "cfs_period_s": repr(settings.cfs_period_s),
    }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "mlscale", "namespace": "kube-system"},
        "data": data,
    }
