"""The NodePool of a run: which machines Karpenter may add. Created before the run's pods, deleted after them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from mlscale.environments.kubernetes.client import Api, Json, Refused
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.names import BOOT, MANAGED_BY, RUN, TOOL
from mlscale.environments.kubernetes.paths import path_of
from mlscale.environments.kubernetes.reap import reap_named
from mlscale.host.ledger import Ledger, LedgerEntry
from mlscale.host.reap import despite_interrupt
from mlscale.runs import MlscaleError

# Kind of the ledger entry.
KIND: Final = "karpenter_nodepool"
# The one-node cluster's: group, kind and name.
NODE_CLASS: Final = "karpenter.kwok.sh/KWOKNodeClass/mlscale"
POOL: Final = "karpenter.sh/nodepool"
AT_ONCE: Final = "none"
_GONE_S: Final = 120.0
_LOOK_S: Final = 0.3


def node_pool(
    name: str, scaling: MachineScaling, memory_mib: Mapping[str, int], node_class: str, boot: str | None
) -> Json:
    """The NodePool ``name``.

    It limits memory, which a machine's kubelet reports to the byte; cores are reported as whole numbers only.

    Args:
        memory_mib: of each type of machine.
        node_class: group/kind/name of the class that provisions the machines.
        boot: boot times in a rehearsal; None: live.
    """
    limit_mib = scaling.max_machines * min(memory_mib[name] for name in scaling.machine_types)
    group, kind, class_name = node_class.split("/")
    requirements = [
        {"key": "node.kubernetes.io/instance-type", "operator": "In", "values": list(scaling.machine_types)},
        {"key": "karpenter.sh/capacity-type", "operator": "In", "values": ["on-demand"]},
    ]
    template: dict[str, Any] = {
        "expireAfter": "Never",
        "nodeClassRef": {"group": group, "kind": kind, "name": class_name},
        "requirements": requirements,
    }
    return {
        "apiVersion": "karpenter.sh/v1",
        "kind": "NodePool",
        "metadata": {
            "name": name,
            "labels": {MANAGED_BY: TOOL, RUN: name},
            **({"annotations": {BOOT: boot}} if boot is not None else {}),
        },
        "spec": {
            "limits": {"memory": f"{limit_mib}Mi"},
            "disruption": {
                "consolidationPolicy": scaling.consolidation,
                "consolidateAfter": f"{scaling.consolidate_after_s}s",
                "budgets": [{"nodes": "100%"}],
            },
            "template": {"spec": template},
        },
    }


@contextmanager
def created(
    api: Api,
    name: str,
    scaling: MachineScaling,
    memory_mib: Mapping[str, int],
    ledger: Ledger,
    *,
    node_class: str = NODE_CLASS,
    boot: str | None = AT_ONCE,
) -> Iterator[None]:
    """The NodePool; rehearsed machines boot at once until `set_boot_times`. Deleted with its machines on leaving.

    Raises:
        MlscaleError: the API server refuses it, or it can't be deleted.
    """
    kube_context = api.kube_context
    entry = ledger.intend(
        KIND, kubeconfig=kube_context.kubeconfig, context=kube_context.context, server=api.server, pool=name
    )
    try:
        api.apply(path_of("NodePool", name), node_pool(name, scaling, memory_mib, node_class, boot))
        yield
    except Refused as refused:
        raise refused.as_error(f"NodePool {name}") from refused
    finally:

        def end() -> None:
            remove(api, name)
            ledger.done(entry)

        despite_interrupt(end)


def set_boot_times(api: Api, name: str, boot: str) -> None:
    """From now on its machines have the boot times ``boot``. Raises MlscaleError."""
    try:
        api.merge(path_of("NodePool", name), {"metadata": {"annotations": {BOOT: boot}}})
    except Refused as refused:
        raise refused.as_error(f"NodePool {name}") from refused


def class_path(node_class: str) -> str:
    """The path of a node class that is given as group/kind/name."""
    group, kind, name = node_class.split("/")
    version = "v1alpha1" if group == "karpenter.kwok.sh" else "v1"
    return f"/apis/{group}/{version}/{kind.lower()}es/{name}"


def claims(name: str) -> tuple[str, dict[str, str | int]]:
    """Path and query of a pool's NodeClaims."""
    return path_of("NodeClaim"), {"labelSelector": f"{POOL}={name}"}


def nodes(labels: Mapping[str, str]) -> tuple[str, dict[str, str | int]]:
    """Path and query of the Nodes with these labels."""
    return path_of("Node"), {"labelSelector": ",".join(f"{key}={value}" for key, value in labels.items())}


def remove(api: Api, name: str) -> None:
    """Delete the pool and wait until its machines are gone. Idempotent.

    Raises:
        MlscaleError: it can't be deleted, or machines still exist after two minutes.
    """
    deadline = time.monotonic() + _GONE_S
    try:
        api.delete(path_of("NodePool", name))
        while remaining := api.get(*claims(name))["items"]:
            for claim in remaining:
                if not claim["metadata"].get("deletionTimestamp"):
                    api.delete(path_of("NodeClaim", claim["metadata"]["name"]))
            if time.monotonic() > deadline:
                raise MlscaleError(f"{len(remaining)} machines still exist", f"NodePool {name}", "mlscale cleanup")
            time.sleep(_LOOK_S)
    except Refused as refused:
        if refused.status != 404:
            raise refused.as_error(f"NodePool {name}") from refused


def reap(entry: LedgerEntry, own: Path) -> None:
    """Remove the pool that a ledger entry names. Idempotent. See `reap_named` for ``own`` and what it raises."""
    reap_named(entry, own, "NodePool", str(entry.identity["pool"]), remove)
