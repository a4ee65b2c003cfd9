"""Up, stop, down: each brings the cluster to what it should be from whatever it is, so each may be killed and repeated.

One command at a time holds the lock; a program that is being started inherits it until it runs, so nothing that a
killed command had begun can appear later unseen.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from mlscale.host.ledger import LedgerEntry
from mlscale.host.scratch import remove_folder
from mlscale.host.state import state_home
from mlscale.runs import MlscaleError
from onenode.atomic_files import write_whole
from onenode.configure import write_configuration
from onenode.layout import SERVICE_CIDR, Layout
from onenode.ledger_claims import claim, drop_claims
from onenode.locking import locked
from onenode.node import Link, Node, forget_records, host_networks
from onenode.programs import Everything
from onenode.progress import Reporter
from onenode.settings import Settings, choose_addresses, overlapping
from onenode.start import Starter

_ETCD_GRACE_S: Final = 2.0
# kube-proxy turns these round before they leave.
_WAYS: Final = ((SERVICE_CIDR, "dev", "eth0"),)


def up(
    layout: Layout,
    everything: Everything,
    reporter: Reporter,
    *,
    cfs_period_s: float | None = None,
    hpa_sync_s: float | None = None,
    machines: bool = False,
) -> None:
    """Make the cluster, or start again what of it does not run; back when pods can be made and measured.

    Args:
        cfs_period_s: the kubelet's CFS period from now on, s; None keeps what it is. Pods that run keep theirs.
        hpa_sync_s: the HPA's sync period from now on, s; None keeps what it is.
        machines: from now on machines come and go; False keeps what it is.

    Raises:
        MlscaleError: a part does not come up (its last words are in it); what runs, stays, for `status` and `down`.
    """
    with _locked(layout, reporter) as descriptor, claim(layout) as claimed:
        node = Node(layout, (descriptor,))
        settings = _present(layout, node).changed(cfs_period_s=cfs_period_s, hpa_sync_s=hpa_sync_s, machines=machines)
        write_whole(layout.settings, settings.to_json())
        write_configuration(layout, settings, everything.programs)
        if node.init is None:
            reporter.say("making the node")
            forget_records(layout)
            node.boot()
        node.link(Link(settings.host_address, settings.node_address, _WAYS))
        Starter(layout, node, settings, everything, reporter).start()
        write_whole(layout.whole, "")
        init = node.init
        if init is None:
            raise MlscaleError("the node ended while it came up", "its first process", "mlscale cluster up")
        claimed.hand_over(init)


def stop(layout: Layout, reporter: Reporter) -> None:
    """End every process of the cluster and keep its state; `up` goes on from there. Idempotent.

    Raises:
        MlscaleError: there is no cluster, or something does not end.
    """
    with _locked(layout, reporter) as descriptor:
        require(layout)
        _end(Node(layout, (descriptor,)))
        drop_claims(layout)


def down(layout: Layout, reporter: Reporter) -> None:
    """Remove the cluster and everything of it. Idempotent.

    Raises:
        MlscaleError: something can't be removed.
    """
    with _locked(layout, reporter) as descriptor:
        Node(layout, (descriptor,)).clear()
        _remove(layout)
        drop_claims(layout)


def reap(entry: LedgerEntry) -> None:
    """For `mlscale cleanup`: what a command that was killed left. A cluster that came up and runs is no left-over, and
    the state of one that had come up is kept, as by `stop`.

    Raises:
        MlscaleError: something can't be removed.
    """
    layout = Layout(Path(entry.identity["root"]))
    if layout.root.parent != (state_home() / "cluster").resolve():
        raise MlscaleError("not a folder that mlscale makes", str(layout.root), f"delete the ledger entry {entry.id}")
    with _locked(layout, Reporter()) as descriptor:
        node = Node(layout, (descriptor,))
        if layout.whole.exists() and node.init is not None:
            return
        _end(node)
        if not layout.whole.exists():
            _remove(layout)


def require(layout: Layout) -> None:
    """Raises MlscaleError where no cluster was ever made."""
    if not layout.settings.exists():
        raise MlscaleError("there is no cluster", str(layout.root), "mlscale cluster up")


def _locked(layout: Layout, reporter: Reporter) -> contextlib.AbstractContextManager[int]:
    return locked(layout.lock, lambda: reporter.say("waiting for another mlscale cluster command"))


def _present(layout: Layout, node: Node) -> Settings:
    """The settings of the cluster that is there, or new ones."""
    if layout.settings.exists():
        settings = Settings.from_json(layout.settings.read_text())
        taken = None if node.init is not None else overlapping(settings, host_networks())
        if taken is not None:
            raise MlscaleError(f"the host now uses {taken}", "the cluster's address", "mlscale cluster down, then up")
    else:
        settings = choose_addresses(host_networks())
    return settings


def _end(node: Node) -> None:
    """etcd is asked, all else just ends: the API server would take a minute to say goodbye."""
    node.end_part("etcd", _ETCD_GRACE_S)
    node.clear()
    forget_records(node.layout)
    node.layout.init.unlink(missing_ok=True)


def _remove(layout: Layout) -> None:
    remove_folder(layout.root)
    layout.lock.unlink(missing_ok=True)
    _remove_empty(layout.root.parent)


def _remove_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # another cluster's
        folder.rmdir()
