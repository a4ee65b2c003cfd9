"""Reading runs: a Run is a folder, its tables are read when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from mlscale.errors import MlscaleError
from mlscale.runs.info import SCHEMA_VERSION, RunInfo
from mlscale.runs.store import INFO_FILE, read_stream
from mlscale.runs.tables import SCHEMAS, TableName

if TYPE_CHECKING:  # the load worker imports mlscale.runs and has to start quickly
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """One run: its folder, its run.json, its tables as data frames (columns: `mlscale.runs.tables.SCHEMAS`)."""

    path: Path
    info: RunInfo

    @classmethod
    def in_memory(cls, info: RunInfo, tables: Mapping[TableName, pd.DataFrame]) -> Run:
        """A run that lies in no folder; its path is its id. ``tables``: all of them, requests sorted by intended_s."""
        run = cls(Path(info.run_id), info)
        run.__dict__.update({str(name): table for name, table in tables.items()})
        return run

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per client request, in order of intended_s."""
        return self._table("requests").sort_values("intended_s", kind="stable", ignore_index=True)

    @cached_property
    def hops(self) -> pd.DataFrame:
        return self._table("hops")

    @cached_property
    def replicas(self) -> pd.DataFrame:
        return self._table("replicas")

    @cached_property
    def events(self) -> pd.DataFrame:
        return self._table("events")

    @cached_property
    def resources(self) -> pd.DataFrame:
        return self._table("resources")

    def _table(self, name: TableName) -> pd.DataFrame:
        sealed = self.path / f"{name}.parquet"
        try:
            if sealed.exists():
                return pq.read_table(sealed, schema=SCHEMAS[name]).to_pandas()
        except (pa.ArrowException, OSError) as error:
            raise MlscaleError(f"the table can't be read: {error}", str(sealed), "measure the run again") from error
        streams = sorted([*self.path.glob(f"{name}.arrow"), *self.path.glob(f"{name}-*.arrow")])
        if not streams and self.info.complete:
            raise MlscaleError("the table is missing", str(sealed), "measure the run again")
        batches = [batch for stream in streams for batch in read_stream(stream)]
        return pa.Table.from_batches(batches, schema=SCHEMAS[name]).to_pandas()


def load_run(path: Path | str, *, allow_incomplete: bool = False) -> Run:
    """Open one run folder.

    Raises:
        MlscaleError: not a run, broken, written by a newer mlscale, or incomplete (unless ``allow_incomplete``).
    """
    folder = Path(path)
    file = folder / INFO_FILE
    try:
        text = file.read_text()
    except OSError as error:
        raise MlscaleError(
            "not a run folder: it has no run.json", str(folder), "name a folder that mlscale wrote"
        ) from error
    try:
        info = RunInfo.model_validate_json(text)
    except ValidationError as error:
        version = _schema_version(text)
        if version is not None and version > SCHEMA_VERSION:
            raise MlscaleError(
                f"written by a newer mlscale (schema {version}, this one reads up to {SCHEMA_VERSION})",
                str(file),
                "update mlscale",
            ) from error
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        raise MlscaleError(f"broken: {place}: {first['msg']}", str(file), "measure the run again") from error
    if info.schema_version > SCHEMA_VERSION:
        raise MlscaleError(f"written by a newer mlscale (schema {info.schema_version})", str(file), "update mlscale")
    if not info.complete and not allow_incomplete:
        raise MlscaleError(
            f"the run is incomplete: {info.incomplete_reason}", str(folder), "measure it again, or leave it out"
        )
    return Run(folder, info)


def load_runs(paths: Iterable[Path | str] | Path | str, *, allow_incomplete: bool = False) -> list[Run]:
    """Open run folders; a folder that is no run stands for the runs below. Incomplete ones raise (see `load_run`)."""
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    runs: list[Run] = []
    for path in map(Path, given):
        folders = [path] if (path / INFO_FILE).exists() else sorted(file.parent for file in path.rglob(INFO_FILE))
        if not folders:
            raise MlscaleError("no run found", str(path), "name run folders, or a folder that holds some")
        runs.extend(load_run(folder, allow_incomplete=allow_incomplete) for folder in folders)
    return runs


def _schema_version(text: str) -> int | None:
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError):
        return None
    return version if isinstance(version, int) else None
