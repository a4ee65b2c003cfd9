"""TorchServe, live: scaling under load without loss, killed parts, nothing left behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import load_clients
import pytest
import torchserve_burn
from exposure import exposed
from test_pasted_settings import settings
from watched import Watched

from distributions import distributions_of, needed_by
from mlscale.environments.base import App, Component
from mlscale.environments.sandbox_deployment import SandboxDeployed
from mlscale.environments.torchserve.environment import TorchServe
from mlscale.environments.torchserve.settings import TorchServeScaling
from mlscale.host.ledger import Ledger
from mlscale.runs import MlscaleError, ResourceSample
from mlscale_twin.strategy.paste import settings_files
from sandbox_processes import processes

pytestmark = pytest.mark.live

PATIENCE_S = 60.0
SCALING = TorchServeScaling(
    max_replicas=3,
    cpu_cores=0.6,
    target_ongoing=1.0,
    period_s=0.25,
    look_back_s=0.3,
    upscale_delay_s=0.5,
    downscale_delay_s=1.0,
)


def _app(entry: str) -> App:
    return App("burn", "1", (Component("app", entry),), "app")


@contextmanager
def _deployed(entry: str, scaling: TorchServeScaling, ledger: Ledger) -> Iterator[SandboxDeployed]:
    problems = TorchServe().preflight(_app(entry), {"app": scaling}, "live")
    if problems:
        pytest.skip(f"TorchServe can't run here: {problems[0].what}")
    with TorchServe().deploy(_app(entry), {"app": scaling}, "live", ledger, [b"photo 1", b"photo 2"]) as deployed:
        yield deployed


def _places(ledger: Ledger) -> tuple[Path, list[Path]]:
    """Scratch folder and cgroups of the sandbox, by the ledger."""
    rows = [json.loads(line) for line in ledger.path.read_text().splitlines()]
    (row,) = [row for row in rows if row.get("kind") == "sandbox"]
    return Path(row["identity"]["folder"]), [Path(path) for path in row["identity"]["cgroups"]]


def _processes(folder: Path, part: str = "") -> list[int]:
    """Processes whose command line contains the sandbox's folder and ``part``."""
    listing = subprocess.run(["ps", "-axww", "-o", "pid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.strip().partition(" ") for line in listing.splitlines() if str(folder) in line and part in line]
    return [int(pid) for pid, _, args in rows if "sandbox_enter" not in args]


def _nothing_left(folder: Path, groups: list[Path]) -> None:
    assert _processes(folder) == []
    assert not folder.exists()
    assert not any(group.exists() for group in groups)


def test_scales_without_loss_and_survives_a_killed_worker_but_not_a_killed_front_end() -> None:
    with Ledger.create("test-torchserve") as ledger:
        with _deployed("torchserve_burn:make", SCALING, ledger) as deployed:
            folder, groups = _places(ledger)
            assert deployed.headers["Authorization"].partition(" ")[2] not in json.dumps(deployed.facts)
            assert deployed.facts["model"]["batchSize"] == 1
            refused = load_clients.ask_once(deployed, "not a picture")
            assert (refused["status"], refused["text"]) == (400, '{"error": "not a photo"}')
            modules = json.loads(load_clients.ask_once(deployed, "modules")["text"])["modules"]
            assert distributions_of(modules) <= needed_by("torch", "torchserve") | {"numpy", "pyyaml", "tqdm"}
            guessed = replace(deployed, headers={**deployed.headers, "Authorization": "Bearer guess"})
            assert load_clients.ask_once(guessed, "photo")["status"] == 400
            assert exposed(processes(deployed.box).values()) == []
            watched = Watched(deployed, PATIENCE_S)
            heavy = load_clients.start(deployed, 6, "photo")
            watched.until(lambda: _has(watched, 3), "three workers ready")
            replies = load_clients.replies(heavy)
            light = load_clients.start(deployed, 1, "photo")
            watched.until(lambda: _has(watched, 1), "back to one worker")
            # A worker that drains is not counted any more; its removal is reported when it has ended.
            watched.until(lambda: len(watched.events("replica_removed")) == 2, "both drained workers have ended")
            assert watched.events("replica_failed") == []
            _kill_worker(watched, folder)
            replies += load_clients.replies(light)
            _check(watched)
            ended_s = _kill(watched, folder, "org.pytorch.serve.ModelServer", "Java ended|front end")
        assert time.monotonic() - ended_s < PATIENCE_S, "teardown is bounded"
        lost = [reply for reply in replies if reply["status"] != 200]
        # One request may have been in service at the killed worker; TorchServe answers it with 5xx.
        assert len(lost) <= 1, lost[:5]
        assert all(reply["status"] >= 500 for reply in lost), lost
        served = [reply["headers"] for reply in replies if reply["status"] == 200]
        assert all(float(headers["x-mlscale-cpu-s"]) >= torchserve_burn.BURN_S for headers in served)
        assert len({headers["x-mlscale-replica"] for headers in served}) >= 3
        _nothing_left(folder, groups)


def _has(watched: Watched, ready: int) -> bool:
    return watched.now() == (ready, 0, ready)


def _kill_worker(watched: Watched, folder: Path) -> None:
    (worker,) = _processes(folder, "model_service_worker.py")
    os.kill(worker, signal.SIGKILL)
    watched.until(lambda: watched.events("replica_failed"), "the killed worker is reported")
    watched.until(lambda: _has(watched, 1), "TorchServe has restarted it")
    assert watched.events("replica_ready")[-1].subject != watched.events("replica_failed")[0].subject


def _kill(watched: Watched, folder: Path, part: str, message: str) -> float:
    """Kill a part without which there is no deployment; when the observation had ended."""
    for pid in _processes(folder, part):
        os.kill(pid, signal.SIGKILL)
    watched.thread.join(PATIENCE_S)
    assert re.search(message, str(watched.lost))
    return time.monotonic()


def _check(watched: Watched) -> None:
    """Every decision has a reason, every replica its events in order, every role its samples."""
    decisions = [event.detail for event in watched.events("scale_decision")]
    assert all(detail["reason"] for detail in decisions)
    moves = [(detail["from"], detail["to"]) for detail in decisions if detail["from"] != detail["to"]]
    assert moves[0][0] == 1
    assert moves[-1][1] == 1
    for removed in watched.events("replica_removed"):
        own = [event for event in watched.events() if event.subject == removed.subject]
        kinds = [event.kind for event in sorted(own, key=lambda event: event.t_s)]
        assert kinds == ["replica_created", "replica_started", "replica_ready", "replica_draining", "replica_removed"]
        assert median(event.known_within_s for event in own) < 5, "a late look may make single events less exact"
    started = watched.events("replica_started")
    roles = {sample.role for sample in watched.seen if isinstance(sample, ResourceSample)}
    assert roles >= {"host"}
    if roles != {"host"}:  # with cgroups
        assert roles >= {"replica", "data_plane", "control_plane"}
        assert all(event.detail["cpu_before_s"] < 0.05 for event in started)


def test_it_runs_with_advised_settings_until_its_agent_is_killed_and_leaves_nothing() -> None:
    """The settings are the file that `mlscale advise` gives out to paste."""
    scaling = TorchServeScaling.model_validate_json(settings_files(settings("torchserve"))["worker-controller.json"])
    with Ledger.create("test-torchserve") as ledger:
        with _deployed("torchserve_burn:make", scaling, ledger) as deployed:
            folder, groups = _places(ledger)
            assert '"size"' in load_clients.ask_once(deployed, "photo 1")["text"]
            watched = Watched(deployed, PATIENCE_S)
            watched.until(lambda: _has(watched, 1), "one worker")
            ended_s = _kill(watched, folder, "torchserve.agent", "exit code")
        assert time.monotonic() - ended_s < PATIENCE_S, "teardown is bounded"
        _nothing_left(folder, groups)


def test_an_application_that_cannot_load_is_a_clear_error() -> None:
    with Ledger.create("test-torchserve") as ledger:
        broken = _deployed("torchserve_burn:make_broken", SCALING.model_copy(update={"cpu_cores": 1.0}), ledger)
        with pytest.raises(MlscaleError, match=r"(?s)loading the application.*the weights are corrupt"), broken:
            pytest.fail("it was deployed")
        _nothing_left(*_places(ledger))
