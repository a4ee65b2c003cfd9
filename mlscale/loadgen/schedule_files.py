"""Schedules from files: JSON of `mlscale.runs.SCHEDULE`, or recorded traffic: CSV of arrivals as date-times (TIMESTAMP)
or seconds (time_s) or of rates beside either (rate_rps), also compressed, or rates as a monitoring system exports them
(`metric_exports`)."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from array import array
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from pydantic import ValidationError

from mlscale.errors import MlscaleError, first_invalid
from mlscale.loadgen.metric_exports import is_export, read_export
from mlscale.loadgen.shapes import Floats
from mlscale.runs import load_run
from mlscale.runs.schedule import MAX_RATE_RPS, SCHEDULE, ClosedLoop, OpenLoop, Trace

# Of reading a trace: called with what happens and the share of the file that was read.
Reading = Callable[[str, float], None]
_ROWS_A_CALL: Final = 100_000
_MAX_JSON_BYTES: Final = 64 * 2**20
# The last two are of the Azure LLM inference traces, and say how long a language model works on an answer.
_COLUMNS: Final = ("TIMESTAMP", "time_s", "rate_rps", "ContextTokens", "GeneratedTokens")
_REMEDY: Final = "fix the line; columns are TIMESTAMP or time_s, of arrivals, or with rate_rps"


def is_csv(file: Path) -> bool:
    """Whether it is a trace as CSV, by its name."""
    return file.name.lower().endswith((".csv", ".csv.gz"))


def read_schedule(
    path: Path | str,
    *,
    duration_s: float | None = None,
    speed: float = 1.0,
    keep: float = 1.0,
    progress: Reading | None = None,
) -> ClosedLoop | OpenLoop:
    """Read a schedule: ``*.csv``, ``*.csv.gz`` or a monitoring system's export is a recorded trace, a folder a run that
    had it, anything else JSON.

    A trace's path is relative to the schedule; its absolute path and sha256 are filled in. For a trace: ``duration_s``
    is how much of it to send (None: all), ``speed`` and ``keep`` as in `mlscale.runs.schedule.Trace`; ``progress`` is
    called while it is read.

    Raises:
        MlscaleError: unreadable or malformed; names the field, or the trace's file and line.
    """
    file = Path(path)
    try:
        text = b"" if is_csv(file) else _json_text(file)
        if is_csv(file) or is_export(text):
            trace = Trace(file=str(file.absolute()), speed=speed, keep=keep)
            return _trace_schedule(trace, duration_s, file, progress)
        schedule = SCHEDULE.validate_json(text)
    except IsADirectoryError:
        return load_run(file, allow_incomplete=True).info.schedule
    except OSError as error:
        raise MlscaleError(
            f"the schedule can't be read: {error.strerror}", str(file), "name a JSON schedule or a CSV trace"
        ) from error
    except ValidationError as error:
        raise invalid_schedule(error, str(file)) from error
    if isinstance(schedule, OpenLoop) and isinstance(schedule.rate, Trace):
        trace = schedule.rate.model_copy(update={"file": str(file.absolute().parent / schedule.rate.file)})
        return schedule.model_copy(update={"rate": _trace_schedule(trace, schedule.duration_s, file, progress).rate})
    return schedule


def _json_text(file: Path) -> bytes:
    with file.open("rb") as opened:
        text = opened.read(_MAX_JSON_BYTES + 1)
    if len(text) > _MAX_JSON_BYTES:
        raise MlscaleError(f"it is larger than {_MAX_JSON_BYTES / 2**20:g} MiB", str(file), "name a JSON schedule")
    return text


def invalid_schedule(error: ValidationError, where: str) -> MlscaleError:
    """The error for an invalid schedule: its first invalid field, and why."""
    return MlscaleError(first_invalid(error, "the schedule"), where, "fix that field")


def _trace_schedule(trace: Trace, duration_s: float | None, source: Path, progress: Reading | None) -> OpenLoop:
    recording = read_recording(trace, progress)
    if recording.rates_rps is not None and recording.rates_rps.max() * trace.keep > MAX_RATE_RPS:
        raise MlscaleError(f"a rate above {MAX_RATE_RPS:,.0f} requests/s can't be sent", str(source), "lower the rates")
    length_s = recording.natural_end_s / trace.speed if duration_s is None else duration_s
    try:
        return OpenLoop(duration_s=length_s, rate=trace.model_copy(update={"sha256": recording.sha256}))
    except ValidationError as error:
        raise invalid_schedule(error, str(source)) from error


@dataclass(frozen=True)
class Recording:
    """A trace as read: ``times_s`` (n,) ascending, seconds since its first row; 8 bytes per arrival.

    ``rates_rps`` (n,) for a trace of rates (each holds until the next row); None: the times are arrivals. ``begins``:
    date and time of the first row, naive if the trace names no time zone; None: it has only seconds. ``notes``: what
    may be wrong with it.
    """

    times_s: Floats
    rates_rps: Floats | None
    sha256: str
    begins: datetime | None = None
    notes: tuple[str, ...] = ()

    @property
    def natural_end_s(self) -> float:
        """Length of a schedule that uses all of it, s: the last row's rate holds as long as the one before."""
        last = float(self.times_s[-1])
        if self.rates_rps is None:
            return math.floor(last) + 1.0
        if self.rates_rps[-1] == 0 and last > 0:
            return last
        return last + (last - float(self.times_s[-2]) if len(self.times_s) > 1 else 1.0)


def read_recording(trace: Trace, progress: Reading | None = None) -> Recording:
    """Read the trace's file (times as in the file, ``speed`` and ``keep`` not applied).

    Raises:
        MlscaleError: unreadable, changed since the schedule was read, or malformed (names file and line).
    """
    path = Path(trace.file)
    try:
        if path.exists() and not path.is_file():  # a device or a pipe, which might never end
            raise MlscaleError("the trace is not a file", str(path), "name an existing CSV file")
        with path.open("rb") as binary:
            is_json = binary.read(1) == b"{"
            binary.seek(0)
            digest = hashlib.file_digest(binary, "sha256").hexdigest()
        recording = _from_export(path, digest) if is_json else _from_csv(path, digest, progress)
    except (UnicodeDecodeError, csv.Error, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise MlscaleError(f"the trace is not CSV text: {error}", str(path), _REMEDY) from error
    except (OSError, ValueError) as error:  # ValueError: a name with a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise MlscaleError(f"the trace can't be read: {reason}", str(path), "name an existing CSV file") from error
    if trace.sha256 and trace.sha256 != digest:
        raise MlscaleError(
            "the trace has changed since its schedule was written", str(path), "restore it, or correct the sha256"
        )
    if recording.rates_rps is None and trace.keep > 1:
        raise MlscaleError(
            f"keep is {trace.keep:g}, but a trace of arrivals can't be extended",
            str(path),
            "use keep <= 1, or speed",
        )
    return recording


def _from_export(path: Path, digest: str) -> Recording:
    moments, rates = read_export(_json_text(path), str(path))
    times_s = np.array([(moment - moments[0]).total_seconds() for moment in moments])
    rates_rps = np.array(rates)
    if not len(rates) or not (np.isfinite(rates_rps) & (rates_rps >= 0)).all() or (np.diff(times_s) <= 0).any():
        what = "it needs rates that are finite and not negative, in order of time"
        raise MlscaleError(what, str(path), "export it again")
    return Recording(times_s, rates_rps, digest, moments[0])


class _RowError(Exception):
    """What is wrong with a row, and the remedy. The reader of the file adds the line's number."""


def _from_csv(path: Path, digest: str, progress: Reading | None) -> Recording:
    size = path.stat().st_size
    is_packed = path.suffix.lower() == ".gz"
    with (
        path.open("rb") as stored,
        gzip.open(stored) if is_packed else nullcontext(stored) as plain,
        io.TextIOWrapper(plain, newline="", encoding="utf-8-sig") as file,
    ):
        told = None if progress is None else lambda: progress(f"reading {path.name}", stored.tell() / size)
        return _rows(path, digest, file, told)


def _rows(path: Path, digest: str, file: TextIO, told: Callable[[], None] | None) -> Recording:
    rows = csv.reader(file)
    header = [name.strip() for name in next(rows, [])]
    if not {"TIMESTAMP", "time_s"} & set(header):
        raise MlscaleError("no column TIMESTAMP or time_s", f"{path}, line 1", _REMEDY)
    dated = "TIMESTAMP" in header
    time_column = header.index("TIMESTAMP" if dated else "time_s")
    rate_column = header.index("rate_rps") if "rate_rps" in header else None
    unknown = [name for name in header if name not in _COLUMNS]
    if unknown:  # a rate under another name would be taken for one arrival a row
        remedy = "remove it, or call it rate_rps if it holds requests per second"
        raise MlscaleError(f"column {unknown[0]!r} is not understood", f"{path}, line 1", remedy)
    times, rates = array("d"), array("d")  # 8 bytes a row: traces have tens of millions
    clock = _Clock()
    time_of = clock if dated else partial(_number, name="time_s")
    before = -math.inf
    try:
        for row in rows:
            if not row:
                continue
            time_s = time_of(row, time_column)
            if rate_column is not None:
                rates.append(_number(row, rate_column, "rate_rps"))
            if time_s < before or (time_s == before and rate_column is not None):
                remedy = "sort the trace by time; if its clock was put back for winter, give times with their zone"
                raise _RowError("the time is not after the line before", remedy)
            times.append(time_s)
            before = time_s
            if told is not None and len(times) % _ROWS_A_CALL == 0:
                told()
    except _RowError as error:
        what, remedy = error.args
        raise MlscaleError(what, f"{path}, line {rows.line_num}", remedy) from error
    if not times:
        raise MlscaleError("the trace has no rows", str(path), "name a trace with at least one line of data")
    times_s = np.frombuffer(times)
    times_s -= times_s[0]  # of what was before the first row, the trace says nothing
    rates_rps = np.frombuffer(rates) if rate_column is not None else None
    return Recording(times_s, rates_rps, digest, clock.first, tuple(clock.notes))


class _Clock:
    """Turns a cell with a date-time into seconds since the ``first``. ``notes``: of hours that may never have been."""

    def __init__(self) -> None:
        self.first: datetime | None = None
        self.notes: list[str] = []
        self._before_s, self._usual_s = 0.0, math.inf

    def __call__(self, row: list[str], column: int) -> float:
        try:
            moment = datetime.fromisoformat(row[column].strip())
            self.first = self.first or moment
            time_s = (moment - self.first).total_seconds()
        except (ValueError, IndexError, TypeError) as error:
            raise _RowError(f"TIMESTAMP is not a date-time: {_cell(row, column)}", _REMEDY) from error
        gap_s = time_s - self._before_s
        longer_s = gap_s - self._usual_s
        if 0.99 * _HOUR_S < longer_s < 1.5 * _HOUR_S and moment.tzinfo is None and _may_be_put_forward(moment):
            self.notes.append(
                f"an hour without rows ends at {moment}: if the clock was put forward for summer then, it never was; "
                "give times with their zone"
            )
        self._before_s, self._usual_s = time_s, gap_s or self._usual_s
        return time_s


_HOUR_S: Final = 3600.0


def _may_be_put_forward(moment: datetime) -> bool:
    """Whether clocks are put forward at about this time somewhere: early on Sundays of spring (IANA's tz database)."""
    return moment.isoweekday() == 7 and moment.hour <= 4 and moment.month in (3, 9, 10)


def _number(row: list[str], column: int, name: str) -> float:
    try:
        value = float(row[column])
    except (ValueError, IndexError) as error:
        raise _RowError(f"{name} is not a number: {_cell(row, column)}", _REMEDY) from error
    if not 0 <= value < math.inf:
        raise _RowError(f"{name} is {value:g}; it must be finite and not negative", _REMEDY)
    return value


def _cell(row: list[str], column: int) -> str:
    return repr(row[column][:40]) if column < len(row) else "the line is too short"
