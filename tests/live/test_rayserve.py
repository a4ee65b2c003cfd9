"""Ray Serve, live in a sandbox, with an application that only burns CPU."""

from __future__ import annotations

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import load_clients
import pytest
from exposure import exposed
from watched import Watched
from yarl import URL

from distributions import distributions_of, needed_by
from mlscale.environments.base import App, Component
from mlscale.environments.rayserve.environment import RayServe
from mlscale.environments.rayserve.settings import RayServeScaling
from mlscale.environments.sandbox_deployment import SandboxDeployed
from mlscale.host.ledger import Ledger
from mlscale.runs import MlscaleError, ResourceSample
from sandbox_processes import processes

pytestmark = [pytest.mark.live, pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")]

_APP = """
    import sys
    import time

    class Burn:
        def __call__(self, body):
            if body == b"modules":
                return {"modules": sorted({name.partition(".")[0] for name in sys.modules} - sys.stdlib_module_names)}
            if body == b"not a photo":
                error = ValueError("no")
                error.http_status, error.reason = 415, "not an image"
                raise error
            end = time.thread_time() + 0.01
            while time.thread_time() < end:
                pass
            return {"bytes": len(body)}

    def make():
        return Burn()

    def broken():
        raise RuntimeError("the weights are torn")
"""


@dataclass
class Setup:
    app: App
    ledger: Ledger


@pytest.fixture
def burn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "rayserve_burn_app.py").write_text(textwrap.dedent(_APP))
    monkeypatch.syspath_prepend(tmp_path)
    ledger = Ledger.create(f"test-rayserve-{os.getpid()}")
    app = App("burn", "1", (Component("burn", "rayserve_burn_app:make"),), "burn")
    yield Setup(app, ledger)
    written = "".join(file.read_text() for file in (tmp_path / "state").rglob("*.jsonl"))
    names = set(re.findall(r"[^\"]*/(?:mls|mlscale)-[0-9a-f]{8}", written))
    assert names, "the ledger names the sandbox"
    assert [name for name in names if Path(name).exists()] == [], "nothing is left behind"
    ledger.close()
    assert not list((tmp_path / "state").rglob("*.jsonl")), "and the ledger agrees"


# The quota is generous, since the tests don't depend on it and a replica's start costs 4 s of CPU.
_QUICK = {"cpu_cores": 1.0, "max_replicas": 3, "downscale_delay_s": 2.0, "upscale_delay_s": 0.5}


def _scaling(**changes: Any) -> RayServeScaling:
    return RayServeScaling(**{**RayServe().arm("matched").model_dump(), **_QUICK, **changes})


def test_scales_with_the_load_recovers_and_loses_no_request(burn: Setup) -> None:
    environment = RayServe()
    photos = [b"photo-1", b"photo-2"]
    with environment.deploy(burn.app, {"burn": _scaling()}, "live", burn.ledger, photos) as deployed:
        watched = Watched(deployed, patience_s=150.0)
        try:
            _answers_like_the_contract(deployed)
            assert exposed(processes(deployed.box).values()) == []
            load = load_clients.start(deployed, 8, "photo")
            watched.until(lambda: watched.now() == (3, 0, 3), "three replicas are ready")
            _under_load(watched, deployed)
            replies = load_clients.replies(load)
            _ray_is_imported_within_the_quota(watched)
            assert {reply["status"] for reply in replies} == {200}, "no request is lost while scaling up"
            light = load_clients.start(deployed, 1, "photo", pause_s=0.1)  # demands less than one replica
            watched.until(lambda: watched.now() == (1, 0, 1), "one replica is left")
            watched.until(lambda: len(watched.events("replica_removed")) == 2, "two replicas are removed")
            assert {reply["status"] for reply in load_clients.replies(light)} == {200}, (
                "no request is lost while scaling down"
            )
            decisions = [e for e in watched.events("scale_decision") if e.detail["from"] != e.detail["to"]]
            assert decisions[0].detail["from"] == 1
            assert decisions[-1].detail["to"] == 1
            assert all("requests queued or in service" in e.detail["reason"] for e in decisions)
            known = [e.known_within_s for e in watched.events()]
            assert min(known) >= 0
            assert median(known) < 2, "a delayed look on a busy host may make single events less exact"
            _kill_a_replica(watched, deployed)
            _kill_the_raylet(watched, deployed)
        finally:
            watched.close()


def _answers_like_the_contract(deployed: SandboxDeployed) -> None:
    asked_s, answer = time.monotonic(), load_clients.ask_once(deployed, "photo")
    assert answer["status"] == 200
    assert json.loads(answer["text"]) == {"bytes": 5}
    headers = answer["headers"]
    assert headers["x-mlscale-replica"] in deployed.box.replicas(), "the replica's name is its cgroup's"
    assert asked_s < float(headers["x-mlscale-started-s"]) < time.monotonic()
    assert 0.01 <= float(headers["x-mlscale-cpu-s"]) <= float(headers["x-mlscale-inference-s"]) + 0.01
    refused = load_clients.ask_once(deployed, "not a photo")
    assert (refused["status"], json.loads(refused["text"])) == (415, {"error": "not an image"})
    _no_package_but_those_known_of_costs_a_start(json.loads(load_clients.ask_once(deployed, "modules")["text"]))
    facts = deployed.facts
    assert facts["deployment"]["autoscaling_config"]["target_ongoing_requests"] == 1.0
    assert facts["deployment"]["max_ongoing_requests"] == 1
    assert "runtime_env" not in facts["deployment"]["ray_actor_options"], "a path of this run alone"
    assert facts["constants"]["CONTROL_LOOP_INTERVAL_S"] == 0.1
    assert facts["sandbox"]["isolated"]


def _no_package_but_those_known_of_costs_a_start(answer: dict[str, list[str]]) -> None:
    """Ray imports some packages if they are there; METHOD says which, and why they are left."""
    by_serve = {"pandas", "pyarrow", "python-dateutil", "six", "psutil", "tqdm", "wcwidth", "colorama", "setuptools"}
    by_jsonschema = {"arrow", "fqdn", "isoduration", "jsonpointer", "rfc3339-validator", "uri-template", "webcolors"}
    imported = distributions_of(answer["modules"])
    assert {"ray", "fastapi"} <= imported
    needed = needed_by("ray[serve]", "uvicorn[standard]")
    assert imported - needed <= by_serve | by_jsonschema | {"rfc3986-validator"}


def _under_load(watched: Watched, deployed: SandboxDeployed) -> None:
    """Events and resource use while three replicas work."""
    ready = {event.subject: event for event in watched.events("replica_ready")}
    assert ready.keys() == deployed.box.replicas().keys(), "events and cgroups name the same replicas"
    started = {event.subject: event for event in watched.events("replica_started")}
    assert all(started[name].t_s < event.t_s for name, event in ready.items())
    resources = [sample for sample in list(watched.seen) if isinstance(sample, ResourceSample)]
    roles = {sample.role for sample in resources if sample.cpu_cores > 0}
    assert {"replica", "data_plane", "control_plane", "load_generator", "host"} <= roles
    limited = [sample for sample in resources if sample.role == "replica"]
    assert all(sample.nr_periods == sample.nr_periods for sample in limited), "each replica has its quota"
    times = sorted(sample.t_s for sample in watched.samples() if sample.t_s >= 0)
    assert len(times) / (times[-1] - times[0]) > 1, "twice a second, or once on a host that is busy with other tests"


def _ray_is_imported_within_the_quota(watched: Watched) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import ray"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    limit_s = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 4
    assert all(0 < event.detail["cpu_before_s"] < limit_s for event in watched.events("replica_started"))


def _kill_a_replica(watched: Watched, deployed: SandboxDeployed) -> None:
    remaining = watched.until(  # Ray reports a replica as removed a moment before its process has ended
        lambda: [*replicas] if len(replicas := deployed.box.replicas().items()) == 1 else None,
        "one replica's process is left",
    )
    ((name, processes),) = remaining
    os.kill(processes[0].outside, signal.SIGKILL)
    watched.until(lambda: [e for e in watched.events("replica_failed") if e.subject == name], "its failure is reported")
    watched.until(lambda: watched.now() == (1, 0, 1), "Ray has replaced it")
    watched.until(lambda: name not in deployed.box.replicas(), "its process is gone")


def _kill_the_raylet(watched: Watched, deployed: SandboxDeployed) -> None:
    os.kill(processes(deployed.box)[deployed.facts["vital"]["raylet"]], signal.SIGKILL)
    watched.thread.join(30)
    assert watched.lost is not None, "observation is lost"
    assert "raylet" in str(watched.lost) or "ended" in str(watched.lost)


def test_a_model_that_does_not_load_is_an_error(burn: Setup) -> None:
    app = App("burn", "1", (Component("burn", "rayserve_burn_app:broken"),), "burn")
    deploy = RayServe().deploy(app, {"burn": _scaling()}, "live", burn.ledger, [])
    with pytest.raises(MlscaleError, match="the weights are torn"), deploy:
        pytest.fail("deployed a model that does not load")


def test_without_namespaces_its_port_is_its_own(burn: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the kernel would spread connections over all deployments of the host."""
    monkeypatch.setattr("mlscale.host.sandbox.start_first_process", lambda *_: "no namespaces in this test")
    with RayServe().deploy(burn.app, {"burn": _scaling()}, "live", burn.ledger, [b"photo"]) as deployed:
        port = URL(deployed.url).port
        assert port not in (None, 8000)
        assert load_clients.ask_once(deployed, "photo")["status"] == 200
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                other.bind(("127.0.0.1", port))
