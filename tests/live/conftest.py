"""The one-node cluster for live tests: a running one, or, with CI=true or CLUSTER=1, one started for the tests."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from own_cluster import REQUESTED, need_cluster_host

from codereader.photos import choose_load_photos
from onenode.commands import down_command, stop_command, up_command
from onenode.layout import default_layout
from onenode.settings import extras
from onenode.status import read_status


@pytest.fixture(scope="session", autouse=True)
def _teardown_when_ended() -> Iterator[None]:
    """SIGTERM ends the tests as Ctrl-C does, with teardown, even if a second one follows (``timeout`` signals a process
    and its group)."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, lambda *_: None)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The kubeconfig of the one-node cluster. A running one is used and left running; a stopped or absent one is, on
    request, started (built the first time: minutes), and left as it was."""
    before = read_status(default_layout())
    if before.whole:
        yield default_layout().kubeconfig
        return
    if not REQUESTED:
        pytest.skip(
            "no cluster runs: make cluster MACHINES=1 ZERO=1, then make test; or CLUSTER=1 make test (Linux, root)"
        )
    need_cluster_host()
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        up_command(machines=True, zero=True)
    yield default_layout().kubeconfig
    down_command() if before.state == "absent" else stop_command()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photos that cost little."""
    folder = tmp_path_factory.mktemp("photos")
    choose_load_photos(folder, 0, 3, target_cpu_s=(0.005, 0.2))
    return folder


@pytest.fixture(scope="session")
def cluster_with_machines(cluster: Path) -> Path:
    """The kubeconfig of the one-node cluster, if it has machines."""
    if not extras(default_layout().settings).machines:
        pytest.skip("the running cluster has no machines: make cluster MACHINES=1")
    return cluster
