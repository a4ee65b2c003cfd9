"""Recorded arrival traces: CSV of date-times (TIMESTAMP), of seconds (time_s) or of rates (time_s,rate_rps)."""

from __future__ import annotations

import csv
import hashlib
import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np

from mlscale.errors import MlscaleError
from mlscale.loadgen.shapes import Floats
from mlscale.runs.schedule import Trace

_REMEDY: Final = "fix the line; columns are TIMESTAMP, or time_s, or time_s,rate_rps"


@dataclass(frozen=True)
class Recording:
    """A trace as read: ``times_s`` (n,) ascending, seconds since the trace's start; 8 bytes per arrival.

    ``rates_rps`` (n,) for a trace of rates (each holds until the next row); None: the times are arrivals.
    """

    times_s: Floats
    rates_rps: Floats | None
    sha256: str

    @property
    def natural_end_s(self) -> float:
        """Length of a schedule that uses all of it, s: the last row's rate holds as long as the one before."""
        last = float(self.times_s[-1])
        if self.rates_rps is None:
            return math.floor(last) + 1.0
        if self.rates_rps[-1] == 0 and last > 0:
            return last
        return last + (last - float(self.times_s[-2]) if len(self.times_s) > 1 else 1.0)


def read_recording(trace: Trace) -> Recording:
    """Read the trace's file (times as in the file, ``speed`` and ``keep`` not applied).

    Raises:
        MlscaleError: unreadable, changed since the schedule was read, or malformed (names file and line).
    """
    path = Path(trace.file)
    if path.exists() and not path.is_file():  # a device or a pipe, which might never end
        raise MlscaleError("the trace is not a file", str(path), "name an existing CSV file")
    try:
        with path.open("rb") as binary:
            digest = hashlib.file_digest(binary, "sha256").hexdigest()
        with path.open(newline="", encoding="utf-8-sig") as file:
            times, rates = _columns(path, csv.reader(file))
    except OSError as error:
        raise MlscaleError(
            f"the trace can't be read: {error.strerror}", str(path), "name an existing CSV file"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise MlscaleError(f"the trace is not CSV text: {error}", str(path), _REMEDY) from error
    if trace.sha256 and trace.sha256 != digest:
        raise MlscaleError(
            "the trace has changed since its schedule was written", str(path), "restore it, or correct the sha256"
        )
    if rates is None and trace.keep > 1:
        raise MlscaleError(
            f"keep is {trace.keep:g}, but a trace of arrivals can't be extended",
            str(path),
            "use keep <= 1, or speed",
        )
    return Recording(times, rates, digest)


def _columns(path: Path, rows: Iterator[list[str]]) -> tuple[Floats, Floats | None]:
    header = [name.strip() for name in next(rows, [])]
    if "TIMESTAMP" in header:
        return _date_times(path, rows, header.index("TIMESTAMP")), None
    if "time_s" not in header:
        raise MlscaleError("no column TIMESTAMP or time_s", f"{path}, line 1", _REMEDY)
    times, rates = array("d"), array("d")  # 8 bytes a row: traces have tens of millions
    rate_column = header.index("rate_rps") if "rate_rps" in header else None
    time_column = header.index("time_s")
    for line, row in _nonempty(rows):
        where = f"{path}, line {line}"
        times.append(_number(row, time_column, "time_s", where))
        if rate_column is not None:
            rates.append(_number(row, rate_column, "rate_rps", where))
        _check_order(times, where, strict=rate_column is not None)
    _check_not_empty(times, path)
    return np.frombuffer(times), np.frombuffer(rates) if rate_column is not None else None


def _date_times(path: Path, rows: Iterator[list[str]], column: int) -> Floats:
    times = array("d")
    first: datetime | None = None
    for line, row in _nonempty(rows):
        where = f"{path}, line {line}"
        try:
            moment = datetime.fromisoformat(row[column].strip())
            first = first or moment
            times.append((moment - first).total_seconds())
        except (ValueError, IndexError, TypeError) as error:
            raise MlscaleError(f"TIMESTAMP is not a date-time: {_cell(row, column)}", where, _REMEDY) from error
        _check_order(times, where, strict=False)
    _check_not_empty(times, path)
    return np.frombuffer(times)


def _nonempty(rows: Iterator[list[str]]) -> Iterator[tuple[int, list[str]]]:
    return ((line, row) for line, row in enumerate(rows, start=2) if row)


def _number(row: list[str], column: int, name: str, where: str) -> float:
    try:
        value = float(row[column])
    except (ValueError, IndexError) as error:
        raise MlscaleError(f"{name} is not a number: {_cell(row, column)}", where, _REMEDY) from error
    if not math.isfinite(value) or value < 0:
        raise MlscaleError(f"{name} is {value:g}; it must be finite and not negative", where, _REMEDY)
    return value


def _check_order(times: array[float], where: str, *, strict: bool) -> None:
    if len(times) > 1 and (times[-1] < times[-2] or (strict and times[-1] == times[-2])):
        raise MlscaleError("the time is not after the line before", where, "sort the trace by time")


def _check_not_empty(times: array[float], path: Path) -> None:
    if not times:
        raise MlscaleError("the trace has no rows", str(path), "name a trace with at least one line of data")


def _cell(row: list[str], column: int) -> str:
    return repr(row[column][:40]) if column < len(row) else "the line is too short"
