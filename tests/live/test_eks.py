"""The rehearsal of EKS for real: machines come for pods that find no room, go when not needed, and may fail."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from kubernetes_watched import PHOTOS, app, clients
from machine_cycles import held, left_of_machines
from watched import Watched

from mlscale.environments.kubernetes.client import Api, Place, connect
from mlscale.environments.kubernetes.eks import Eks
from mlscale.environments.kubernetes.machine_settings import MachineScaling
from mlscale.environments.kubernetes.paths import path_of
from mlscale.host.cgroups import group_pids
from mlscale.host.ledger import Ledger
from mlscale.runs import ReplicaSample
from onenode.commands import up_command
from onenode.layout import default_layout
from onenode.machines.records import load
from onenode.node import Node

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="our own cluster needs Linux")]

PATIENCE_S = 180.0


@pytest.fixture
def api(cluster_with_machines: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    monkeypatch.setenv("KUBECONFIG", str(cluster_with_machines))
    with closing(connect(Place(str(cluster_with_machines)))) as found:
        yield found
        assert left_of_machines(found) == []


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = Ledger.create("test-eks", tmp_path / "ledger")
    yield made
    made.close()
    assert not list((tmp_path / "ledger").glob("*.jsonl")), "everything that was made is gone"


def scaling(**changes: Any) -> MachineScaling:
    """One pod to a machine, machines that boot in three seconds."""
    quick = {"cpu_cores": 0.25, "memory_mib": 64, "drain_delay_s": 2, "boot": "3s", "downscale_stabilisation_s": 0}
    quick |= {"grace_s": 5}
    one = {"machine_types": ("rehearsal.small",), "max_machines": 3, "max_replicas": 3}
    return MachineScaling.model_validate({**Eks().arm("matched").model_dump(), **quick, **one, **changes})


def processes_of(number: int) -> set[int]:
    """Of a machine, as the host sees them."""
    return set(group_pids(tuple(folder / f"machine-{number}" for folder in Node(default_layout()).groups.folders)))


def machines(watched: Watched) -> tuple[int | None, int | None]:
    rows = [each for each in list(watched.seen) if isinstance(each, ReplicaSample)]
    return (rows[-1].machines_desired, rows[-1].machines_ready) if rows else (None, None)


def test_machines_come_with_the_load_and_go_after_it(api: Api, ledger: Ledger) -> None:
    with Eks().deploy(app(), {"app": scaling()}, "rehearsal", ledger, PHOTOS) as deployed:
        watched = Watched(deployed, PATIENCE_S)
        try:
            watched.until(lambda: machines(watched) == (1, 1), "one machine for the first pod")
            with clients(deployed.url, 9) as replies:
                watched.until(lambda: watched.now() == (3, 0, 3), "three replicas are ready")
                assert machines(watched) == (3, 3)
                busy = len(replies)
                watched.until(lambda: len({name for _, name in replies[busy:]}) == 3, "all three answer")
            with clients(deployed.url, 1) as light:
                watched.until(lambda: watched.now()[0] == 1, "it is scaled down")
                watched.until(lambda: machines(watched) == (1, 1), "the surplus machines are gone")
            assert {status for status, _ in [*replies, *light]} == {200}, "no request is lost"
        finally:
            watched.close()
    _lives(watched)


def _lives(watched: Watched) -> None:
    order = ["machine_requested", "machine_booted", "machine_registered", "machine_ready", "machine_removed"]
    subjects = {each.subject for each in watched.events("machine_requested")}
    assert len(subjects) == 3
    for subject in subjects:
        own = [each for each in watched.events() if each.subject == subject]
        assert [each.kind for each in own] == order[: len(own)]
        assert len(own) >= 4
    waited = {each.subject for each in watched.events("replica_unschedulable")}
    assert len(waited) >= 2, "pods waited for a machine"
    nodes = {each.detail["node"] for each in watched.events("replica_scheduled")}
    assert len(nodes) == 3, "each pod has its own machine"


def test_power_cuts_dead_daemons_and_orphans(api: Api, ledger: Ledger) -> None:
    layout = default_layout()
    with Eks().deploy(app(), {"app": scaling(max_replicas=1)}, "rehearsal", ledger, PHOTOS) as deployed:
        watched = Watched(deployed, PATIENCE_S)
        try:
            (machine,) = load(layout.machines).values()
            inside = processes_of(machine.number)
            assert inside
            for part in ("machines", "karpenter", "kube-apiserver"):
                record = Node(layout).record(part)
                assert record is not None
                os.kill(record.identity.pid, signal.SIGKILL)
            up_command()
            assert inside <= processes_of(machine.number), "a machine outlives what asked for it"
            assert load(layout.machines).keys() == {machine.name}, "and is kept"
            for pid in processes_of(machine.number):
                with suppress(ProcessLookupError):  # it went with the machine's first process
                    os.kill(pid, signal.SIGKILL)
            watched.until(lambda: watched.events("machine_removed"), "the machine without power is given up")
            watched.until(lambda: machines(watched) == (1, 1) and watched.now() == (1, 0, 1), "another took its place")
            assert load(layout.machines).keys() != {machine.name}
            with clients(deployed.url, 1) as replies:
                watched.until(lambda: len(replies) > 3, "and serves")
        finally:
            watched.close()


def test_a_claim_deleted_while_booting_and_no_capacity(api: Api, ledger: Ledger) -> None:
    little = scaling(max_machines=2, boot="4s")
    with Eks().deploy(app(), {"app": little}, "rehearsal", ledger, PHOTOS) as deployed:
        watched = Watched(deployed, PATIENCE_S)
        try:
            with clients(deployed.url, 9):
                watched.until(lambda: machines(watched)[0] == 2, "a second machine is asked for")
                booting = watched.events("machine_requested")[-1].subject
                api.delete(path_of("NodeClaim", booting))
                watched.until(
                    lambda: [each for each in watched.events("machine_failed") if each.subject == booting],
                    "the machine that was given up never came",
                )
                watched.until(lambda: machines(watched) == (2, 2), "another one came")
                watched.until(lambda: watched.now() == (3, 1, 2), "the third replica finds no machine")
                assert watched.events("replica_unschedulable")
                assert machines(watched) == (2, 2), "more are not to be had"
        finally:
            watched.close()


def test_cycles_leave_nothing_behind(api: Api) -> None:
    for number in range(2):
        with held(api, f"mlscale-0000000{number}", 3):
            pass
        assert left_of_machines(api) == []
