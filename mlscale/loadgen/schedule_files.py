"""Reading schedules from files: JSON of `mlscale.runs.SCHEDULE`, or a CSV trace."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import ValidationError

from mlscale.errors import MlscaleError, first_invalid
from mlscale.loadgen.traces import read_recording
from mlscale.runs.schedule import MAX_RATE_RPS, SCHEDULE, ClosedLoop, OpenLoop, Trace

_MAX_JSON_BYTES: Final = 64 * 2**20


def read_schedule(
    path: Path | str, *, duration_s: float | None = None, speed: float = 1.0, keep: float = 1.0
) -> ClosedLoop | OpenLoop:
    """Read a schedule: ``*.csv`` is a recorded trace, anything else JSON.

    A trace's path is relative to the schedule; its absolute path and sha256 are filled in. For a CSV trace:
    ``duration_s`` is how much of it to send (None: all), ``speed`` and ``keep`` as in `mlscale.runs.schedule.Trace`.

    Raises:
        MlscaleError: unreadable or malformed; names the field, or the trace's file and line.
    """
    file = Path(path)
    if file.suffix.lower() == ".csv":
        try:
            trace = Trace(file=str(file.absolute()), speed=speed, keep=keep)
        except ValidationError as error:
            raise invalid_schedule(error, str(file)) from error
        return _trace_schedule(trace, duration_s, file)
    try:
        with file.open("rb") as opened:
            text = opened.read(_MAX_JSON_BYTES + 1)
        if len(text) > _MAX_JSON_BYTES:
            raise MlscaleError(f"it is larger than {_MAX_JSON_BYTES / 2**20:g} MiB", str(file), "name a JSON schedule")
        schedule = SCHEDULE.validate_json(text)
    except OSError as error:
        raise MlscaleError(
            f"the schedule can't be read: {error.strerror}", str(file), "name a JSON schedule or a CSV trace"
        ) from error
    except ValidationError as error:
        raise invalid_schedule(error, str(file)) from error
    if isinstance(schedule, OpenLoop) and isinstance(schedule.rate, Trace):
        trace = schedule.rate.model_copy(update={"file": str(file.absolute().parent / schedule.rate.file)})
        return schedule.model_copy(update={"rate": _trace_schedule(trace, schedule.duration_s, file).rate})
    return schedule


def invalid_schedule(error: ValidationError, where: str) -> MlscaleError:
    """The error for an invalid schedule: its first invalid field, and why."""
    return MlscaleError(first_invalid(error, "the schedule"), where, "fix that field")


def _trace_schedule(trace: Trace, duration_s: float | None, source: Path) -> OpenLoop:
    recording = read_recording(trace)
    if recording.rates_rps is not None and recording.rates_rps.max() * trace.keep > MAX_RATE_RPS:
        raise MlscaleError(f"a rate above {MAX_RATE_RPS:,.0f} requests/s can't be sent", str(source), "lower the rates")
    length_s = recording.natural_end_s / trace.speed if duration_s is None else duration_s
    try:
        return OpenLoop(duration_s=length_s, rate=trace.model_copy(update={"sha256": recording.sha256}))
    except ValidationError as error:
        raise invalid_schedule(error, str(source)) from error
