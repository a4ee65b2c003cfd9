"""Ray Serve on a cluster of three nodes that somebody else started: measured by address, and left as it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import psutil
import pytest
from ray_nodes import ADDRESS, HEAD, processes, ray_cluster

from mlscale.environments.base import own_model
from mlscale.environments.rayserve import load_node, rest
from mlscale.environments.rayserve.environment import RayServe
from mlscale.measurement.measure import MeasureOptions, measure
from mlscale.runs import ClosedLoop, ClosedStage

# Its interfaces and namespaces would be leftovers to the tests that count them.
SENDER = "10.214.7.4"
needs_root = pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="network namespaces need root")
pytestmark = [pytest.mark.live, pytest.mark.proof, needs_root]

MODULES = """
    import os
    import time

    from ray import serve


    def make():
        def answer(body):
            end_s = time.thread_time() + 0.03
            while time.thread_time() < end_s:
                pass
            return {"length": len(body)}

        return answer


    @serve.deployment
    class Other:
        def __call__(self, request):
            return str(os.getpid())


    other = Other.bind()
"""


@pytest.fixture(scope="module")
def modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("modules")
    (folder / "on_the_nodes.py").write_text(dedent(MODULES))
    return folder


@pytest.fixture(scope="module")
def nodes(modules: Path) -> Iterator[Callable[[], Any]]:
    """Three nodes; what adds another."""
    with ray_cluster(3, 2, modules) as add:
        yield add


@pytest.fixture(scope="module")
def api(nodes: Callable[[], Any]) -> rest.ServeApi:
    """Three nodes, on which an application of somebody else runs."""
    found = rest.ServeApi(ADDRESS)
    until(lambda: answers(found), "the dashboard answers")
    config = {"name": "other", "route_prefix": "/other", "import_path": "on_the_nodes:other"}
    http = {"host": "0.0.0.0", "port": 8123}
    found.put({"applications": [config], "http_options": http, "proxy_location": "HeadOnly"})
    until(lambda: state(found).get("other", {}).get("status") == "RUNNING", "the other application runs")
    return found


def answers(api: rest.ServeApi) -> bool:
    try:
        api.details()
    except rest.Unreachable:
        return False
    return True


def state(api: rest.ServeApi) -> dict[str, Any]:
    """Everything that runs there, without the time at which it was deployed."""
    applications = api.details()["applications"]
    return {name: {**each, "last_deployed_time_s": 0} for name, each in applications.items()}


def other(api: rest.ServeApi) -> tuple[str, Mapping[str, Any]]:
    """Which process answers for the other application, and what Serve says of it."""
    with urllib.request.urlopen(f"http://{HEAD}:8123/other", timeout=30) as answer:
        return answer.read().decode(), state(api)["other"]


def until(condition: Any, what: str) -> None:
    deadline_s = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.3)


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    folder = tmp_path / "bodies"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text("x" * (10 + number))
        with (folder / "labels.jsonl").open("a") as labels:
            labels.write(json.dumps({"file": f"{number}.txt", "answer": {"length": 10 + number}}) + "\n")
    return folder


def test_it_is_measured_by_address_and_left_as_it_was(
    api: rest.ServeApi, nodes: Callable[[], Any], bodies: Path, tmp_path: Path
) -> None:
    before = other(api)
    joining = threading.Timer(15.0, nodes)
    joining.start()
    stages = (ClosedStage(start_s=0, clients=1), ClosedStage(start_s=10, clients=12))
    load = ClosedLoop(duration_s=40.0, stages=stages, think_mean_s=0.05)
    options = MeasureOptions(idle_s=3.0, quiet_at_most_s=0.0)
    scaling = {"address": ADDRESS, "max_replicas": 3, "cpu_cores": 1.0}
    run = measure(
        "rayserve",
        own_model("on_the_nodes:make"),
        load,
        bodies=bodies,
        out=tmp_path / "run",
        scaling=scaling,
        options=options,
    )
    joining.join()
    assert run.info.complete
    (joined,) = (event for event in run.event_list if event.kind == "machine_registered")
    assert datetime.fromisoformat(str(joined.source_time)).timestamp() < time.time()
    assert set(run.replicas["machines_ready"].dropna()) == {3, 4}
    assert (run.requests["status"] == "ok").mean() > 0.98, "and right"
    assert run.replicas["ready"].max() == 3, "replicas were added"
    decisions = run.events[run.events["kind"] == "scale_decision"]
    assert len(decisions)
    named = set(run.events[run.events["kind"] == "replica_ready"]["subject"])
    assert set(run.requests["replica_id"].dropna()) == named, "answers name the replicas that Ray lists"
    assert run.info.no_quota, "Ray limits no replica"
    assert run.info.facts["limits"]["cores"] >= 1
    assert set(run.info.facts["node_cpus"].values()) == {2.0}
    assert other(api) == before
    assert state(api).keys() == {"other"}


def test_a_node_sends_the_load(api: rest.ServeApi, bodies: Path, tmp_path: Path) -> None:
    """And what the autoscaler counts is in its metrics, later than what it decided is in the REST API."""
    before = other(api)
    load = ClosedLoop(
        duration_s=60.0,
        stages=(ClosedStage(start_s=0, clients=1), ClosedStage(start_s=20, clients=8)),
        think_mean_s=0.1,
    )
    run = measure(
        "rayserve",
        own_model("on_the_nodes:make"),
        load,
        bodies=bodies,
        out=tmp_path / "run",
        scaling={"address": ADDRESS, "load_from": SENDER, "max_replicas": 3, "cpu_cores": 1.0},
        options=MeasureOptions(idle_s=3.0, quiet_at_most_s=0.0),
    )
    assert run.info.complete
    assert (run.requests["status"] == "ok").mean() > 0.98, "bodies and right answers were there"
    assert run.requests["replica_id"].nunique() > 1
    assert SENDER in run.info.facts["load"]["remote"]
    assert run.info.stimulus is not None
    (clock,) = run.info.stimulus.clocks
    assert SENDER in clock.machine
    assert abs(clock.ahead_s) <= clock.within_s <= 0.02, "all nodes have this machine's clock"
    assert run.resources.empty, "this host's use is not that of the load"
    created = [event for event in run.event_list if event.kind == "replica_created"]
    assert {event.detail["node"] for event in created} <= run.info.facts["node_cpus"].keys()
    decisions = [event for event in run.event_list if event.kind == "scale_decision"]
    assert any(event.detail["to"] > event.detail["from"] for event in decisions)
    counts = [event for event in decisions if "total" in event.detail]
    assert max(event.detail["total"] for event in counts) > 1.0
    api_late, metrics_late = (run.info.facts["sources"][name]["late_median_s"] for name in ("rest_api", "metrics"))
    assert api_late < metrics_late
    assert all(
        event.known_within_s <= run.info.facts["sources"]["metrics"]["late_at_most_s"] + 1e-3 for event in counts
    )
    assert other(api) == before
    assert sending() == []


def sending() -> list[str]:
    """Command lines of load jobs on the node that sends."""
    files = (Path(f"/proc/{pid}/cmdline") for pid in processes(2))
    lines = (file.read_bytes().replace(b"\0", b" ").decode() for file in files if file.exists())
    return [line for line in lines if "mlscale.loadgen.remote_job" in line]


def test_no_node_sends_after_a_kill(
    api: rest.ServeApi, modules: Path, bodies: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL to the command and to the process here that relays what the node sends."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = other(api)
    load = ClosedLoop(duration_s=900.0, stages=(ClosedStage(start_s=0, clients=1),), think_mean_s=0.1)
    (tmp_path / "load.json").write_text(load.model_dump_json())
    words = ["--app", "on_the_nodes:make", "--bodies", bodies, "--out", tmp_path / "run"]
    words += [
        "--schedule",
        tmp_path / "load.json",
        "--scaling",
        f"address={ADDRESS}",
        "--scaling",
        f"load_from={SENDER}",
    ]
    words += ["--set", "idle_s=0", "--set", "quiet_at_most_s=0"]
    argv = [sys.executable, "-m", "mlscale.commands.cli", "measure", "rayserve", *map(str, words)]
    with (tmp_path / "log").open("w") as log:
        command = subprocess.Popen(argv, cwd=modules, stdout=log, stderr=log)
    until(lambda: sending() or command.poll() is not None, "the node sends")
    assert command.poll() is None, (tmp_path / "log").read_text()
    for process in [*psutil.Process(command.pid).children(recursive=True), command]:
        process.kill()
    command.wait()
    until(lambda: not sending(), "the node stops")
    cleaned = subprocess.run(
        [sys.executable, "-m", "mlscale.commands.cli", "cleanup"], capture_output=True, text=True, check=False
    )
    assert cleaned.returncode == 0, cleaned.stderr
    assert state(api).keys() == {"other"}
    assert other(api) == before


def test_what_a_node_can_not_send_is_refused_first(api: rest.ServeApi, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = RayServe()
    scaling = environment.arm("matched").model_copy(update={"address": ADDRESS, "load_from": "10.9.9.9"})
    (problem,) = environment.preflight(own_model("json:loads"), {"app": scaling}, "live")
    assert "no node '10.9.9.9'" in problem.what
    assert SENDER in problem.remedy
    there = scaling.model_copy(update={"load_from": SENDER})
    assert environment.preflight(own_model("json:loads"), {"app": there}, "live") == []
    monkeypatch.setattr(load_node, "_CLIENT_PORT", 9)
    (problem,) = environment.preflight(own_model("json:loads"), {"app": there}, "live")
    assert "can't connect" in problem.what
    assert "Ray Client" in problem.remedy


KILLED = """
import os, signal, sys
from mlscale.environments.rayserve import rest
from mlscale.commands.cli import main

asked, moment, real = [0], sys.argv[1], rest.ServeApi._ask

def ask(self, method, body, timeout_s, path=rest._PATH):
    if method == "PUT":
        asked[0] += 1
        if moment == f"before {asked[0]}":
            os.kill(os.getpid(), signal.SIGKILL)
    answer = real(self, method, body, timeout_s, path)
    if method == "PUT" and moment == f"after {asked[0]}":
        os.kill(os.getpid(), signal.SIGKILL)
    return answer

rest.ServeApi._ask = ask
sys.argv = ["mlscale", *sys.argv[2:]]
main()
"""


@pytest.mark.parametrize("moment", ["before 1", "after 1", "before 2", "after 2"])
def test_another_application_survives_a_kill(
    api: rest.ServeApi, modules: Path, bodies: Path, tmp_path: Path, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL around each change of the cluster, then `mlscale cleanup`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    before = other(api)
    words = [
        "measure",
        "rayserve",
        "--app",
        "on_the_nodes:make",
        "--bodies",
        str(bodies),
        "--out",
        str(tmp_path / "run"),
    ]
    load = ClosedLoop(duration_s=3.0, stages=(ClosedStage(start_s=0, clients=1),), think_mean_s=0.1)
    (tmp_path / "load.json").write_text(load.model_dump_json())
    words += ["--scaling", f"address={ADDRESS}", "--schedule", str(tmp_path / "load.json")]
    words += ["--set", "idle_s=0", "--set", "quiet_at_most_s=0"]
    argv = [sys.executable, "-c", KILLED, moment, *words]
    done = subprocess.run(argv, cwd=modules, capture_output=True, text=True, check=False)
    assert done.returncode == -9, done.stderr
    cleaned = subprocess.run(
        [sys.executable, "-m", "mlscale.commands.cli", "cleanup"], capture_output=True, text=True, check=False
    )
    assert cleaned.returncode == 0, cleaned.stderr
    assert state(api).keys() == {"other"}
    assert other(api) == before
    assert not list((tmp_path / "state").rglob("*.jsonl"))


def test_an_application_that_the_nodes_lack_is_named_and_removed(
    api: rest.ServeApi, bodies: Path, tmp_path: Path
) -> None:
    before = other(api)
    with pytest.raises(Exception, match="not_there") as caught:
        measure(
            "rayserve",
            own_model("not_there:make"),
            ClosedLoop(duration_s=5.0, stages=(ClosedStage(start_s=0, clients=1),), think_mean_s=0.1),
            bodies=bodies,
            out=tmp_path / "run",
            scaling={"address": ADDRESS},
            options=MeasureOptions(quiet_at_most_s=0.0),
        )
    assert "every node needs mlscale" in str(caught.value)
    assert state(api).keys() == {"other"}
    assert other(api) == before


def test_no_cluster_there() -> None:
    environment = RayServe()
    scaling = environment.arm("matched").model_copy(update={"address": "http://127.0.0.1:9"})
    (problem,) = environment.preflight(own_model("json:loads"), {"app": scaling}, "live")
    assert "no answer" in problem.what
    assert ":8265" in problem.remedy
