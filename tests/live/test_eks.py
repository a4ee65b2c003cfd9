"""The EKS rehearsal, live: machines join for pending pods, leave when not needed, and may fail."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from exposure import exposed
from kubernetes_watched import PHOTOS, app, clients
from load_clients import ask
from machine_cycles import machine_leftovers
from watched import Watched

from mlscale.environments.base import Deployed
from mlscale.environments.kubernetes.client import Api, KubeContext, connect
from mlscale.environments.kubernetes.eks import Eks
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.paths import path_of
from mlscale.host.cgroups import pids_below
from mlscale.host.ledger import Ledger
from onenode.commands import up_command
from onenode.layout import default_layout
from onenode.machines.daemon import load
from onenode.node import Node

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="our own cluster needs Linux")]

PATIENCE_S = 180.0


@pytest.fixture
def api(cluster_with_machines: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("KUBECONFIG", str(cluster_with_machines))
    with closing(connect(KubeContext(str(cluster_with_machines)))) as client:
        yield client
        assert machine_leftovers(client) == []


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create("test-eks", tmp_path / "ledger") as opened:
        yield opened
    assert not list((tmp_path / "ledger").glob("*.jsonl")), "everything created is gone"


def scaling(**changes: Any) -> MachineScaling:
    """One pod per machine; machines boot in three seconds."""
    quick = {"cpu_cores": 0.25, "memory_mib": 64, "drain_delay_s": 5, "boot": "3s", "downscale_stabilisation_s": 0}
    quick |= {"grace_s": 8}
    one = {"machine_types": ("rehearsal.small",), "max_machines": 3, "max_replicas": 3}
    return MachineScaling.model_validate({**Eks().arm("matched").model_dump(), **quick, **one, **changes})


def processes_of(number: int) -> set[int]:
    """A machine's processes, as the host sees them."""
    return set(pids_below(tuple(folder / f"machine-{number}" for folder in Node(default_layout()).groups.folders)))


def machines(watched: Watched) -> tuple[int | None, int | None]:
    samples = watched.samples()
    return (samples[-1].machines_desired, samples[-1].machines_ready) if samples else (None, None)


def test_machines_join_with_the_load_and_leave_after_it(api: Api, ledger: Ledger) -> None:
    with Eks().deploy(app(), {"app": scaling()}, "rehearsal", ledger, PHOTOS) as deployed:
        watched = Watched(deployed, PATIENCE_S)
        try:
            watched.until(lambda: machines(watched) == (1, 1), "one machine for the first pod")
            groups = Node(default_layout()).groups.folders
            assert exposed(pids_below(groups)) == [], "neither the node nor its machines"
            with clients(deployed.url, 9) as replies:
                ready = "three replicas are ready, on three machines"
                watched.until(lambda: watched.now() == (3, 0, 3) and machines(watched) == (3, 3), ready)
                busy = len(replies)
                watched.until(lambda: len({name for _, name in replies[busy:]}) == 3, "all three answer")
            with clients(deployed.url, 1) as light:
                watched.until(lambda: watched.now()[0] == 1, "it is scaled down")
                watched.until(lambda: machines(watched) == (1, 1), "the surplus machines are gone")
            assert [reply for reply in [*replies, *light] if reply[0] != 200] == [], "no request is lost"
        finally:
            watched.close()
    _check_lifecycles(watched)


def _check_lifecycles(watched: Watched) -> None:
    order = ["machine_requested", "machine_booted", "machine_registered", "machine_ready", "machine_removed"]
    subjects = {event.subject for event in watched.events("machine_requested")}
    assert len(subjects) == 3
    for subject in subjects:
        own = [event for event in watched.events() if event.subject == subject]
        assert [event.kind for event in own] == order[: len(own)]
        assert len(own) >= 4
    waited = {event.subject for event in watched.events("replica_unschedulable")}
    assert len(waited) >= 2, "pods waited for a machine"
    nodes = {event.detail["node"] for event in watched.events("replica_scheduled")}
    assert len(nodes) == 3, "each pod has its own machine"


def test_power_cuts_dead_daemons_orphans_a_deleted_claim_and_no_capacity(api: Api, ledger: Ledger) -> None:
    two_machines = scaling(max_machines=2, boot="4s")
    with Eks().deploy(app(), {"app": two_machines}, "rehearsal", ledger, PHOTOS) as deployed:
        watched = Watched(deployed, PATIENCE_S)
        try:
            _cut_the_power(deployed, watched)
            with clients(deployed.url, 9):
                _delete_a_claim(api, watched)
                watched.until(lambda: machines(watched) == (2, 2), "another one joins")
                watched.until(lambda: watched.now() == (3, 1, 2), "the third replica finds no machine")
                assert watched.events("replica_unschedulable")
                assert machines(watched) == (2, 2), "no more are available"
        finally:
            watched.close()


def _cut_the_power(deployed: Deployed, watched: Watched) -> None:
    layout = default_layout()
    (machine,) = load(layout.machines).values()
    inside = processes_of(machine.number)
    assert inside
    for part in ("machines", "karpenter", "kube-apiserver"):
        record = Node(layout).record(part)
        assert record is not None
        os.kill(record.identity.pid, signal.SIGKILL)
    up_command()
    assert inside <= processes_of(machine.number), "a machine outlives its controllers"
    assert load(layout.machines).keys() == {machine.name}, "and stays on record"
    for pid in processes_of(machine.number):
        with suppress(ProcessLookupError):  # it ended with the machine's init process
            os.kill(pid, signal.SIGKILL)
    watched.until(lambda: watched.events("machine_removed"), "the killed machine is removed")
    watched.until(lambda: machines(watched) == (1, 1) and watched.now() == (1, 0, 1), "another replaces it")
    assert load(layout.machines).keys() != {machine.name}
    watched.until(lambda: ask(deployed.url, {}, "photo")["status"] == 200, "and serves")


def _delete_a_claim(api: Api, watched: Watched) -> None:
    """The next machine's, while it boots."""
    watched.until(lambda: machines(watched)[0] == 2, "a second machine is requested")
    booting = watched.events("machine_requested")[-1].subject
    api.delete(path_of("NodeClaim", booting))
    watched.until(
        lambda: [event for event in watched.events("machine_failed") if event.subject == booting],
        "the deleted machine is reported as failed",
    )
