"""Scaling to zero, live: nothing runs, a request is held until a replica does, and so is a burst; none is lost."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import load_clients
import pytest
from kubernetes_watched import PHOTOS, app
from watched import Watched

from mlscale import environments
from mlscale.environments.base import Deployed
from mlscale.host.ledger import Ledger
from onenode.layout import default_layout
from onenode.settings import extras

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")]

QUICK: dict[str, dict[str, Any]] = {
    "rayserve": {"downscale_to_zero_delay_s": 3.0, "cpu_cores": 1.0},
    "keda": {"cooldown_s": 3, "polling_interval_s": 1, "cpu_cores": 0.5, "memory_mib": 64},
}
PATIENCE_S = 120.0


@pytest.fixture(params=[*QUICK])
def deployed(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deployed]:
    name: str = request.param
    if name == "keda":
        monkeypatch.setenv("KUBECONFIG", str(request.getfixturevalue("cluster")))
        if not extras(default_layout().settings).zero:
            pytest.skip("the running cluster does not scale to zero: make cluster ZERO=1")
    environment = environments.get(name)
    scaling = environment.settings.model_validate(
        {**environment.arm("matched").model_dump(), **QUICK[name], "min_replicas": 0}
    )
    with (
        Ledger.create(f"test-zero-{os.getpid()}", tmp_path / "ledger") as ledger,
        environment.deploy(app(), {"app": scaling}, "live", ledger, PHOTOS) as made,
    ):
        yield made
    assert not list((tmp_path / "ledger").glob("*.jsonl")), "everything created is gone"


def test_it_sleeps_wakes_up_and_loses_nothing(deployed: Deployed) -> None:
    watched = Watched(deployed, patience_s=PATIENCE_S)
    with contextlib.closing(watched):
        for requests in (0, -7):  # one, and eight at once
            watched.until(lambda: watched.samples() and watched.now() == (0, 0, 0), "nothing runs")
            changes = len(_changes(watched))
            replies = load_clients.replies(load_clients.start(deployed, requests, "photo"))
            assert {reply["status"] for reply in replies} == {200}, "held, not dropped"
            assert len(replies) == 1 - requests
            assert _changes(watched)[changes][:2] == (0, 1), "from zero first to one"
        to_zero = [reason for before, after, reason in _changes(watched) if after == 0]
        assert to_zero
        assert all(to_zero), "each with its reason"
        watched.until(lambda: watched.events("replica_removed"), "what is scaled in stops, in its own time")
        assert watched.events("replica_created")
        assert watched.events("replica_ready")


def _changes(watched: Watched) -> list[tuple[int, int, str]]:
    details = [event.detail for event in watched.events("scale_decision")]
    return [(each["from"], each["to"], each["reason"]) for each in details if each["from"] != each["to"]]
