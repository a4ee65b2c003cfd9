"""A load that another machine sends: here a second process stands for it, with a real server to send to."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mlscale.loadgen.process import LoadProcess
from mlscale.loadgen.remote import _files, prefix
from mlscale.loadgen.remote_job import TABLE, tables
from mlscale.loadgen.spec import LoadSpec
from mlscale.runs import ClosedLoop, ClosedStage, MlscaleError, OpenLoop, Trace
from mlscale.runs.info import ClockOffset
from mlscale.runs.store import read_stream

# Where the stand-in finds `Process`.
HERE = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
# From the start of the worker to the schedule's: it has to import everything before, on a busy machine, too.
LEAD_S = 12.0
Loads = dict[str, Future[tuple[Path, float]]]
SCHEDULE = ClosedLoop(duration_s=2.0, stages=(ClosedStage(start_s=0.0, clients=2),), think_mean_s=0.05)


class Handler(BaseHTTPRequestHandler):
    """Answers 200 to whatever comes."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    server.server_close()


class Process:
    """A job that is a process of this machine."""

    warms_up = False
    clock_within_s = 0.002

    def __init__(self, lost: int = 0, within_s: float = 0.0001) -> None:
        self._lost = lost
        self._within_s = within_s
        self._process: subprocess.Popen[str] | None = None

    def clock(self) -> ClockOffset:
        return ClockOffset(machine="this", ahead_s=0.0, within_s=self._within_s)

    def send_bodies(self, bodies: Path) -> None:
        """They are here."""

    def start(self, environment: Mapping[str, str]) -> None:
        argv = [sys.executable, "-P", "-m", "mlscale.loadgen.remote_job"]
        self._process = subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True)

    def lines(self) -> Iterator[str]:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith(TABLE) and self._lost:
                self._lost -= 1
                continue
            yield line.rstrip("\n")

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()


@pytest.fixture(scope="module")
def loads(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loads]:
    """All loads at once: they mostly wait for their start."""
    folder = tmp_path_factory.mktemp("loads")
    kinds: dict[str, dict[str, Any]] = {"whole": {}, "stopped": {"stop_after_s": 1.0}, "lossy": {"lost": 1}}
    kinds["vague"] = {"within_s": 0.003}
    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor() as pool:
        patch.setenv("PYTHONPATH", HERE)
        yield {name: pool.submit(send, url, folder / name, **options) for name, options in kinds.items()}


def send(url: str, stream: Path, *, stop_after_s: float | None = None, **options: float) -> tuple[Path, float]:
    """The table of what was sent, and when the schedule began, on the run's clock."""
    load = LoadProcess()
    with load:
        origin_s = time.monotonic()
        load.start(LoadSpec(url=url, schedule=SCHEDULE), prefix(f"{__name__}:Process", LEAD_S, **options), [stream])
        load.wait_ready()
        assert LEAD_S - 2 < load.not_before_s - time.monotonic() <= LEAD_S
        start_s = load.not_before_s - origin_s
        load.release(origin_s, start_s)
        if stop_after_s is not None:
            time.sleep(LEAD_S + stop_after_s)
            load.stop()
        report = load.wait()
        assert report.sent > 0
        assert [clock.within_s for clock in report.clocks] == [0.0001]
    return stream, start_s


def test_requests_come_back_on_the_run_s_clock(loads: Loads) -> None:
    stream, start_s = loads["whole"].result()
    table = pa.Table.from_batches(list(read_stream(stream))).to_pandas()
    assert len(table) > 10
    assert (table["status"] == "ok").all()
    assert table["intended_s"].min() == pytest.approx(start_s, abs=0.5), "the schedule began when it was told"
    assert (table["done_s"] > table["sent_s"]).all()
    assert table["done_s"].max() < start_s + 4.0


def test_a_load_that_is_stopped_tells_what_it_sent(loads: Loads) -> None:
    stream, _ = loads["stopped"].result()
    assert sum(batch.num_rows for batch in read_stream(stream)) > 0


def test_a_part_that_got_lost_is_an_error(loads: Loads) -> None:
    with pytest.raises(MlscaleError, match="is missing"):
        loads["lossy"].result()


def test_a_clock_that_is_not_known_well_enough_is_an_error(loads: Loads) -> None:
    with pytest.raises(MlscaleError, match=r"known within 3.0 ms only, 2 are allowed"):
        loads["vague"].result()


def test_a_recorded_trace_is_refused_before_a_job_starts(url: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("PYTHONPATH", HERE)
    (tmp_path / "trace.csv").write_text("time_s\n0\n1\n2\n")
    trace = OpenLoop(duration_s=2.0, rate=Trace(file=str(tmp_path / "trace.csv")))
    with LoadProcess() as load:
        load.start(LoadSpec(url=url, schedule=trace), prefix(f"{__name__}:Process", LEAD_S), [tmp_path / "requests"])
        with pytest.raises(MlscaleError, match="a recorded trace can't be sent from elsewhere"):
            load.wait_ready()


def test_tables_pass_line_by_line(tmp_path: Path) -> None:
    content = os.urandom(100_000)
    (tmp_path / "requests.arrows").write_bytes(content)
    parts: dict[str, dict[int, tuple[int, str, str]]] = {}
    for line in tables(tmp_path):
        assert len(line) < 16_000
        name, number, of, digest, text = line.removeprefix(TABLE).split(" ")
        parts.setdefault(name, {})[int(number)] = (int(of), digest, text)
    assert dict(_files(parts)) == {"requests.arrows": content}
    del parts["requests.arrows"][2]
    with pytest.raises(MlscaleError, match="incomplete or corrupt"):
        dict(_files(parts))
