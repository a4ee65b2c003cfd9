"""Every format of recorded traffic in docs/strategy.md, by a file of each."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from mlscale.loadgen.schedule_files import read_recording, read_schedule
from mlscale.runs import MlscaleError, OpenLoop, Trace

FORMATS = Path(__file__).parent / "formats"
DOCUMENTED = (Path(__file__).parents[2] / "docs/strategy.md").read_text()


def read(file: Path) -> OpenLoop:
    schedule = read_schedule(file)
    assert isinstance(schedule, OpenLoop)
    return schedule


@pytest.mark.parametrize("name", ["azure.csv", "arrivals.csv", "arrivals-epoch.csv"])
def test_arrivals(name: str) -> None:
    recording = read_recording(Trace(file=str(FORMATS / name)))
    assert recording.times_s.tolist() == [0.0, 0.5, 2.0]
    assert recording.rates_rps is None


@pytest.mark.parametrize(
    "name",
    ["rates.csv", "rates-epoch.csv", "prometheus.json", "cloudwatch-metric-data.json", "cloudwatch-statistics.json"],
)
def test_rates(name: str) -> None:
    recording = read_recording(Trace(file=str(FORMATS / name)))
    assert recording.times_s.tolist() == [0.0, 60.0, 120.0]
    assert recording.rates_rps is not None
    assert recording.rates_rps.tolist() == [60.0, 100.0, 80.0]
    assert read(FORMATS / name).duration_s == 180


def test_a_compressed_trace_is_the_same(tmp_path: Path) -> None:
    file = tmp_path / "rates.csv.gz"
    file.write_bytes(gzip.compress((FORMATS / "rates.csv").read_bytes()))
    assert read(file).duration_s == 180
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(MlscaleError, match="not CSV text"):
        read_schedule(file)


@pytest.mark.parametrize("name", ["long.csv", "long.csv.gz"])
def test_reading_a_long_trace_shows_how_far_it_is(tmp_path: Path, name: str) -> None:
    text = "time_s\n" + "".join(f"{number / 8}\n" for number in range(350_000))
    file = tmp_path / name
    file.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    told: list[tuple[str, float]] = []
    read_schedule(file, progress=lambda what, share: told.append((what, share)))
    whats, shares = zip(*told, strict=True)
    assert set(whats) == {f"reading {name}"}
    assert shares == pytest.approx([number / 3.5 for number in (1, 2, 3)], abs=0.05)


def test_the_formats_are_documented() -> None:
    table = DOCUMENTED.partition("## Formats of traffic")[2].partition("\n## ")[0]
    for words in (
        "TIMESTAMP",
        "time_s",
        "rate_rps",
        ".csv.gz",
        "query_range",
        "get-metric-data",
        "get-metric-statistics",
    ):
        assert words in table


def sums(**minutes: float) -> str:
    """As `aws cloudwatch get-metric-statistics` prints them."""
    points = [{"Timestamp": f"2026-03-02T08:{name[1:]}:00Z", "Sum": value} for name, value in minutes.items()]
    return json.dumps({"Label": "RequestCount", "Datapoints": points})


def test_a_period_without_a_sum_had_no_requests(tmp_path: Path) -> None:
    file = tmp_path / "requests.json"
    file.write_text(sums(m00=60, m01=120, m04=60))
    recording = read_recording(Trace(file=str(file)))
    assert recording.rates_rps is not None
    assert dict(zip(recording.times_s.tolist(), recording.rates_rps.tolist(), strict=True)) == {
        0.0: 1.0, 60.0: 2.0, 120.0: 0.0, 240.0: 1.0
    }  # fmt: skip


SERIES = {"metric": {}, "values": [[0, "1"], [60, "2"]]}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (sums(m00=60), "does not show its period"),
        (json.dumps({"Datapoints": [{"Timestamp": "2026-03-02T08:00:00Z", "Average": 1}] * 2}), "'Sum' is missing"),
        (json.dumps({"MetricDataResults": [{"Id": "a"}, {"Id": "b"}]}), "2 metrics, not one"),
        (json.dumps({"MetricDataResults": [{"Id": "a"}], "NextToken": "x"}), "incomplete"),
        (json.dumps({"status": "success", "data": {"result": [SERIES, SERIES]}}), "2 series, not one"),
        (json.dumps({"status": "error", "data": {}, "error": "bad_data"}), "bad_data"),
        (json.dumps({"status": "success", "data": {"result": [{"values": [[0, "NaN"]]}]}}), "finite and not negative"),
    ],
)
def test_an_export_that_does_not_say_the_rates_is_refused(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "export.json"
    file.write_text(text)
    with pytest.raises(MlscaleError, match=words):
        read_schedule(file)


def test_a_trace_begins_with_its_first_row(tmp_path: Path) -> None:
    """A second day, cut out of a longer trace, has no silent day before it."""
    file = tmp_path / "second-day.csv"
    file.write_text("time_s,rate_rps\n86400,5\n86460,0\n")
    assert read(file).duration_s == 60


@pytest.mark.parametrize(
    ("rows", "noted"),
    [
        (["2026-03-29 01:58", "2026-03-29 01:59", "2026-03-29 03:00"], True),
        (["2026-03-29 00:00", "2026-03-29 01:00", "2026-03-29 03:00"], True),
        (["2026-03-29 01:58+01:00", "2026-03-29 01:59+01:00", "2026-03-29 03:00+02:00"], False),
        (["2026-03-29 00:00", "2026-03-29 01:00", "2026-03-29 02:00"], False),
        (["2026-03-30 01:58", "2026-03-30 01:59", "2026-03-30 03:00"], False),
    ],
)
def test_an_hour_that_a_clock_skipped_is_noted(tmp_path: Path, rows: list[str], noted: bool) -> None:
    file = tmp_path / "trace.csv"
    file.write_text("\n".join(["TIMESTAMP,rate_rps", *(f"{row},1" for row in rows)]))
    notes = read_recording(Trace(file=str(file))).notes
    assert [rows[-1] in note and "summer" in note for note in notes] == [True] * noted
