"""Removes what a run created on a cluster: at its end, or after a crash, when the ledger names object and cluster."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

from mlscale.environments.kubernetes.client import Api, KubeContext, Unreachable, connect
from mlscale.host.ledger import LedgerEntry
from mlscale.host.reap import TargetUnreachable
from mlscale.runs import MlscaleError

# As `mlscale.environments.kubernetes.namespace.new_name` gives them.
_NAME: Final = re.compile(r"mlscale-[0-9a-f]{8}")


def reap_named(entry: LedgerEntry, own: Path, what: str, name: str, remove: Callable[[Api, str], object]) -> None:
    """``remove`` the object ``name`` of a ledger entry that another process made.

    Args:
        own: kubeconfig of our own cluster. If it is gone or names another server, that cluster was removed, and the
            object with it.
        what: the kind of the object, in words.

    Raises:
        TargetUnreachable: the cluster does not answer now; the entry stays in the ledger.
        MlscaleError: it can't be removed.
    """
    identity, kubeconfig = entry.identity, str(entry.identity["kubeconfig"])
    where = f"{what} {name} at {identity['server']}"
    if _NAME.fullmatch(name) is None:
        raise MlscaleError("not a name that mlscale generates", name, f"delete the ledger entry {entry.id}")
    ours = Path(kubeconfig) == own
    if ours and not own.exists():
        return
    try:
        with closing(connect(KubeContext(kubeconfig, identity["context"]))) as api:
            if api.server == identity["server"]:
                remove(api, name)
            elif not ours:
                raise TargetUnreachable(
                    f"{api.kube_context} names another server now", where, "restore the kubeconfig, then cleanup"
                )
    except Unreachable as error:
        remedy = "make cluster, then mlscale cleanup" if ours else "mlscale cleanup, once it answers"
        raise TargetUnreachable(error.what, where, remedy) from error
