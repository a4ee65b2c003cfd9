"""Reading runs: a Run is a folder whose tables are read on first use."""

from __future__ import annotations

import html
import json
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import ValidationError

from mlscale.errors import MlscaleError, first_invalid
from mlscale.runs.info import SCHEMA_VERSION, RunInfo
from mlscale.runs.observations import Event
from mlscale.runs.rendering import facts_table
from mlscale.runs.store import INFO_FILE, read_stream
from mlscale.runs.tables import FORMER_NAMES, SCHEMAS, TableName

if TYPE_CHECKING:  # the load worker imports mlscale.runs and must start quickly
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """One run: its folder, its run.json, its tables as data frames (columns: `mlscale.runs.tables.SCHEMAS`)."""

    path: Path
    info: RunInfo

    @classmethod
    def in_memory(cls, info: RunInfo, tables: Mapping[TableName, pd.DataFrame]) -> Run:
        """A run without a folder; its path is its id. ``tables``: all of them, requests sorted by intended_s."""
        run = cls(Path(info.run_id), info)
        run.__dict__.update({str(name): table for name, table in tables.items()})
        return run

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row per client request, in order of intended_s."""
        table = not_before_their_stage(self._table("requests"), self.info)
        return table.sort_values("intended_s", kind="stable", ignore_index=True)

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
    def event_list(self) -> list[Event]:
        """`events` in order of t_s; they are few, and read many times."""
        known = self.events.fillna({"subject": "", "detail": ""})
        rows = known.sort_values("t_s", kind="stable").to_dict("records")
        return [Event(**row | {"detail": json.loads(row["detail"] or "{}")}) for row in rows]

    @cached_property
    def resources(self) -> pd.DataFrame:
        return self._table("resources")

    def _repr_html_(self) -> str:
        """What the run is, how its requests ended, what it may be used for, and its settings."""
        info, requests = self.info, self.requests
        right = requests["status"] == "ok"
        response_s = (requests["done_s"] - requests["intended_s"])[right]
        reasons = "; ".join(info.validity.reasons) if info.validity else ""
        facts = {
            "run": f"{info.environment}, {'SIMULATED, not measured' if info.mode == 'simulated' else info.mode}",
            "arm": None if info.arm == "none" else info.arm,
            "place": info.cell and f"{info.cell}, block {info.block}",
            "load": f"{info.schedule.loop} loop, {info.schedule.duration_s:g} s",
            "requests": f"{len(requests)}, {right.mean():.1%} answered right" if len(requests) else "none",
            "response": f"mean {response_s.mean():.3g} s, 95 % within {response_s.quantile(0.95):.3g} s (right answers)"
            if right.any()
            else None,
            "valid": "yes" if info.valid else f"no, no claim may rest on it: {reasons}",
            "folder": None if str(self.path) == info.run_id else self.path,
        }
        settings = "".join(f"<b>{html.escape(name)}</b>{facts_table(values)}" for name, values in info.scaling.items())
        more = f"<details><summary>settings</summary>{settings}</details>" if settings else ""
        return facts_table(facts) + more

    def _table(self, name: TableName) -> pd.DataFrame:
        sealed = self.path / f"{name}.parquet"
        try:
            if sealed.exists():
                with pq.ParquetFile(sealed) as file:  # two thirds of read_table's time
                    names, held = SCHEMAS[name].names, file.schema_arrow.names
                    columns = [column if column in held else FORMER_NAMES.get(column, column) for column in names]
                    missing = [column for column in columns if column not in held]
                    if missing:
                        raise MlscaleError(f"column {missing[0]} is missing", str(sealed), "measure the run again")
                    table = file.read(columns, use_threads=False).select(columns).rename_columns(names)
                return table.cast(SCHEMAS[name]).to_pandas(use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise MlscaleError(f"the table can't be read: {error}", str(sealed), "measure the run again") from error
        streams = sorted([*self.path.glob(f"{name}.arrow"), *self.path.glob(f"{name}-*.arrow")])
        if not streams and self.info.complete:
            raise MlscaleError("the table is missing", str(sealed), "measure the run again")
        batches = [batch.rename_columns(SCHEMAS[name].names) for stream in streams for batch in read_stream(stream)]
        return pa.Table.from_batches(batches, schema=SCHEMAS[name]).to_pandas()


def not_before_their_stage(requests: pd.DataFrame, info: RunInfo) -> pd.DataFrame:
    """The requests, each intended no earlier than the start of its load stage. Published times are rounded down to
    8 us, which moved requests of clients that join at a step to the time before it in files published until 2026."""
    starts_s = info.schedule.boundaries_s
    if info.step_s is None or len(starts_s) < 2 or requests.empty:
        return requests
    zero_s = info.step_s - starts_s[1]
    stage_s = zero_s + np.asarray(starts_s)[requests["load_stage"].to_numpy()]
    return requests.assign(intended_s=np.maximum(requests["intended_s"].to_numpy(), stage_s))


def load_run(path: Path | str, *, allow_incomplete: bool = False) -> Run:
    """Open one run folder.

    Raises:
        MlscaleError: not a run, malformed, written by a newer mlscale, or incomplete (unless ``allow_incomplete``).
    """
    folder = Path(path)
    file = folder / INFO_FILE
    try:
        text = file.read_bytes()
    except OSError as error:
        raise MlscaleError(
            "not a run folder: it has no run.json", str(folder), "name a folder written by mlscale"
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
        raise MlscaleError(f"broken: {first_invalid(error)}", str(file), "measure the run again") from error
    if info.schema_version > SCHEMA_VERSION:
        raise MlscaleError(f"written by a newer mlscale (schema {info.schema_version})", str(file), "update mlscale")
    if not info.complete and not allow_incomplete:
        raise MlscaleError(
            f"the run is incomplete: {info.incomplete_reason or 'no reason was recorded'}",
            str(folder),
            "measure it again, or exclude it",
        )
    return Run(folder, info)


def load_runs(paths: Iterable[Path | str] | Path | str, *, allow_incomplete: bool = False) -> list[Run]:
    """Open run folders. A folder that is not a run is replaced by all runs below it.

    Incomplete runs below a folder are skipped and listed on stderr, unless ``allow_incomplete``.

    Raises:
        MlscaleError: as `load_run`, or no run is left below a folder.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    runs: list[Run] = []
    for path in map(Path, given):
        if (path / INFO_FILE).exists():
            runs.append(load_run(path, allow_incomplete=allow_incomplete))
        else:
            runs.extend(_runs_below(path, allow_incomplete=allow_incomplete))
    return runs


def _runs_below(folder: Path, *, allow_incomplete: bool) -> list[Run]:
    paths = sorted(file.parent for file in folder.rglob(INFO_FILE))
    runs = [load_run(path, allow_incomplete=True) for path in paths]
    skipped = [] if allow_incomplete else [str(run.path) for run in runs if not run.info.complete]
    if len(skipped) == len(runs):
        what = "only incomplete runs found" if runs else "no run found"
        raise MlscaleError(what, str(folder), "name run folders, or a folder that contains some")
    if skipped:
        sys.stderr.write(f"mlscale: skipped incomplete runs: {', '.join(skipped)}\n")
    return [run for run in runs if allow_incomplete or run.info.complete]


def _schema_version(text: bytes) -> int | None:
    try:
        version = json.loads(text).get("schema_version")
    except (ValueError, AttributeError, RecursionError):
        return None
    return version if isinstance(version, int) else None
