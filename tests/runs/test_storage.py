"""A run's folder: readable after a kill -9, incomplete until it is sealed, one clear line for what can't be read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlscale.runs import (
    SCHEMAS,
    ClosedLoop,
    ClosedStage,
    Event,
    MlscaleError,
    ReplicaSample,
    ResourceSample,
    RunInfo,
    RunWriter,
    TableWriter,
    load_run,
    load_runs,
)

SCHEDULE = ClosedLoop(duration_s=10, stages=(ClosedStage(start_s=0, clients=1), ClosedStage(start_s=4, clients=2)))


def info(**changes: object) -> RunInfo:
    facts = {
        "run_id": "r-1",
        "environment": "test-burner",
        "level": "none",
        "mode": "live",
        "app": "burner",
        "app_version": "1",
        "schedule": SCHEDULE,
        "wall_start": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return RunInfo.model_validate(facts | changes)


def request(number: int, intended_s: float) -> dict[str, object]:
    return {"request_id": number, "client_id": 0, "intended_s": intended_s, "done_s": intended_s + 0.1, "status": "ok"}


def written(folder: Path) -> RunWriter:
    writer = RunWriter(folder, info())
    writer.observe(ReplicaSample(0.5, "app", desired=1, starting=0, ready=1))
    writer.observe(Event(1.0, "app", "scale_decision", detail={"from": 1, "to": 2, "reason": "queue"}))
    writer.observe(ResourceSample(1.5, "app", "replica-7", "replica", cpu_cores=0.3, rss_bytes=1e6))
    with TableWriter(writer.request_stream(0), SCHEMAS["requests"]) as one:
        one.append(request(0, 2.0))
    with TableWriter(writer.request_stream(1), SCHEMAS["requests"]) as other:
        other.append(request(1, 1.0))
    return writer


def test_a_sealed_run_holds_everything_and_no_stream(tmp_path: Path) -> None:
    sealed = written(tmp_path / "run").seal(idle={"control_plane_cores": 0.1})
    assert sealed.complete
    run = load_run(tmp_path / "run")
    assert run.info == sealed
    assert list(run.requests["request_id"]) == [1, 0], "the workers' parts are merged in order of intended_s"
    assert json.loads(run.events["detail"][0]) == {"from": 1, "to": 2, "reason": "queue"}
    assert run.replicas["ready"].tolist() == [1]
    assert run.resources["cpu_cores"].tolist() == [0.3]
    assert run.hops.empty
    assert {file.suffix for file in run.path.iterdir()} == {".json", ".parquet"}


def test_until_it_is_sealed_a_run_is_incomplete_and_still_readable(tmp_path: Path) -> None:
    writer = written(tmp_path / "run")
    writer.flush()
    with pytest.raises(MlscaleError, match="incomplete: interrupted while it was measured"):
        load_run(tmp_path / "run")
    before = load_run(tmp_path / "run", allow_incomplete=True)
    assert len(before.events) == 1
    writer.abandon("the disk is full", waits={"deploy_s": 3.0})
    after = load_run(tmp_path / "run", allow_incomplete=True)
    assert (after.info.complete, after.info.incomplete_reason) == (False, "the disk is full")
    pd.testing.assert_frame_equal(before.events, after.events)


def test_what_changes_while_it_lasts_is_in_run_json_at_once(tmp_path: Path) -> None:
    writer = written(tmp_path / "run")
    writer.update(step_s=4.0, facts={"version": "0.12"})
    on_disk = load_run(tmp_path / "run", allow_incomplete=True).info
    assert (on_disk.step_s, on_disk.facts, on_disk.complete) == (4.0, {"version": "0.12"}, False)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux's disk that is always full")
def test_a_table_that_a_full_disk_closed_can_be_closed_again(tmp_path: Path) -> None:
    table = TableWriter(tmp_path / "events.arrow", SCHEMAS["events"])
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), table._file.fileno())
    with pytest.raises(OSError, match="No space left"):
        table.close()
    table.close()


WRITER_PROCESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_storage import info, request
from mlscale.runs import SCHEMAS, Event, RunWriter, TableWriter

writer = RunWriter(Path(sys.argv[1]), info())
table = TableWriter(writer.request_stream(0), SCHEMAS["requests"], flush_rows=10)
number = 0
while True:
    table.append(request(number, number / 100))
    writer.observe(Event(number / 100, "app", "load_step"))
    number += 1
    if number % 1000 == 0:
        writer.flush()
        print(number, flush=True)
"""


def test_a_kill_9_while_writing_leaves_readable_streams_and_an_incomplete_run(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER_PROCESS, str(tmp_path / "run"), str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process, process.stdout:
        try:
            flushed = int(process.stdout.readline())
        finally:
            process.send_signal(signal.SIGKILL)
    with pytest.raises(MlscaleError, match="incomplete"):
        load_run(tmp_path / "run")
    run = load_run(tmp_path / "run", allow_incomplete=True)
    assert len(run.requests) >= flushed
    assert run.requests["request_id"].tolist() == list(range(len(run.requests))), "every row that is there is whole"
    assert len(run.events) >= flushed


@pytest.mark.parametrize("cut", [1, 7, 100])
def test_a_torn_last_batch_is_left_out(tmp_path: Path, cut: int) -> None:
    writer = RunWriter(tmp_path / "run", info())
    stream = writer.request_stream(0)
    with TableWriter(stream, SCHEMAS["requests"], flush_rows=5) as table:
        for number in range(20):
            table.append(request(number, float(number)))
        whole = stream.stat().st_size
    stream.write_bytes(stream.read_bytes()[: whole - cut])
    found = load_run(tmp_path / "run", allow_incomplete=True).requests["request_id"].tolist()
    assert found == list(range(len(found)))
    assert len(found) >= 15


def test_a_stop_while_sealing_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = written(tmp_path / "run")
    expected = [2.0, 1.0]
    rename = Path.rename
    renamed: list[Path] = []

    def stop_at_third(self: Path, target: Path) -> Path:
        renamed.append(self)
        if len(renamed) == 3:
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", stop_at_third)
    with pytest.raises(KeyboardInterrupt):
        writer.seal()
    monkeypatch.undo()
    run = load_run(tmp_path / "run", allow_incomplete=True)
    assert not run.info.complete
    assert sorted(run.requests["intended_s"]) == sorted(expected)
    assert (len(run.replicas), len(run.events), len(run.resources)) == (1, 1, 1)


def test_a_folder_in_use_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(MlscaleError, match="not empty"):
        RunWriter(tmp_path, info())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_of_schema_1_is_read_under_the_present_names(tmp_path: Path) -> None:
    written(tmp_path / "run").seal(bodies={"count": 3})
    file, table = tmp_path / "run" / "run.json", tmp_path / "run" / "requests.parquet"
    text = file.read_text().replace('"bodies"', '"photos"')
    file.write_text(text.replace('"schema_version": 2', '"schema_version": 1'))
    present = pq.read_table(table)
    sent = pa.array([f"{number}.txt" for number in range(len(present))])
    pq.write_table(present.set_column(present.column_names.index("body_id"), "photo_id", sent), table)
    run = load_run(tmp_path / "run")
    assert (run.info.schema_version, run.info.bodies) == (1, {"count": 3})
    assert sorted(run.requests["body_id"]) == sent.to_pylist()
    assert "photo_id" not in run.requests


def test_a_run_by_a_newer_version_is_named_as_such(tmp_path: Path) -> None:
    written(tmp_path / "run").seal()
    file = tmp_path / "run" / "run.json"
    contents = json.loads(file.read_text())
    file.write_text(json.dumps(contents | {"schema_version": 99, "new_field": 1}))
    with pytest.raises(MlscaleError, match=r"newer mlscale \(schema 99"):
        load_run(tmp_path / "run")
    file.write_text(json.dumps(contents | {"schema_version": 99}))
    with pytest.raises(MlscaleError, match="newer"):
        load_run(tmp_path / "run")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "broken"),
        ("{}", "broken: run_id"),
        ("[1]", "broken"),
        ('{"run_id": 3', "broken"),
        ("\0\0", "broken"),
        ('{"run_id": "é"}', "broken"),
        ("[" * 100_000, "broken"),
    ],
)
def test_a_broken_run_json_is_one_clear_line(tmp_path: Path, text: str, what: str) -> None:
    (tmp_path / "run.json").write_bytes(text.encode("latin-1"))  # é is no UTF-8 then
    with pytest.raises(MlscaleError, match=what) as caught:
        load_run(tmp_path)
    assert "run.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_or_broken_table_is_named(tmp_path: Path) -> None:
    written(tmp_path / "run").seal()
    (tmp_path / "run" / "events.parquet").write_bytes(b"not parquet")
    (tmp_path / "run" / "hops.parquet").unlink()
    run = load_run(tmp_path / "run")
    with pytest.raises(MlscaleError, match=r"events\.parquet"):
        _ = run.events
    with pytest.raises(MlscaleError, match=r"hops\.parquet: the table is missing"):
        _ = run.hops
    assert len(run.requests) == 2
    file = tmp_path / "run" / "requests.parquet"
    pq.write_table(pq.read_table(file).drop_columns("done_s"), file)
    with pytest.raises(MlscaleError, match=r"requests\.parquet: column done_s is missing"):
        _ = load_run(tmp_path / "run").requests


def test_an_incomplete_run_without_a_reason_says_so(tmp_path: Path) -> None:
    written(tmp_path / "run").update(incomplete_reason=None)
    with pytest.raises(MlscaleError, match="the run is incomplete: no reason was recorded"):
        load_run(tmp_path / "run")


def test_no_run_there(tmp_path: Path) -> None:
    with pytest.raises(MlscaleError, match="not a run folder"):
        load_run(tmp_path)
    with pytest.raises(MlscaleError, match="no run found"):
        load_runs(tmp_path)


def test_a_folder_stands_for_the_runs_below_it(tmp_path: Path) -> None:
    for name in ("b/1", "a/2"):
        written(tmp_path / name).seal()
    assert [run.path.relative_to(tmp_path).as_posix() for run in load_runs(tmp_path)] == ["a/2", "b/1"]
    assert [run.path for run in load_runs([tmp_path / "b/1"])] == [tmp_path / "b/1"]


def test_incomplete_runs_below_a_folder_are_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    written(tmp_path / "runs" / "a").seal()
    written(tmp_path / "runs" / "b").abandon("interrupted")
    assert [run.path.name for run in load_runs(tmp_path)] == ["a"]
    assert capsys.readouterr().err == f"mlscale: skipped incomplete runs: {tmp_path / 'runs' / 'b'}\n"
    assert [run.path.name for run in load_runs(tmp_path, allow_incomplete=True)] == ["a", "b"]
    with pytest.raises(MlscaleError, match="the run is incomplete: interrupted"):
        load_runs(tmp_path / "runs" / "b")
    (tmp_path / "runs" / "a" / "run.json").unlink()
    with pytest.raises(MlscaleError, match="only incomplete runs found"):
        load_runs(tmp_path)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MlscaleError, match="choose a writable folder"):
        RunWriter(tmp_path / "file" / "run", info())
