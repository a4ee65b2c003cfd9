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
from mlscale.commands.load import LoadSettings, schedule_of
from mlscale.commands.load_summary import Threshold, missed, summary_table
from mlscale.commands.options import read_set
from mlscale.measurement import load_test
from mlscale.measurement.load_test import check_address
from mlscale.runs import ClosedLoop, ClosedStage, Constant, MlscaleError, OpenLoop, Trace, load_run

MLSCALE = (sys.executable, "-m", "mlscale.commands.cli", "load")


def load(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*MLSCALE, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def test_photos_are_posted_and_the_run_is_sealed(truth: TruthServer, photo_folder: Path, tmp_path: Path) -> None:
    truth.behave["/decode"] = reply(200, right_answer())
    out = tmp_path / "run"
    done = load(
        truth.url + "/decode",
        "--photos",
        photo_folder,
        "--set",
        f"check={CHECK}",
        "--rate",
        40,
        "--duration",
        1,
        "--out",
        out,
    )
    assert done.returncode == 0, done.stderr
    run = load_run(out)
    assert run.info.complete
    assert (run.info.environment, run.info.level, run.info.mode, run.info.arm) == ("none", "none", "live", "none")
    assert run.info.bodies["count"] == 3
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


def test_failures_are_listed_and_without_photos_it_is_a_get(truth: TruthServer, tmp_path: Path) -> None:
    truth.behave["/"] = reply(503)
    schedule = ClosedLoop(duration_s=0.5, stages=(ClosedStage(start_s=0, clients=2),), think_mean_s=0.05)
    run = load_test.load(truth.url + "/", schedule, out=tmp_path / "run")
    assert f"http_5xx {len(run.requests):,} (100.00% of requests)" in summary_table(run)
    assert "2 clients for 0.5 s" in summary_table(run)
    assert len(run.requests) == len(truth.arrivals) > 0
    assert {body for _, _, body in truth.arrivals} == {b""}
    assert "response (of failures)" in summary_table(run)
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
    assert run.info.incomplete_reason == "ended by a signal"
    assert len(run.requests) >= 20
    assert "(incomplete: ended by a signal)" in printed, "a summary, and where the run lies"
    assert str(out) in printed
    assert run.info.stimulus is not None
    assert f"({run.info.stimulus.sent:,}, " in printed


def test_header_method_body_and_a_missed_threshold(truth: TruthServer, tmp_path: Path) -> None:
    """And a load of three seconds says how busy the host was."""
    out = tmp_path / "run"
    settings = ["--set", "headers.X-Key=1", "--set", "method=PUT", "--set", 'body={"a": 1}']
    done = load(
        truth.url + "/",
        *settings,
        "--threshold",
        "p99.9<0.000001",
        "--rate",
        20,
        "--duration",
        3,
        "--out",
        out,
        "--json",
    )
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


@pytest.mark.parametrize(
    ("pair", "named"),
    [
        ("nonsense", "'nonsense' is not KEY=VALUE"),
        ("nothing=1", "unknown setting 'nothing' .*arrivals, body, check, connections"),
        ("nothing.at=1", "unknown setting 'nothing'"),
        ("timeout_s=0", "^--set: setting 'timeout_s' is '0'"),
        ("timeout_s=inf", "timeout_s"),
        ("workers=0", "workers"),
        ("workers=65", "workers"),
        ("seed=-1", "seed"),
        ("connections=some", "connections"),
        ("method=GET it", "method"),
        ("body=\udcff", "body"),
        ("headers=X", "headers"),
        ("headers.two words=x", "'two words: x' is not a header"),
        ("headers.=x", "is not a header"),
        ("headers.a=x\r\nb: y", "is not a header"),
        ("arrivals=bursty", "arrivals"),
        ("think_mean_s=-0.5", "think_mean_s"),
        ("keep=0", "keep"),
        ("speed=inf", "speed"),
    ],
)
def test_settings_that_make_no_sense(pair: str, named: str) -> None:
    with pytest.raises(MlscaleError, match=named):
        read_set(LoadSettings, [pair])


def test_help_names_every_setting_and_fits_a_screen_and_old_options_name_the_new_ones() -> None:
    shown = subprocess.run([*MLSCALE, "--help"], capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"})
    assert len(shown.stdout.splitlines()) <= 44
    for key in LoadSettings.model_fields:
        assert key in shown.stdout, key
    for option, present in {"--header": "headers.NAME=VALUE", "--timeout": "timeout_s=", "--ray": "ray="}.items():
        done = load("http://127.0.0.1:9/", option, "x", "--rate", 5, "--out", "out")
        assert done.returncode == 2
        assert f"{option} is now --set {present} (see " in done.stderr


FIVE = OpenLoop(duration_s=600, rate=Constant(rate_rps=5))


def test_a_worker_that_fails_before_it_sends_leaves_nothing(
    truth: TruthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false") or "/bin/false")
    with pytest.raises(MlscaleError, match="exited with code 1"):
        load_test.load(truth.url, FIVE, out=tmp_path / "run")
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
            load_test.load(nowhere, FIVE, out=out)
    with pytest.raises(MlscaleError, match="no files"):
        load_test.load(truth.url, FIVE, out=out, bodies=empty)
    with pytest.raises(MlscaleError, match="not empty"):
        load_test.load(truth.url, FIVE, out=full)
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


def schedule(pairs: list[str], **changes: Any) -> ClosedLoop | OpenLoop:
    given = {"rate": None, "clients": None, "file": None, "duration_s": None} | changes
    return schedule_of(read_set(LoadSettings, pairs), **given)


def test_schedules_of_the_options(tmp_path: Path) -> None:
    assert schedule([], rate=50.0) == OpenLoop(duration_s=60, rate=Constant(rate_rps=50))
    closed = schedule(["think_mean_s=0.2"], clients=8, duration_s=5.0)
    assert isinstance(closed, ClosedLoop)
    assert (closed.stages[0].clients, closed.duration_s, closed.think_mean_s) == (8, 5, 0.2)
    trace = tmp_path / "t.csv"
    trace.write_text("time_s\n0\n1\n2\n")
    assert schedule([], file=trace, duration_s=1.5).duration_s == 1.5
    faster = schedule(["speed=2", "keep=0.5"], file=trace)
    assert isinstance(faster, OpenLoop)
    assert isinstance(faster.rate, Trace)
    assert (faster.duration_s, faster.rate.speed, faster.rate.keep) == (1.5, 2.0, 0.5)
    trace.write_text("time_s,rate_rps\n0,1e9\n")
    with pytest.raises(MlscaleError, match="can't be sent"):
        schedule([], file=trace)


@pytest.mark.parametrize(
    ("pairs", "changes", "named"),
    [
        ([], {}, "exactly one"),
        ([], {"rate": 5.0, "clients": 2}, "exactly one"),
        ([], {"rate": 1e9}, "rate_rps: .*less than or equal to 1000000"),
        (["arrivals=even"], {"clients": 2}, "--set arrivals: it has no effect without --rate"),
        (["think_mean_s=1"], {"rate": 2.0}, "--set think_mean_s: it has no effect without --clients"),
        (["speed=2"], {"rate": 5.0}, "^--set speed: it has no effect on a load that is not a CSV trace"),
        ([], {"file": Path("s.json"), "duration_s": 5.0}, "--duration: .*JSON schedule"),
    ],
)
def test_options_that_make_no_schedule(pairs: list[str], changes: dict[str, object], named: str) -> None:
    with pytest.raises(MlscaleError, match=named):
        schedule(pairs, **changes)


@pytest.mark.parametrize("options", [["--rate", "0"], ["--rate", "nan"], ["--clients", "0"], ["--duration", "-1"]])
def test_numbers_that_are_out_of_range(options: list[str], tmp_path: Path) -> None:
    done = load("http://127.0.0.1:9/", *options, "--out", tmp_path / "run")
    assert done.returncode == 2
    assert options[0] in done.stderr
