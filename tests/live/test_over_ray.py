"""A load, a sweep and an advice over a real Ray cluster, whose two nodes stand for two machines."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest

from mlscale.loadgen.schedules import send_times
from mlscale.runs import ClosedLoop, ClosedStage, Constant, OpenLoop, Ramp, load_run
from mlscale_twin.strategy.advice import AdviseOptions, advise
from mlscale_twin.strategy.objective import Objective
from mlscale_twin.studies.sweep import execute, grid, sweep

pytestmark = pytest.mark.live


class Handler(BaseHTTPRequestHandler):
    """Answers every POST with its body."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="ray") as folder, pytest.MonkeyPatch.context() as environment:
        environment.setenv("RAY_agent_register_timeout_ms", "120000")
        # Whatever temp_dir is, Ray's Cluster writes its address below this folder, and does not create it.
        environment.setenv("RAY_TMPDIR", folder)
        Path(folder, "ray").mkdir()
        cluster = started(folder)
        yield cluster.address
        cluster.shutdown()


def started(folder: str, tries: int = 3) -> Any:
    """Two nodes with their files in ``folder``. Ray waits 30 s for a node, which is too short on a busy machine, and
    leaves the processes of one that was late."""
    from ray.cluster_utils import Cluster

    try:
        arguments = {"num_cpus": 1, "include_dashboard": False, "temp_dir": folder}
        cluster = Cluster(initialize_head=True, head_node_args=arguments)
        cluster.add_node(num_cpus=1, temp_dir=folder)
        return cluster
    except Exception as error:  # a bare one
        subprocess.run(["pkill", "-9", "-f", folder], check=False)
        if "timed out during startup" not in str(error) or tries == 1:
            raise
    return started(folder, tries - 1)


@pytest.fixture
def bodies(tmp_path: Path) -> Path:
    folder = tmp_path / "bodies"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.txt").write_text(f"body {number}")
    return folder


def start(url: str, address: str, bodies: Path, out: Path, duration_s: float) -> subprocess.Popen[str]:
    words = [url, "--bodies", bodies, "--rate", 40, "--duration", duration_s, "--set", "workers=2"]
    words += ["--set", f"ray={address}"]
    argv = [sys.executable, "-m", "mlscale.commands.cli", "load", *map(str, words), "--out", str(out)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def jobs() -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "mlscale.loadgen.remote_job" in (process.info["cmdline"] or [])
    ]


def folders() -> list[Path]:
    """With the files to send, on the machines of workers."""
    return list(Path(tempfile.gettempdir()).glob("mlscale-load-[0-9]*-*"))


def until(condition: Callable[[], object], what: str) -> None:
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.1)


def test_a_lost_worker_ends_with_an_incomplete_run(url: str, address: str, bodies: Path, tmp_path: Path) -> None:
    process = start(url, address, bodies, tmp_path / "run", 300)
    until(lambda: len(jobs()) == 2 and not (tmp_path / "run/requests-0.arrow").exists(), "both workers run")
    actor = jobs()[0].parent()
    assert actor is not None
    os.kill(actor.pid, signal.SIGKILL)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "the load worker is lost" in errors.splitlines()[-1]
    run = load_run(tmp_path / "run", allow_incomplete=True)
    assert not run.info.complete
    assert "the load worker is lost" in str(run.info.incomplete_reason)
    until(lambda: jobs() == [], "nothing goes on sending")


def test_machines_share_the_schedule_exactly(url: str, address: str, bodies: Path, tmp_path: Path) -> None:
    for attempt in range(3):  # a busy machine may start a worker after the schedule's start, which ends the load
        out = tmp_path / f"run-{attempt}"
        process = start(url, address, bodies, out, 3)
        printed, errors = process.communicate(timeout=120)
        if "after the schedule's start" not in printed + errors:
            break
    assert process.returncode == 0, errors
    assert "load generator" in printed
    run = load_run(out)
    schedule = OpenLoop(duration_s=3, rate=Constant(rate_rps=40), arrivals="poisson")
    (expected,) = list(send_times(schedule, 0, 0))
    assert sorted(run.requests["request_id"]) == sorted(expected.request_id.tolist())
    assert run.requests["intended_s"].tolist() == pytest.approx(sorted(expected.intended_s.tolist()))
    assert set(run.requests["status"]) == {"ok"}
    assert set(run.requests["body_id"]) == {"0.txt", "1.txt", "2.txt"}
    assert run.info.stimulus is not None
    assert run.info.stimulus.workers == 2
    assert len(run.info.stimulus.clocks) == 2
    assert all(abs(clock.ahead_s) <= clock.within_s <= 0.002 for clock in run.info.stimulus.clocks), "one machine's"
    assert jobs() == []
    assert folders() == [], "nor what the killed worker of the test before has left"


def test_a_sweep_as_in_a_process(address: str, tmp_path: Path) -> None:
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=20, clients=12))
    step = ClosedLoop(duration_s=60.0, stages=stages, think_mean_s=0.7)
    tasks = grid(["torchserve"], step, {"max_replicas": [2, 4]}, 1)
    table = sweep(tasks, tmp_path / "sweep.jsonl", address=address)
    for task, row in zip(tasks, table.to_dict(orient="records"), strict=True):
        expected = execute(task)
        assert {name: row[name] for name in expected} == pytest.approx(expected)


def test_an_advice_as_from_processes(address: str) -> None:
    load = OpenLoop(duration_s=300.0, rate=Ramp(from_rps=1.0, to_rps=6.0))
    options = AdviseOptions(environments=("k3s",), settings=10)
    here, over_ray = (
        advise(load, Objective(p95_s=1.0), options.model_copy(update={"ray": place})) for place in (None, address)
    )
    for place, entry in here.advised.items():
        other = over_ray.advised[place]
        assert other.candidate.strategy == entry.candidate.strategy
        assert other.candidate.figures == entry.candidate.figures
