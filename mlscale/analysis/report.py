"""The tables of a comparison, as frames and as JSON, for `mlscale compare` and the comparison notebook."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.comparability import comparability_sentences
from mlscale.analysis.inference import compare
from mlscale.analysis.order import position_effects, predecessor_effects
from mlscale.analysis.steady import catch_up_and_steady, steady_table
from mlscale.analysis.survival import restricted_mean
from mlscale.analysis.verdicts import across_cells, by_window
from mlscale.runs import MlscaleError

_MEANS: Final = {
    "P1 mean (ms)": ("mean_response_s", 1000),
    "P2 sd (ms)": ("sd_response_s", 1000),
    "mean w/o failures": ("mean_response_ok_s", 1000),
    "sd w/o failures": ("sd_response_ok_s", 1000),
    "catch-up": ("catch_up_response_s", 1000),
    "steady state": ("steady_response_s", 1000),
    "body-standardised": ("mean_response_by_body_s", 1000),
    "send to done": ("mean_send_to_done_s", 1000),
    "queue": ("mean_queue_s", 1000),
    "inference": ("mean_inference_s", 1000),
    "answers/s": ("throughput_rps", 1),
    "failures (%)": ("failure_share", 100),
    "CPU/answer (ms)": ("cpu_per_answer_s", 1000),
    "in steady state": ("cpu_per_answer_steady_s", 1000),
    "data plane": ("cpu_per_answer_data_plane_s", 1000),
    "control plane": ("cpu_per_answer_control_plane_s", 1000),
    "throttled (%)": ("throttled_share", 100),
    "host busy (%)": ("host_busy_share", 100),
    "outside the run (%)": ("host_outside_share", 100),
    "stolen (%)": ("host_stolen_share", 100),
    "detection (s)": ("detection_s", 1),
    "container first": ("container_first_s", 1),
    "container last": ("container_last_s", 1),
    "first answer": ("first_answer_s", 1),
    "T_settle": ("t_settle_s", 1),
}


@dataclass(frozen=True)
class CellReport:
    """One cell.

    ``tables``: "runs" (`runs_table`), "means" (`describe`; "means_with_invalid" where a run is invalid), and unless
    tests were refused "effects" and "effects_with_invalid" (`compare`), "by_window", "catch_up" and "steady"
    (`mlscale.analysis.steady`), "positions" and "predecessors" (`mlscale.analysis.order`). ``notes`` name every invalid
    run; ``refusal``: why no test was made, in one line.
    """

    title: str
    tables: Mapping[str, pd.DataFrame]
    notes: tuple[str, ...] = ()
    refusal: str = ""

    @property
    def estimated(self) -> pd.DataFrame:
        """The effects whose ratio could be estimated; empty where no test was made."""
        effects = self.tables.get("effects")
        return pd.DataFrame({"pair": []}) if effects is None else effects[effects["ratio"].notna()]

    @property
    def has_intervals(self) -> bool:
        """Whether a ratio has an interval, as from two blocks on."""
        return "effects" in self.tables and bool(self.tables["effects"]["low"].notna().any())


@dataclass(frozen=True)
class Report:
    """All cells, and where there are several, a table of their verdicts."""

    level_s: float
    cells: tuple[CellReport, ...]
    across: pd.DataFrame = field(default_factory=pd.DataFrame)
    rows: pd.DataFrame = field(default_factory=pd.DataFrame)


def report(rows: pd.DataFrame, level_s: float, *, p_values: bool | None = None) -> Report:
    """The full report on runs.

    Args:
        rows: of `mlscale.analysis.summary.summarise`, any mixture of cells, modes and hosts; a cell that can't be
            tested is only described, with the reason as its refusal.
    """
    cells = [_cell(group, p_values) for group in design.cells(rows)]
    effects = {cell.title: cell.tables["effects"] for cell in cells if "effects" in cell.tables}
    across = across_cells(effects) if len(effects) > 1 else pd.DataFrame()
    return Report(level_s, tuple(cells), across, rows)


def describe(rows: pd.DataFrame, *, with_invalid: bool = False) -> pd.DataFrame:
    """Per environment: numbers of runs and of marked runs, then means over the ``n`` valid ones (restricted for T_slo).

    One run for each environment and block, run A of an A/A pair; every run where there are no blocks.
    ``with_invalid``: the first attempt, valid or not.
    """
    used = rows if with_invalid else rows[rows["valid"].astype(bool)]
    if used["block"].notna().any():
        used = design.chosen(used, with_invalid=with_invalid)
    used = used[used["aa_label"].fillna("A") == "A"]
    table = {}
    for name, runs in rows.groupby("environment", sort=False):
        counted = used[used["environment"] == name]
        until_s = float((counted["horizon_s"] - counted["window_s"]).min()) if len(counted) else float("nan")
        row: dict[str, Any] = {
            "runs": len(runs),
            "invalid": int((~runs["valid"].astype(bool)).sum()),
            "host-bound": int(runs["host_bound"].astype(bool).sum()),
            "disturbed": int(runs["disturbed"].astype(bool).sum()),
            "pre-scaled": int(counted["pre_scaled"].astype(bool).sum()),
            "n": len(counted),
            "P3 T_slo (s)": restricted_mean(counted["t_slo_s"], counted["t_slo_censored"], until_s),
            "censored": int(counted["t_slo_censored"].astype(bool).sum()),
            "over L (s)": _mean(counted, "over_level_s"),
        }
        row |= {label: _mean(counted, column) * factor for label, (column, factor) in _MEANS.items()}
        table[str(name)] = row
    return pd.DataFrame.from_dict(table, orient="index").rename_axis("environment")


def runs_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Every run in the order in which it was measured: its place, its predecessor, its marks, its primary endpoints."""
    ordered = rows.sort_values(["block", "position", "attempt"], kind="stable", na_position="first")
    columns = ["block", "position", "environment", "aa_label", "attempt", "predecessor", "valid", "pre_scaled"]
    table = ordered.reindex(columns=columns)
    table["P1_ms"], table["P2_ms"] = 1000 * ordered["mean_response_s"], 1000 * ordered["sd_response_s"]
    table["P3_s"], table["censored"] = ordered["t_slo_s"], ordered["t_slo_censored"]
    table["over_L_s"] = ordered["over_level_s"]
    table["failed_%"] = 100 * ordered["failure_share"]
    return table.rename(columns={"position": "place", "aa_label": "A/A", "pre_scaled": "pre-scaled"}).reset_index(
        drop=True
    )


def compact(table: pd.DataFrame) -> pd.DataFrame:
    """The table for display, without columns that are empty or whose marks no row has."""

    def applies(name: str, column: pd.Series[Any]) -> bool:
        known = column.dropna()
        return len(known) > 0 and (name == "valid" or known.dtype.kind == "f" or bool(known.astype(bool).any()))

    return table[[name for name, column in table.items() if applies(str(name), column)]]


def to_json(result: Report) -> str:
    """The whole report, including each run's row; NaN becomes null."""
    cells = [
        {
            "cell": cell.title,
            "tables": {name: _records(table) for name, table in cell.tables.items()},
            "notes": list(cell.notes),
            "refusal": cell.refusal or None,
        }
        for cell in result.cells
    ]
    document = {
        "level_s": result.level_s,
        "comparability": comparability_sentences(result.rows) if len(result.rows) else [],
        "cells": cells,
        "across": _records(result.across),
        "runs": _records(result.rows),
    }
    return json.dumps(document, indent=1, allow_nan=False)


def _cell(group: pd.DataFrame, p_values: bool | None) -> CellReport:
    first = group.iloc[0]
    title = f"cell {first['cell']}: " if first["cell"] else ""
    title += f"{first['arm']}, {first['loop']} loop, {first['connections']} connections"
    if first["quota"] != "in force":
        title += f", CPU quota: {first['quota']}"
    elif np.isfinite(first["cpu_period_s"]):
        title += f", {1000 * first['cpu_period_s']:g} ms period"
    tables = {"runs": runs_table(group), "means": describe(group)}
    names = list(dict.fromkeys(group["environment"]))
    invalid = group[~group["valid"].astype(bool)]
    if len(invalid):
        tables["means_with_invalid"] = describe(group, with_invalid=True)
    notes = tuple(_invalid_line(row) for row in invalid.to_dict(orient="records"))
    if len(names) < 2:
        return CellReport(title, tables, (*notes, "one environment alone: there is nothing to compare"))
    try:
        effects = compare(group, p_values=p_values)
        with_invalid = compare(group, with_invalid=True, p_values=p_values)
        windows = by_window(group, design.environment_pairs(names))
    except MlscaleError as error:
        return CellReport(title, tables, notes, f"no test is made: {error}")
    used = design.chosen(group)
    tables |= {
        "effects": effects,
        "effects_with_invalid": with_invalid,
        "by_window": windows,
        "catch_up": catch_up_and_steady(group),
        "steady": steady_table(used),
        "positions": position_effects(group),
        "predecessors": predecessor_effects(group),
    }
    return CellReport(title, tables, notes or ("no run is invalid: the table with invalid runs in is the same",))


def _invalid_line(row: Mapping[str, Any]) -> str:
    where = f"block {row['block']:g}, {row['environment']}" if pd.notna(row["block"]) else str(row["run_id"])
    return f"run of {where} is invalid: {row['reasons'] or 'incomplete'}"


def _mean(rows: pd.DataFrame, column: str) -> float:
    return float(rows[column].mean()) if column in rows and len(rows) else float("nan")


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    frame = table if isinstance(table.index, pd.RangeIndex) else table.reset_index()
    return [{str(key): _plain(value) for key, value in row.items()} for row in frame.to_dict(orient="records")]


def _plain(value: Any) -> Any:
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
