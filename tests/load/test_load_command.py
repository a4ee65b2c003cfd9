"""``mlscale load`` as a user meets it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from load_truth import CHECK, TruthServer, reply, right_answer

from mlscale.analysis.validity import UNOBSERVED
from mlscale.loadgen.command import HostContext, check_address, parse_headers, record_load, schedule_of
from mlscale.loadgen.process import LoadSpec
from mlscale.loadgen.thresholds import Threshold, missed, outcome_table
from mlscale.runs import ClosedLoop, ClosedStage, Constant, MlscaleError, OpenLoop, Run, Trace, Validity, load_run

MLSCALE = (sys.executable, "-m", "mlscale.commands.cli", "load")


def load(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MLSCALE, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def test_photos_are_posted_and_the_run_is_sealed(truth: TruthServer, photo_folder: Path, tmp_path: Path) -> None:
    truth.behave["/decode"] = reply(200, right_answer())
    out = tmp_path / "run"
    done = load(
        truth.url + "/decode", "--photos", photo_folder, "--check", CHECK, "--rate", 40, "--duration", 1, "--out", out
    )
    assert done.returncode == 0, done.stderr
    run = load_run(out)
    assert run.info.complete
    assert (run.info.environment, run.info.level, run.info.mode, run.info.arm) == ("none", "none", "live", "none")
    assert run.info.photos["count"] == 3
    assert run.info.stimulus is not None
    assert run.info.validity is not None
    assert len(run.requests) == len(truth.arrivals) == run.info.stimulus.sent > 0
    assert set(run.requests["status"]) == {"ok"}
    assert list(run.events["kind"]) == ["load_step"]
    lines = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "40 requests/s, poisson arrivals, for 1 s" in lines["requested"]
    assert f"({len(run.requests):,}, 100.00% of it)" in lines["delivered"]
    assert "none" in lines["failures"]
    mean_ms = 1000 * (run.requests["done_s"] - run.requests["intended_s"]).mean()
    assert f"mean {mean_ms:.2f} ms" in lines["response (of those)"]
    assert ("yes" in lines["valid"]) == run.info.validity.valid


def record(url: str, schedule: OpenLoop | ClosedLoop, out: Path, **changes: Any) -> Run:
    """The command's work in this process; every run is judged valid and nothing is sampled."""
    spec = LoadSpec(url, schedule, start_s=None, **changes)
    return record_load(spec, out, HostContext(lambda run: Validity(valid=True), {}, lambda clock: ()))


def test_failures_are_listed_and_without_photos_it_is_a_get(truth: TruthServer, tmp_path: Path) -> None:
    truth.behave["/"] = reply(503)
    schedule = ClosedLoop(duration_s=0.5, stages=(ClosedStage(start_s=0, clients=2),), think_mean_s=0.05)
    run = record(truth.url + "/", schedule, tmp_path / "run")
    assert f"http_5xx {len(run.requests):,} (100.00% of requests)" in outcome_table(run)
    assert "2 clients for 0.5 s" in outcome_table(run)
    assert len(run.requests) == len(truth.arrivals) > 0
    assert {body for _, _, body in truth.arrivals} == {b""}
    assert "response (of failures)" in outcome_table(run)
    assert missed(run, []) == ["no request was answered correctly"]


def test_interrupted_the_run_is_kept_and_says_so(truth: TruthServer, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [*MLSCALE, truth.url, "--rate", "50", "--duration", "600", "--out", str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline_s = time.monotonic() + 40
        while len(truth.arrivals) < 20:
            assert time.monotonic() < deadline_s
            assert process.poll() is None
            os.sched_yield()
        process.send_signal(signal.SIGTERM)
        printed, _ = process.communicate(timeout=20)
        assert process.returncode == 143
    run = load_run(out, allow_incomplete=True)
    assert run.info.incomplete_reason == "interrupted"
    assert len(run.requests) >= 20
    assert "(incomplete: interrupted)" in printed, "a summary, and where the run lies"
    assert str(out) in printed
    assert run.info.stimulus is not None
    assert f"({run.info.stimulus.sent:,}, " in printed


def test_header_method_body_and_a_missed_threshold(truth: TruthServer, tmp_path: Path) -> None:
    """And a load of three seconds says how busy the host was."""
    out = tmp_path / "run"
    arguments = ["--header", "X-Key: 1", "--method", "PUT", "--body", '{"a": 1}', "--threshold", "p99.9<0.000001"]
    done = load(truth.url + "/", *arguments, "--rate", 20, "--duration", 3, "--out", out, "--json")
    assert done.returncode == 99, done.stderr
    printed = json.loads(done.stdout)
    assert (printed["run"], printed["failed"]) == (str(out), 0)
    assert 0 < printed["mean"] <= printed["p99.9"] < 1
    assert "mlscale load: threshold p99.9<0.000001 is missed: p99.9 is " in done.stderr
    assert {body for _, _, body in truth.arrivals} == {b'{"a": 1}'}
    assert all(head.startswith("put ") for head in truth.heads)
    assert all("x-key: 1" in head and "content-type: application/json" in head for head in truth.heads)
    run = load_run(out)
    assert run.info.facts["request"] == {"method": "PUT", "headers": ["X-Key"]}, "no values: they may be secrets"
    assert run.info.validity is not None
    assert UNOBSERVED not in run.info.validity.reasons
    assert missed(run, [Threshold.parse("failed <= 0"), Threshold.parse("rps>1"), Threshold.parse("mean<30")]) == []


@pytest.mark.parametrize("text", ["p95", "p95=1", "p42<1", "p95<fast", "<1", "p95<-1"])
def test_no_threshold(text: str) -> None:
    with pytest.raises(MlscaleError, match="is not a threshold"):
        Threshold.parse(text)


@pytest.mark.parametrize("text", ["nonsense", "two words: x", ": x", "a: x\r\nb: y"])
def test_no_header(text: str) -> None:
    with pytest.raises(MlscaleError, match="is not a header"):
        parse_headers([text])


FIVE = OpenLoop(duration_s=600, rate=Constant(rate_rps=5))


def test_a_worker_that_fails_before_it_sends_leaves_nothing(
    truth: TruthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "/bin/false")
    with pytest.raises(MlscaleError, match="exited with code 1"):
        record(truth.url, FIVE, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_can_not_be_done_is_one_line_and_leaves_nothing(truth: TruthServer, tmp_path: Path) -> None:
    out, empty, full = tmp_path / "run", tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    full.mkdir()
    (full / "mine").write_text("precious")
    with socket.socket() as taken:  # bound, not listening
        taken.bind(("127.0.0.1", 0))
        nowhere = f"http://127.0.0.1:{taken.getsockname()[1]}/"
        with pytest.raises(MlscaleError, match="can't connect"):
            record(nowhere, FIVE, out)
    with pytest.raises(MlscaleError, match="no files"):
        record(truth.url, FIVE, out, bodies=empty)
    with pytest.raises(MlscaleError, match="not empty"):
        record(truth.url, FIVE, full)
    for workers in (0, 10_000):
        with pytest.raises(MlscaleError, match=r"^--workers: .*use 1 to 64"):
            record(truth.url, FIVE, out, workers=workers)
    done = load("nonsense", "--rate", 5, "--out", out)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert not out.exists()
    assert [file.name for file in full.iterdir()] == ["mine"]
    assert truth.arrivals == []


@pytest.mark.parametrize(
    "url",
    ["nonsense", "ftp://127.0.0.1/x", "http://", "http://[::1/", "http://127.0.0.1:99999/", "http://no such host/"],
)
def test_no_address(url: str) -> None:
    with pytest.raises(MlscaleError) as caught:
        check_address(url)
    assert "\n" not in str(caught.value)


def options(**changes: object) -> dict[str, object]:
    given = {"rate": None, "clients": None, "file": None, "duration_s": None, "arrivals": "poisson", "think_s": 0.0}
    return given | changes


def test_schedules_of_the_options(tmp_path: Path) -> None:
    assert schedule_of(**options(rate=50.0)) == OpenLoop(duration_s=60, rate=Constant(rate_rps=50))  # type: ignore[arg-type]
    closed = schedule_of(**options(clients=8, duration_s=5.0, think_s=0.2))  # type: ignore[arg-type]
    assert isinstance(closed, ClosedLoop)
    assert (closed.stages[0].clients, closed.duration_s, closed.think_mean_s) == (8, 5, 0.2)
    trace = tmp_path / "t.csv"
    trace.write_text("time_s\n1\n2\n")
    assert schedule_of(**options(file=trace, duration_s=1.5)).duration_s == 1.5  # type: ignore[arg-type]
    faster = schedule_of(**options(file=trace, speed=2.0, keep=0.5))  # type: ignore[arg-type]
    assert isinstance(faster, OpenLoop)
    assert isinstance(faster.rate, Trace)
    assert (faster.duration_s, faster.rate.speed, faster.rate.keep) == (1.5, 2.0, 0.5)
    trace.write_text("time_s,rate_rps\n0,1e9\n")
    with pytest.raises(MlscaleError, match="can't be sent"):
        schedule_of(**options(file=trace))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, "exactly one"),
        ({"rate": 5.0, "clients": 2}, "exactly one"),
        ({"rate": -5.0}, "^--rate: -5.0 is invalid"),
        ({"rate": 1e9}, "^--rate: .*less than or equal to 1000000"),
        ({"rate": float("nan")}, "^--rate"),
        ({"rate": 0.0}, "--rate"),
        ({"rate": 5.0, "duration_s": 0.0}, "^--duration"),
        ({"rate": 5.0, "duration_s": -1.0}, "^--duration"),
        ({"rate": 5.0, "arrivals": "bursty"}, "^--arrivals"),
        ({"clients": -1}, "^--clients"),
        ({"clients": 0}, "--clients"),
        ({"clients": 1, "think_s": -0.5}, "^--think"),
        ({"rate": 5.0, "speed": 2.0}, "^--speed: this load is not a CSV trace"),
        ({"file": Path("t.csv"), "keep": 0.0}, "^--keep"),
        ({"file": Path("t.csv"), "speed": float("inf")}, "^--speed"),
        ({"file": Path("s.json"), "duration_s": 5.0}, "--duration"),
    ],
)
def test_options_that_make_no_schedule(changes: dict[str, object], named: str) -> None:
    with pytest.raises(MlscaleError, match=named):
        schedule_of(**options(**changes))  # type: ignore[arg-type]
