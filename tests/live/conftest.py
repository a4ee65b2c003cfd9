"""The one-node cluster for live tests: a running one, or one for the length of the tests where CI=true or CLUSTER=1
asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from own_cluster import ASKED, need_cluster_host

from onenode.commands import down_command, stop_command, up_command
from onenode.layout import default_layout
from onenode.settings import has_machines
from onenode.status import read_status


@pytest.fixture(scope="session", autouse=True)
def _teardown_when_ended() -> Iterator[None]:
    """SIGTERM ends the tests as Ctrl-C does: what they brought up is taken down, whether or not a second one follows
    (``timeout`` signals a process, then its group)."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, lambda *_: None)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Path]:
    """The kubeconfig of the one-node cluster. One that runs is used and left running; one that was stopped or is not
    there is brought up where that was asked for (the first time it is built: minutes), and left as it was found."""
    before = read_status(default_layout())
    if before.whole:
        yield default_layout().kubeconfig
        return
    if not ASKED:
        pytest.skip("no cluster runs here: make cluster, or set CLUSTER=1 to have one for the tests")
    need_cluster_host()
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        up_command(machines=True)
    yield default_layout().kubeconfig
    down_command() if before.state == "absent" else stop_command()


@pytest.fixture(scope="session")
def cluster_with_machines(cluster: Path) -> Path:
    """The kubeconfig of the one-node cluster, where machines come and go on it."""
    if not has_machines(default_layout().settings):
        pytest.skip("no machines come and go on the cluster that runs here: make cluster MACHINES=1")
    return cluster
