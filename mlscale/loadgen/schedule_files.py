"""Reading schedules from files: JSON of `mlscale.runs.SCHEDULE`, or a CSV trace."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from mlscale.errors import MlscaleError
from mlscale.loadgen.traces import read_recording
from mlscale.runs.schedule import SCHEDULE, ClosedLoop, OpenLoop, Trace


def read_schedule(path: Path | str, *, duration_s: float | None = None) -> ClosedLoop | OpenLoop:
    """Read a schedule: ``*.csv`` is a recorded trace, anything else JSON.

    A trace's file is looked for beside the schedule; its absolute path and sha256 are filled in. ``duration_s``: how
    much of a CSV trace is sent, None: all of it.

    Raises:
        MlscaleError: unreadable or malformed; names the field, or the file and line of a trace.
    """
    file = Path(path)
    if file.suffix.lower() == ".csv":
        return _of_trace(Trace(file=str(file.absolute())), duration_s, file)
    try:
        schedule = SCHEDULE.validate_json(file.read_bytes())
    except OSError as error:
        raise MlscaleError(
            f"the schedule can't be read: {error.strerror}", str(file), "name a JSON schedule or a CSV trace"
        ) from error
    except ValidationError as error:
        raise invalid_schedule(error, str(file)) from error
    if isinstance(schedule, OpenLoop) and isinstance(schedule.rate, Trace):
        beside = schedule.rate.model_copy(update={"file": str(file.absolute().parent / schedule.rate.file)})
        return schedule.model_copy(update={"rate": _of_trace(beside, schedule.duration_s, file).rate})
    return schedule


def invalid_schedule(error: ValidationError, where: str) -> MlscaleError:
    """One line for a schedule that is none: the first field at fault and what is wrong with it."""
    first = error.errors()[0]
    field = ".".join(str(part) for part in first["loc"]) or "the schedule"
    return MlscaleError(f"{field}: {first['msg'].removeprefix('Value error, ')}", where, "fix that field")


def _of_trace(trace: Trace, duration_s: float | None, named_in: Path) -> OpenLoop:
    recording = read_recording(trace)
    length_s = recording.natural_end_s / trace.speed if duration_s is None else duration_s
    try:
        return OpenLoop(duration_s=length_s, rate=trace.model_copy(update={"sha256": recording.sha256}))
    except ValidationError as error:
        raise invalid_schedule(error, str(named_in)) from error
