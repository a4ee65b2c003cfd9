"""Up, stop, down: each brings the cluster from any state to its own, so each may be killed and repeated.

One command at a time holds the lock. A program that is being started inherits it until it runs, so a killed command's
program can't appear while the next command works.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

from mlscale.atomic import write_whole
from mlscale.host.ledger import LedgerEntry
from mlscale.host.scratch import remove_folder
from mlscale.host.state import state_home
from mlscale.runs import MlscaleError
from onenode.configure import RESOLVER, write_configuration
from onenode.layout import SERVICE_CIDR, Layout
from onenode.ledger_claims import claim, drop_claims
from onenode.locking import locked
from onenode.node import Link, Node, forget_records, host_networks
from onenode.programs import ClusterPrograms
from onenode.progress import Reporter
from onenode.settings import Settings, choose_addresses, overlapping
from onenode.start import Starter

_ETCD_GRACE_S: Final = 2.0
_RESOLVER: Final = "/etc/resolv.conf"
# kube-proxy redirects these packets before they leave the node.
_ROUTES: Final = ((SERVICE_CIDR, "dev", "eth0"),)


def up(
    layout: Layout,
    built: ClusterPrograms,
    reporter: Reporter,
    *,
    cfs_period_s: float | None = None,
    hpa_sync_s: float | None = None,
    machines: bool = False,
    zero: bool = False,
) -> None:
    """Create the cluster, or restart what does not run; returns once pods can be created and measured.

    Args:
        cfs_period_s: new CFS period of the kubelet, s; None: unchanged. Running pods keep theirs.
        hpa_sync_s: new sync period of the HPA, s; None: unchanged.
        machines: from now on machines join and leave; False: unchanged.
        zero: from now on with what scaling to zero needs; False: unchanged.

    Raises:
        MlscaleError: a part does not come up (with its last log line); what runs stays, for `status` and `down`.
    """
    with _locked(layout, reporter) as descriptor, claim(layout) as claimed:
        node = Node(layout, (descriptor,))
        settings = _current_settings(layout, node).changed(
            cfs_period_s=cfs_period_s, hpa_sync_s=hpa_sync_s, machines=machines, zero=zero
        )
        write_whole(layout.settings, settings.to_json())
        write_configuration(layout, settings, built.programs)
        if node.init is None:
            reporter.say("creating the node")
            forget_records(layout)
            node.boot(covers={_RESOLVER: str(layout.conf / RESOLVER)} if Path(_RESOLVER).exists() else {})
        node.link(Link(settings.host_address, settings.node_address, _ROUTES))
        Starter(layout, node, settings, built, reporter).start()
        write_whole(layout.whole, "")
        init = node.init
        if init is None:
            raise MlscaleError("the node ended while it came up", "its first process", "mlscale cluster up")
        claimed.hand_over(init)


def stop(layout: Layout, reporter: Reporter) -> None:
    """End all processes of the cluster and keep its state; `up` resumes from it. Idempotent.

    Raises:
        MlscaleError: there is no cluster, or something does not end.
    """
    with _locked(layout, reporter) as descriptor:
        require_cluster(layout)
        _end(Node(layout, (descriptor,)))
        drop_claims(layout)


def down(layout: Layout, reporter: Reporter) -> None:
    """Remove the cluster and its state. Idempotent.

    Raises:
        MlscaleError: something can't be removed.
    """
    with _locked(layout, reporter) as descriptor:
        Node(layout, (descriptor,)).clear()
        _remove(layout)
        drop_claims(layout)


def reap(entry: LedgerEntry) -> None:
    """For `mlscale cleanup`: remove what a killed command left behind. A cluster that has come up and runs is left
    alone; the state of one that has come up and was stopped is kept, as by `stop`.

    Raises:
        MlscaleError: something can't be removed.
    """
    layout = Layout(Path(entry.identity["root"]))
    if layout.root.parent != (state_home() / "cluster").resolve():
        raise MlscaleError("not a folder that mlscale creates", str(layout.root), f"delete the ledger entry {entry.id}")
    with _locked(layout, Reporter()) as descriptor:
        node = Node(layout, (descriptor,))
        if layout.whole.exists() and node.init is not None:
            return
        _end(node)
        if not layout.whole.exists():
            _remove(layout)


def require_cluster(layout: Layout) -> None:
    """Raises MlscaleError if there is no cluster."""
    if not layout.settings.exists():
        raise MlscaleError("there is no cluster", str(layout.root), "mlscale cluster up")


def _locked(layout: Layout, reporter: Reporter) -> contextlib.AbstractContextManager[int]:
    return locked(layout.lock, lambda: reporter.say("waiting for another mlscale cluster command"))


def _current_settings(layout: Layout, node: Node) -> Settings:
    """The settings of the existing cluster, or new ones."""
    if layout.settings.exists():
        settings = Settings.from_json(layout.settings.read_text())
        taken = None if node.init is not None else overlapping(settings, host_networks())
        if taken is not None:
            raise MlscaleError(f"the host now uses {taken}", "the cluster's address", "mlscale cluster down, then up")
    else:
        settings = choose_addresses(host_networks())
    return settings


def _end(node: Node) -> None:
    """etcd gets SIGTERM, all else SIGKILL: the API server would take a minute to shut down."""
    node.end_part("etcd", _ETCD_GRACE_S)
    node.clear()
    forget_records(node.layout)
    node.layout.init.unlink(missing_ok=True)


def _remove(layout: Layout) -> None:
    remove_folder(layout.root)
    layout.lock.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # it holds another cluster
        layout.root.parent.rmdir()
