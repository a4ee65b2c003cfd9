"""Recorded traces: the formats, and one clear line for each way of being broken."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from mlscale.loadgen.schedule_files import read_recording, read_schedule
from mlscale.loadgen.schedules import WHOLE, WorkerShare, send_times, split
from mlscale.runs import MlscaleError, OpenLoop, Trace

AZURE = Path(__file__).parents[3] / "shared/traces/AzureLLMInferenceTrace_code.csv"


def sent(schedule: OpenLoop, seed: int = 0, part: WorkerShare = WHOLE) -> np.ndarray:
    return np.concatenate([sends.intended_s for sends in send_times(schedule, seed, part=part)])


def write(folder: Path, text: str) -> Path:
    file = folder / "trace.csv"
    file.write_bytes(text.encode())
    return file


def test_date_times_to_a_tenth_of_a_microsecond_or_so(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "TIMESTAMP,ContextTokens\n2023-11-16 23:59:59.9799600,1\n"
        "2023-11-17 00:00:00.0319610,2\n2023-11-17 00:00:00.0319610,3\n",
    )
    assert read_recording(Trace(file=str(file))).times_s == pytest.approx([0, 0.052001, 0.052001], abs=1e-6)


def test_rates_with_date_times_are_rates(tmp_path: Path) -> None:
    """The shape that monitoring systems export; each row is not one arrival."""
    file = write(tmp_path, "TIMESTAMP,rate_rps\n2026-01-01 00:00:00,60\n2026-01-01 00:01:00,100\n")
    recording = read_recording(Trace(file=str(file)))
    assert recording.times_s.tolist() == [0, 60]
    assert recording.rates_rps is not None
    assert recording.rates_rps.tolist() == [60, 100]


def test_a_column_that_is_not_understood_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path, "TIMESTAMP,Requests\n2026-01-01 00:00:00,60\n")
    with pytest.raises(MlscaleError, match="column 'Requests' is not understood") as refused:
        read_recording(Trace(file=str(file)))
    assert "rate_rps" in refused.value.remedy


def test_seconds_speed_and_keep(tmp_path: Path) -> None:
    file = write(tmp_path, "\ufefftime_s\r\n" + "\r\n".join(str(k / 8) for k in range(8000)) + "\r\n")
    fast = OpenLoop(duration_s=1000, rate=Trace(file=str(file), speed=4))
    assert sent(fast).tolist() == [k / 32 for k in range(8000)]
    thinned = OpenLoop(duration_s=1000, rate=Trace(file=str(file), keep=0.25))
    kept = sent(thinned, seed=1)
    assert 1800 < len(kept) < 2200
    assert set(kept) <= {k / 8 for k in range(8000)}
    assert kept.tolist() == sent(thinned, seed=1).tolist() != sent(thinned, seed=2).tolist()
    parts = [sent(thinned, seed=1, part=part) for part in split(thinned, 3)]
    assert sorted(np.concatenate(parts)) == kept.tolist()


def test_a_row_takes_no_more_than_its_time(tmp_path: Path) -> None:
    file = write(tmp_path, "time_s\n" + "\n".join(str(k / 64) for k in range(200_000)))
    tracemalloc.start()
    recording = read_recording(Trace(file=str(file)))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(recording.times_s) == 200_000
    assert peak_bytes < 3 * 8 * 200_000, "neither the text nor Python's floats are kept"


def test_a_trace_is_cut_at_the_schedules_end(tmp_path: Path) -> None:
    file = write(tmp_path, "time_s\n0\n1\n2\n")
    assert sent(OpenLoop(duration_s=2, rate=Trace(file=str(file)))).tolist() == [0, 1]
    assert sent(read_schedule(file)).tolist() == [0, 1, 2]


def test_rates_hold_until_the_next_row(tmp_path: Path) -> None:
    file = write(tmp_path, "time_s,rate_rps\n0,2\n10,0\n20,4\n30,0\n")
    even = OpenLoop(duration_s=60, rate=Trace(file=str(file)), arrivals="even")
    times = sent(even)
    assert times.tolist() == [k / 2 for k in range(20)] + [20 + k / 4 for k in range(40)]
    doubled = sent(even.model_copy(update={"rate": Trace(file=str(file), keep=2, speed=2)}))
    assert doubled.tolist() == [k / 4 for k in range(20)] + [10 + k / 8 for k in range(40)]
    assert read_schedule(file).duration_s == 30


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("", 1, "no column"),
        ("when\n1\n", 1, "no column"),
        ("time_s\n", None, "no rows"),
        ("time_s\n1\nx\n", 3, "not a number"),
        ("time_s\n1\n\n0.5\n", 4, "after the line before"),
        ("time_s\n-1\n", 2, "-1"),
        ("time_s\nnan\n", 2, "nan"),
        ("time_s\n1\ninf\n", 3, "inf"),
        ("time_s,rate_rps\n0,1\n0,2\n", 3, "after the line before"),
        ("time_s,rate_rps\n0,1\n1\n", 3, "too short"),
        ("time_s,rate_rps\n0,-1\n", 2, "-1"),
        ("TIMESTAMP\n2023-11-16 18:17:03\nyesterday\n", 3, "not a date-time"),
        ("TIMESTAMP\n2023-11-16 18:17:03\n2023-11-16 18:17:02\n", 3, "after the line before"),
        ("TIMESTAMP\n2023-11-16 18:17:03\n2023-11-16 18:17:04+00:00\n", 3, "not a date-time"),
    ],
)
def test_a_broken_trace_names_file_and_line(tmp_path: Path, text: str, line: int | None, what: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(MlscaleError) as caught:
        read_schedule(file)
    assert what in str(caught.value)
    assert str(file) in str(caught.value)
    assert line is None or f"line {line}:" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_text_and_no_file(tmp_path: Path) -> None:
    file = tmp_path / "trace.csv"
    with pytest.raises(MlscaleError, match="No such file"):
        read_schedule(file)
    file.write_bytes(b"time_s\n\xff\xfe\x00\n")
    with pytest.raises(MlscaleError, match="not CSV text"):
        read_schedule(file)
    file.unlink()
    file.symlink_to("/dev/zero")
    with pytest.raises(MlscaleError, match="not a file"):
        read_schedule(file)
    with pytest.raises(MlscaleError, match="too long"):
        read_schedule(tmp_path / f"{'x' * 300}.csv")
    schedule = tmp_path / "schedule.json"
    schedule.write_text(r'{"loop": "open", "duration_s": 1, "rate": {"shape": "trace", "file": "a\u0000b"}}')
    with pytest.raises(MlscaleError, match="null"):
        read_schedule(schedule)


def test_more_than_all_arrivals_cannot_be_kept(tmp_path: Path) -> None:
    file = write(tmp_path, "time_s\n1\n")
    with pytest.raises(MlscaleError, match="keep is 2"):
        read_recording(Trace(file=str(file), keep=2))


def test_an_hour_of_real_arrivals() -> None:
    if not AZURE.exists():
        pytest.skip("measuring only: the trace of AzurePublicDataset is not beside the checkout")
    schedule = read_schedule(AZURE)
    times = sent(schedule)
    assert len(times) == sum(1 for line in AZURE.read_text().splitlines() if line.strip()) - 1
    assert times[:2].tolist() == pytest.approx([0.0, 0.052], abs=1e-6)
    assert 3000 < schedule.duration_s < 3700
