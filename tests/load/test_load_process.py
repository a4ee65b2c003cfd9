"""Real load workers against a server that knows the truth."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from load_truth import CHECK, RELEASED_AHEAD_S, TruthServer, reply, right_answer, run

from mlscale.host.processes import process_start
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.schedules import send_times
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs import (
    SCHEMAS,
    ClosedLoop,
    ClosedStage,
    Constant,
    MlscaleError,
    OpenLoop,
)
from mlscale.runs.store import read_stream

PATIENT = {"abort_lateness_s": 60.0}  # a busy host is no failure of what these tests look at


def rows(folder: Path) -> list[dict[str, object]]:
    batches = [batch for file in sorted(folder.glob("requests-*")) for batch in read_stream(file)]
    table = pa.Table.from_batches(batches, schema=SCHEMAS["requests"])
    return sorted(table.to_pylist(), key=lambda row: row["request_id"])


def until(condition: Callable[[], bool], what: str, at_most_s: float = 40.0) -> None:
    deadline_s = time.monotonic() + at_most_s
    while not condition():
        assert time.monotonic() < deadline_s, what
        os.sched_yield()


def constant(rate: float, duration_s: float, arrivals: str = "poisson") -> OpenLoop:
    return OpenLoop(duration_s=duration_s, rate=Constant(rate_rps=rate), arrivals=arrivals)  # type: ignore[arg-type]


def test_two_workers_send_exactly_the_schedule(truth: TruthServer, photo_folder: Path, tmp_path: Path) -> None:
    truth.behave["/decode"] = reply(200, right_answer(), "X-Mlscale-Replica: r-1\r\n")
    schedule = constant(120, 2)
    spec = LoadSpec(
        url=truth.url + "/decode",
        schedule=schedule,
        bodies=photo_folder,
        check=CHECK,
        seed=5,
        block=2,
        workers=2,
        **PATIENT,
    )
    report = run(spec, tmp_path)
    (expected,) = list(send_times(schedule, 5, 2))
    sent = rows(tmp_path)
    assert [row["request_id"] for row in sent] == expected.request_id.tolist()
    assert [row["intended_s"] for row in sent] == expected.intended_s.tolist()
    assert {row["status"] for row in sent} == {"ok"}
    assert {row["replica_id"] for row in sent} == {"r-1"}
    assert Counter(row["body_id"] for row in sent) == Counter(body.decode() for _, _, body in truth.arrivals)
    assert {row["body_id"] for row in sent} == {f"photo-00{n}.jpg" for n in range(3)}
    for row in sent:
        assert row["intended_s"] <= row["sent_s"] < row["first_byte_s"] <= row["done_s"]
        assert row["connect_s"] > 0
    assert truth.connections == len(sent) == len(truth.arrivals)
    assert (report.due, report.sent, report.finished, report.workers) == (len(sent),) * 3 + (2,)
    late = np.array([row["sent_s"] - row["intended_s"] for row in sent])
    assert report.lateness_p99_s == pytest.approx(np.quantile(late, 0.99, method="inverted_cdf"), rel=0.01)
    assert report.lateness_max_s == pytest.approx(late.max())
    assert report.load_cpu_cores > 0


def test_hops_are_recorded_beside_their_requests(truth: TruthServer, photo_folder: Path, tmp_path: Path) -> None:
    told = '[["front","r-1",7.5,null,0.02],["back","r-2",8.5,0.25,0.03]]'
    truth.behave["/decode"] = reply(200, right_answer(), f"X-Mlscale-Queue-S: 0.125\r\nX-Mlscale-Hops: {told}\r\n")
    spec = LoadSpec(
        url=truth.url + "/decode", schedule=constant(60, 1), bodies=photo_folder, check=CHECK, workers=2, **PATIENT
    )
    run(spec, tmp_path)
    sent = {row["request_id"] for row in rows(tmp_path)}
    batches = [batch for stream in sorted(tmp_path.glob("hops-*")) for batch in read_stream(stream)]
    hops = [row for batch in batches for row in batch.to_pylist()]
    assert sorted(row["request_id"] for row in hops) == sorted([*sent, *sent])
    front = [row for row in hops if row["component"] == "front"]
    back = [row for row in hops if row["component"] == "back"]
    assert {(row["replica_id"], row["queue_s"], row["inference_s"]) for row in front} == {("r-1", 0.125, 0.02)}
    assert {(row["replica_id"], row["queue_s"], row["inference_s"]) for row in back} == {("r-2", 0.25, 0.03)}
    assert {round(row["start_s"] - one["start_s"], 9) for row, one in zip(back, front, strict=True)} == {1.0}


def test_a_slow_server_does_not_move_an_open_loop(truth: TruthServer, tmp_path: Path) -> None:
    truth.delay_s = 1.0
    run(LoadSpec(url=truth.url, schedule=constant(40, 1.5, "even"), **PATIENT), tmp_path)
    sent = rows(tmp_path)
    assert [row["intended_s"] for row in sent] == [k / 40 for k in range(60)]
    assert truth.most_open > 20
    assert min(row["done_s"] - row["intended_s"] for row in sent) >= 1.0


def test_closed_clients_wait_for_their_answers(truth: TruthServer, tmp_path: Path) -> None:
    truth.delay_s = 0.05
    stages = (ClosedStage(start_s=0, clients=2), ClosedStage(start_s=1, clients=6), ClosedStage(start_s=2, clients=1))
    schedule = ClosedLoop(duration_s=3, stages=stages, think_mean_s=0.01)
    report = run(LoadSpec(url=truth.url, schedule=schedule, connections="kept", workers=2), tmp_path)
    sent = rows(tmp_path)
    assert truth.most_open == 6
    assert truth.connections == 6
    assert {row["client_id"] for row in sent if row["load_stage"] == 0} == {0, 1}
    assert {row["client_id"] for row in sent if row["load_stage"] == 1} == set(range(6))
    assert {row["client_id"] for row in sent if row["load_stage"] == 2} == {0}
    for client in range(6):
        mine = [row for row in sent if row["client_id"] == client]
        for before, after in pairwise(mine):
            assert after["intended_s"] >= before["done_s"]
    assert len(sent) == len(truth.arrivals) == report.due == report.finished
    assert report.client_change_error_s is not None
    assert report.client_change_error_s >= max(
        row["sent_s"] - row["intended_s"] for row in sent if row["intended_s"] == 1.0
    )


def test_a_server_that_dies_is_refused_and_one_that_stalls_times_out(truth: TruthServer, tmp_path: Path) -> None:
    truth.behave["/"] = "stall"

    def then_stop(load: LoadProcess) -> None:
        until(lambda: len(truth.arrivals) >= 10, "requests arrive")
        truth.stop()

    spec = LoadSpec(url=truth.url + "/", schedule=constant(20, 2.5, "even"), timeout_s=0.25, **PATIENT)
    report = run(spec, tmp_path, then_stop)
    statuses = Counter(row["status"] for row in rows(tmp_path))
    assert statuses["timeout"] > 0
    assert statuses["refused"] > 0
    assert set(statuses) <= {"timeout", "refused", "reset"}
    assert statuses.total() == report.sent == report.finished == 50


def test_stopped_the_open_requests_are_unfinished(truth: TruthServer, tmp_path: Path) -> None:
    truth.behave["/"] = "stall"

    def stop(load: LoadProcess) -> None:
        until(lambda: len(truth.arrivals) >= 5, "requests arrive")
        load.stop()

    report = run(LoadSpec(url=truth.url + "/", schedule=constant(50, 600), **PATIENT), tmp_path, stop)
    sent = rows(tmp_path)
    assert {row["status"] for row in sent} == {"unfinished"}
    assert len(sent) >= 5
    assert report.finished == 0
    assert report.sent == len(sent)


def test_sigterm_to_the_worker_keeps_what_was_recorded_and_fails_the_load(truth: TruthServer, tmp_path: Path) -> None:
    loads: list[LoadProcess] = []

    def terminate(load: LoadProcess) -> None:
        loads.append(load)
        until(lambda: len(truth.arrivals) >= 20, "requests arrive")
        os.kill(load.pids[0], signal.SIGTERM)

    with pytest.raises(MlscaleError, match=r"told to stop \(SIGTERM\)"):
        run(LoadSpec(url=truth.url, schedule=constant(100, 600), **PATIENT), tmp_path, terminate)
    report = loads[0].report()
    assert report is not None
    assert report.sent == len(rows(tmp_path)) >= 20
    assert report.sent <= report.due


def test_a_worker_that_does_not_go_on_fails_the_load(
    truth: TruthServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlscale.loadgen.process._LATE_S", 0.5)
    with LoadProcess() as load:
        spec = LoadSpec(url=truth.url, schedule=constant(50, 1), timeout_s=0.5, **PATIENT)
        load.start(spec, (), [tmp_path / "requests-0.arrow"])
        load.wait_ready()
        load.release(time.monotonic(), RELEASED_AHEAD_S)
        until(lambda: len(truth.arrivals) >= 5, "requests arrive")
        os.kill(load.pids[0], signal.SIGSTOP)
        with pytest.raises(MlscaleError, match=r"still runs 0.5 s after the schedule's end"):
            load.join(30)
        load.stop(0.0)
    assert truth.arrivals


def test_a_target_that_cannot_be_held_is_given_up_with_what_was_achieved(truth: TruthServer, tmp_path: Path) -> None:
    spec = LoadSpec(url=truth.url, schedule=constant(200_000, 600), abort_lateness_s=0.2, abort_after_s=0.6)
    report = run(spec, tmp_path, aborts="behind its schedule")
    assert 0 < report.sent < report.due
    assert report.sent == len(rows(tmp_path))
    assert report.worst_window is not None
    assert report.worst_window.sent < report.worst_window.due


def test_too_many_open_requests_end_every_worker(truth: TruthServer, tmp_path: Path) -> None:
    truth.behave["/"] = "stall"
    spec = LoadSpec(url=truth.url + "/", schedule=constant(200, 600), max_open=30, workers=2, **PATIENT)
    run(spec, tmp_path, aborts="requests are open at once")
    assert {row["status"] for row in rows(tmp_path)} == {"unfinished"}


def test_a_late_start_is_no_run(truth: TruthServer, tmp_path: Path) -> None:
    with LoadProcess() as load:
        load.start(LoadSpec(url=truth.url, schedule=constant(50, 600)), (), [tmp_path / "requests-0.arrow"])
        load.release(time.monotonic() - 1.0, 0.5)
        report = load.wait()
    assert report.aborted is not None
    assert "after the schedule's start" in report.aborted
    assert truth.arrivals == []


def test_a_worker_that_cannot_begin_says_why(truth: TruthServer, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    spec = LoadSpec(url=truth.url, schedule=constant(5, 5), bodies=empty)
    with pytest.raises(MlscaleError, match="no files"):
        run(spec, tmp_path)
    assert truth.arrivals == []


def test_a_worker_that_is_killed_fails_the_load(truth: TruthServer, tmp_path: Path) -> None:
    def kill(load: LoadProcess) -> None:
        until(lambda: len(truth.arrivals) >= 20, "requests arrive")
        os.kill(load.pids[0], signal.SIGKILL)

    with pytest.raises(MlscaleError, match="exited with code -9"):
        run(LoadSpec(url=truth.url, schedule=constant(100, 600), workers=2, **PATIENT), tmp_path, kill)


# Worker 0 goes on until it is stopped.
_ONE_OF_TWO = """
import json, sys
worker = json.loads(sys.stdin.readline())["worker"]
print(json.dumps({"type": "ready"}), flush=True)
sys.stdin.readline()
if worker == 0:
    sys.stdin.read()
"""


# Worker 1 loses its machine; worker 0 is stopped because of that, before it can report anything else.
_LOST = f"""{_ONE_OF_TWO}
what = ["no report", "the load worker is lost"][worker]
print(json.dumps({{"type": "failed", "what": what, "where": "here", "remedy": "none"}}), flush=True)
"""


# Worker 1 is aborted; worker 0, sent from another machine, is told to stop because of that.
_ABORTED = f"""{_ONE_OF_TWO}
summary = dict.fromkeys(("due", "sent", "finished", "cpu_s", "wall_s"), 0)
summary |= {{"failures": {{}}, "lateness": {{}}, "lateness_max_s": None, "windows": [], "client_change_error_s": None}}
summary["aborted"] = ["told to stop (SIGTERM)", "behind"][worker]
print(json.dumps({{"type": "done", "summary": summary}}), flush=True)
"""


def test_the_first_worker_to_be_aborted_gives_the_reason(tmp_path: Path) -> None:
    streams = [tmp_path / f"requests-{worker}.arrow" for worker in range(2)]
    spec = LoadSpec(url="http://127.0.0.1:9/", schedule=constant(10, 600), workers=2)
    with LoadProcess() as load:
        load.start(spec, (sys.executable, "-c", _ABORTED), streams)
        load.release(time.monotonic(), 0.0)
        assert load.wait().aborted == "behind"


def test_the_first_worker_to_fail_gives_the_reason(tmp_path: Path) -> None:
    streams = [tmp_path / f"requests-{worker}.arrow" for worker in range(2)]
    spec = LoadSpec(url="http://127.0.0.1:9/", schedule=constant(10, 600), workers=2)
    with LoadProcess() as load:
        load.start(spec, (sys.executable, "-c", _LOST), streams)
        load.release(time.monotonic(), 0.0)
        with pytest.raises(MlscaleError, match="the load worker is lost"):
            load.wait()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_line(truth: TruthServer, tmp_path: Path) -> None:
    (tmp_path / "requests-0.arrow").symlink_to("/dev/full")
    with pytest.raises(MlscaleError, match="No space left"):
        run(LoadSpec(url=truth.url, schedule=constant(200, 600), **PATIENT), tmp_path)


_PARENT = """
import sys, time
from pathlib import Path
from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs import Constant, OpenLoop
load = LoadProcess()
schedule = OpenLoop(duration_s=600, rate=Constant(rate_rps=100))
spec = LoadSpec(url=sys.argv[1], schedule=schedule, workers=2, abort_lateness_s=60)
load.start(spec, (), [Path(sys.argv[2]) / f"requests-{worker}.arrow" for worker in range(2)])
load.wait_ready()
load.release(time.monotonic(), 0.5)
print(*load.pids, flush=True)
load.wait()
"""


def test_kill_9_of_the_parent_leaves_no_worker(truth: TruthServer, tmp_path: Path) -> None:
    command = [sys.executable, "-c", _PARENT, truth.url, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        until(lambda: len(truth.arrivals) >= 50, "requests arrive")
        assert len(pids) == 2
        assert all(map(process_start, pids))
        parent.kill()
        until(lambda: not any(map(process_start, pids)), "workers end")
    sent = rows(tmp_path)
    assert len(sent) >= len(truth.arrivals)
    assert len({row["request_id"] for row in sent}) == len(sent)


def test_memory_is_flat(truth: TruthServer, tmp_path: Path) -> None:
    """Ten times the requests, the same memory (but for what an allocator keeps)."""
    rss: list[tuple[int, float]] = []

    def watch(load: LoadProcess) -> None:
        while not load.join(0.05):
            progress = load.progress()
            rss.append((progress.finished, progress.rss_bytes))

    schedule = constant(800, 3.0, "even")
    run(LoadSpec(url=truth.url, schedule=schedule, connections="kept", **PATIENT), tmp_path, watch)
    early = next(bytes_ for finished, bytes_ in rss if finished >= 150)
    late = max(bytes_ for finished, bytes_ in rss if finished >= 1500)
    assert late - early < 6e6


def test_a_worker_imports_neither_pandas_nor_torch() -> None:
    script = (
        "import sys, mlscale.loadgen.worker; "
        "print([m for m in ('pandas', 'torch', 'scipy', 'ray') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert json.loads(out.replace("'", '"')) == []


def test_streams_and_workers_have_to_match(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1 streams for 2 workers"):
        LoadProcess().start(
            LoadSpec(url="http://127.0.0.1:9", schedule=constant(1, 1), workers=2), (), [tmp_path / "a"]
        )
