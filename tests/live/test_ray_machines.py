"""Ray Serve's rehearsal on machines, in a sandbox: Ray's own autoscaler adds them for replicas and removes them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import load_clients
import pytest
from exposure import exposed
from watched import Watched

from mlscale.environments.base import App, Component
from mlscale.environments.rayserve.environment import RayServe
from mlscale.environments.rayserve.settings import RayMachineScaling
from mlscale.host.ledger import Ledger
from mlscale.host.processes import ProcessIdentity
from mlscale.host.reap import cleanup
from sandbox_processes import processes

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")]

BURN = """
    import time

    def make():
        def answer(body):
            end = time.thread_time() + 0.01
            while time.thread_time() < end:
                pass
            return {"bytes": len(body)}

        return answer
"""
APP = App("burn", "1", (Component("burn", "ray_machines_burn:make"),), "burn")
# A machine holds one replica; its quota is generous, since a replica's start costs 4 s of CPU.
SCALING = RayMachineScaling.matched().model_copy(
    update={
        "cpu_cores": 0.6,
        "max_replicas": 3,
        "machine_types": ("rehearsal.medium",),
        "boot": "10s",
        "upscale_delay_s": 0.5,
        "downscale_delay_s": 2.0,
        "idle_timeout_s": 3.0,
    }
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "ray_machines_burn.py").write_text(textwrap.dedent(BURN))
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    assert not list((tmp_path / "state").rglob("*.jsonl")), "everything created is gone"


def deployed_for(ledger: Ledger) -> AbstractContextManager[Any]:
    return RayServe().in_mode("rehearsal").deploy(APP, {"burn": SCALING}, "rehearsal", ledger, [b"photo"])


def machines(watched: Watched) -> tuple[int | None, int | None]:
    samples = watched.samples()
    return (samples[-1].machines_desired, samples[-1].machines_ready) if samples else (None, None)


def test_machines_join_for_replicas_and_leave_after_them(modules: Path) -> None:
    with Ledger.create(f"test-ray-machines-{os.getpid()}") as ledger, deployed_for(ledger) as deployed:
        watched = Watched(deployed, patience_s=180.0)
        try:
            watched.until(
                lambda: watched.now() == (1, 0, 1) and machines(watched) == (0, 0), "the head has one replica"
            )
            load = load_clients.start(deployed, 8, "photo")
            ready = "three replicas, two of them on machines"
            watched.until(lambda: watched.now() == (3, 0, 3) and machines(watched) == (2, 2), ready)
            assert exposed(processes(deployed.box).values()) == []
            replies = load_clients.replies(load)
            light = load_clients.start(deployed, 1, "photo", pause_s=0.1)
            watched.until(lambda: watched.now() == (1, 0, 1) and machines(watched) == (0, 0), "the machines are gone")
            assert {reply["status"] for reply in [*replies, *load_clients.replies(light)]} == {200}, "none is lost"
        finally:
            watched.close()
    order = ["machine_requested", "machine_booted", "machine_registered", "machine_ready", "machine_removed"]
    lives = {
        event.subject: {e.kind: e.t_s for e in watched.events() if e.subject == event.subject}
        for event in watched.events("machine_requested")
    }
    assert len(lives) == 2
    for life in lives.values():
        assert list(life) == order
        assert life["machine_booted"] - life["machine_requested"] >= 10.0, "it boots before its raylet starts"
    nodes = {event.subject: event.detail["node"] for event in watched.events("replica_scheduled")}
    assert sorted(nodes.values())[-2:] == sorted(lives), "a replica each"
    started = {event.subject: event.t_s for event in watched.events("replica_started")}
    assert all(started[name] > lives[node]["machine_booted"] for name, node in nodes.items() if node in lives)


KILLED = """
    import json
    import os
    import signal
    import sys

    sys.path[:0] = sys.argv[1:]
    import load_clients
    from test_ray_machines import APP, SCALING, deployed_for
    from watched import Watched

    from mlscale.host.ledger import Ledger
    from mlscale.host.processes import ProcessIdentity
    from sandbox_processes import processes

    with deployed_for(Ledger.create("killed")) as deployed:
        watched = Watched(deployed, patience_s=180.0)
        load = load_clients.start(deployed, 8, "photo")
        watched.until(lambda: watched.events("machine_ready"), "one machine has joined, another one boots")
        found = [ProcessIdentity.of(pid) for pid in processes(deployed.box).values()]
        print(json.dumps({"folder": str(deployed.box.folder), "processes": [each.to_json() for each in found if each]}))
        sys.stdout.flush()
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_after_a_kill_nothing_is_left(modules: Path) -> None:
    tests = Path(__file__).parent
    argv = [sys.executable, "-c", textwrap.dedent(KILLED), str(tests), str(tests.parent), str(modules)]
    killed = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=False, timeout=300)
    assert killed.returncode == -signal.SIGKILL
    about = json.loads(killed.stdout)
    ended = list(map(ProcessIdentity.from_json, about["processes"]))
    assert len(ended) > 10
    removed = cleanup()
    assert {entry.kind for entry in removed} == {"sandbox"}
    assert not Path(about["folder"]).exists()
    assert [each for each in ended if each.alive()] == []
