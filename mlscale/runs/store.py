"""Writes a run: Arrow IPC streams while it is measured (readable after a kill -9), then Parquet files."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from mlscale.atomic import replacing
from mlscale.errors import MlscaleError, as_user_error
from mlscale.runs.info import RunInfo
from mlscale.runs.observations import Event, Observation, ReplicaSample, ResourceSample
from mlscale.runs.tables import SCHEMAS, TableName

INFO_FILE: Final = "run.json"


class TableWriter:
    """Appends rows to one Arrow IPC stream; a batch is flushed after ``flush_rows`` rows or ``flush_s`` seconds.

    Thread-safe. Holds at most ``flush_rows`` rows.
    """

    def __init__(self, path: Path, schema: pa.Schema, *, flush_rows: int = 1024, flush_s: float = 1.0) -> None:
        self._schema = schema
        self._file = path.open("wb")
        self._stream = pa.ipc.new_stream(self._file, schema)
        self._file.flush()
        self._rows: list[Mapping[str, Any]] = []
        self._flush_rows = flush_rows
        self._flush_s = flush_s
        self._flushed_at_s = time.monotonic()
        self._lock = threading.Lock()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add one row; missing columns become null."""
        with self._lock:
            self._rows.append(row)
            if len(self._rows) >= self._flush_rows or time.monotonic() - self._flushed_at_s >= self._flush_s:
                self._flush()

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the same schema, at a tenth of the cost of single rows."""
        with self._lock:
            self._flush()
            self._stream.write_batch(batch)
            self._file.flush()

    def flush(self) -> None:
        """Hand all rows so far to the operating system."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._stream.write_batch(pa.RecordBatch.from_pylist([dict(row) for row in self._rows], schema=self._schema))
            self._file.flush()
            self._rows.clear()
        self._flushed_at_s = time.monotonic()

    def close(self) -> None:
        """Write the remaining rows and close the file. Does nothing if it is closed, even after a failed write."""
        with self._lock:
            if self._file.closed:
                return
            self._flush()
            self._stream.close()
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RunWriter:
    """Writes a run's folder. Until `seal` succeeds, run.json says that the run is incomplete."""

    def __init__(self, path: Path, info: RunInfo) -> None:
        """Create the folder and its run.json.

        Raises:
            MlscaleError: the folder isn't empty, or isn't writable.
        """
        import pandas  # noqa: F401 (else pyarrow imports it at the first row: seconds, in mid-run)

        self.path = path
        self.info = info.model_copy(
            update={"complete": False, "incomplete_reason": "interrupted while it was measured"}
        )
        try:
            path.mkdir(parents=True, exist_ok=True)
            if any(path.iterdir()):
                raise MlscaleError("the folder is not empty", str(path), "choose another --out, or delete the folder")
            _write_json(path / INFO_FILE, self.info)
            self._writers = {name: TableWriter(path / f"{name}.arrow", SCHEMAS[name]) for name in _OWN_TABLES}
        except OSError as error:
            raise MlscaleError(error.strerror or str(error), str(path), "choose a writable folder") from error

    def request_stream(self, worker: int) -> Path:
        """File for load worker ``worker``'s part of the requests table (its part of the hops is written beside it)."""
        return self.path / f"requests-{worker}.arrow"

    def observe(self, observation: Observation) -> None:
        """Append one observation to its table."""
        row = dataclasses.asdict(observation)
        match observation:
            case ReplicaSample():
                self._writers["replicas"].append(row)
            case ResourceSample():
                self._writers["resources"].append(row)
            case Event():
                self._writers["events"].append(row | {"detail": json.dumps(row["detail"], sort_keys=True)})

    def update(self, **changes: Any) -> RunInfo:
        """Put ``changes`` into run.json."""
        self.info = self.info.model_copy(update=changes)
        _write_json(self.path / INFO_FILE, self.info)
        return self.info

    def flush(self) -> None:
        """Hand all observations so far to the operating system, so that the tables can be read before sealing."""
        for writer in self._writers.values():
            writer.flush()

    def seal(self, **changes: Any) -> RunInfo:
        """Convert the streams to Parquet and mark the run complete; ``changes`` go into run.json."""
        for writer in self._writers.values():
            writer.close()
        for name in SCHEMAS:
            _seal_table(self.path, name)
        return self.update(**changes, complete=True, incomplete_reason=None)

    def abandon(self, reason: str, **changes: Any) -> RunInfo:
        """Close the streams and give the reason for the incomplete run in run.json."""
        for writer in self._writers.values():
            writer.close()
        return self.update(**changes, incomplete_reason=reason)

    def abandon_for(self, error: BaseException, **changes: Any) -> None:
        """`abandon` because of ``error``, which the caller then raises again.

        Raises:
            MlscaleError: ``error`` is a full or read-only disk.
        """
        reason = _STOPPED.get(type(error), f"{type(error).__name__}: {error}")
        try:
            self.abandon(reason, **changes)
        except OSError as second:  # a full disk; run.json says "incomplete" since it was first written
            error.add_note(f"and the reason could not be written to {self.path}: {second}")
        full = as_user_error(error)
        if isinstance(error, OSError) and full is not None:
            raise MlscaleError(full.what, str(self.path), full.remedy) from error


def read_stream(path: Path) -> Iterator[pa.RecordBatch]:
    """The complete batches of an Arrow IPC stream; a tail truncated by a kill -9 is skipped."""
    with path.open("rb") as file:
        try:
            stream = pa.ipc.open_stream(file)
            yield from stream
        except (pa.ArrowInvalid, OSError, EOFError):
            return


def _seal_table(folder: Path, name: TableName) -> None:
    streams = sorted([*folder.glob(f"{name}.arrow"), *folder.glob(f"{name}-*.arrow")])
    with (
        replacing(folder / f"{name}.parquet") as partial,
        pq.ParquetWriter(partial, SCHEMAS[name], compression="zstd") as writer,
    ):
        for stream in streams:
            for batch in read_stream(stream):
                writer.write_batch(batch)
    for stream in streams:
        stream.unlink()


def _write_json(path: Path, info: RunInfo) -> None:
    with replacing(path) as partial:
        partial.write_text(info.model_dump_json(indent=2) + "\n")


_STOPPED: Final[Mapping[type[BaseException], str]] = {
    KeyboardInterrupt: "interrupted by the user",
    SystemExit: "ended by a signal",
}
_OWN_TABLES: Final[tuple[TableName, ...]] = ("hops", "replicas", "events", "resources")
