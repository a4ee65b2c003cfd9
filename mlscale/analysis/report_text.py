"""A comparison's tables as plain text."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.report import CellReport, Report

WIDE: Final = 130


def to_text(result: Report) -> str:
    """Cell after cell: means, each pair's effects with p last, rankings by window, what was refused and why."""
    lines = [f"L = {result.level_s:g} s" if result.level_s is not None else "no level L is given: there is no T_slo"]
    for cell in result.cells:
        lines += ["", cell.title, "=" * len(cell.title), *_cell(cell)]
    if len(result.across):
        lines += ["", "Verdicts across cells", _text(result.across.set_index(["pair", "endpoint"]))]
    return "\n".join(lines)


def effects_text(table: pd.DataFrame) -> str:
    """What `compare` found, a table per pair with a column per endpoint; p stands last."""
    return "\n\n".join(_text(pair) for pair in effects_by_pair(table))


def effects_by_pair(table: pd.DataFrame) -> list[pd.DataFrame]:
    """What `compare` found as text, a table per pair with a column per endpoint, without rows that say nothing."""
    return [_pair(str(pair), rows) for pair, rows in table.groupby("pair", sort=False)]


def _cell(cell: CellReport) -> list[str]:
    lines = []
    for heading, table in cell.to_read().items():
        lines += ["", heading, _text(table, index=not isinstance(table.index, pd.RangeIndex))]
    effects, with_invalid = cell.tables.get("effects"), cell.tables.get("effects_with_invalid")
    if effects is not None and cell.estimated.empty:
        lines += ["", f"Effects: none can be estimated ({', '.join(dict.fromkeys(effects['verdict']))})"]
    elif effects is not None:
        lines += ["", "Effects", effects_text(effects)]
        if with_invalid is not None and not effects.equals(with_invalid):
            lines += ["", "Effects, invalid runs in", effects_text(with_invalid)]
        lines += ["", "P1 in parts, 95 % intervals: seconds that are catch-up, and steady state after it"]
        lines += [_text(cell.tables["catch_up"], index=False), "", "Steady state, means over valid runs"]
        lines += [_text(cell.tables["steady"].T)]
        lines += ["", "Change from one position in the block to the next", _text(cell.tables["positions"], index=False)]
        lines += ["", "Change after each predecessor", _text(cell.tables["predecessors"], index=False)]
        lines += ["", "Ratio by window W (not claimable where the ranking depends on W)", _windows(cell)]
    lines += ["", *(f"note: {note}" for note in cell.notes)]
    return [*lines, f"refused: {cell.refusal}"] if cell.refusal else lines


def _windows(cell: CellReport) -> str:
    table = cell.tables["by_window"]
    wide = table.pivot_table(index=["pair", "figure", "claimable"], columns="window", values="ratio", sort=False)
    return _text(wide.reset_index("claimable"))


def _pair(pair: str, rows: pd.DataFrame) -> pd.DataFrame:
    columns = {f"{row['endpoint']} {row['label']}": _effect(row) for row in rows.to_dict(orient="records")}
    effects = pd.DataFrame(columns).rename_axis(f"ratio {pair}")
    return effects[(effects != "-").any(axis=1)]


def _effect(row: dict[str, Any]) -> dict[str, str]:
    return {
        "blocks": str(row["n_blocks"]),
        "ratio": _number(row["ratio"]),
        "95 % interval": _interval(row["low"], row["high"]),
        "simultaneous": _interval(row["sim_low"], row["sim_high"]),
        "A/A floor": f"{_interval(row['aa_low'], row['aa_high'])} ({row['n_aa']} pairs)",
        "detectable ratio": _number(row["detectable_ratio"]),
        "difference, s": f"{_number(row['difference_s'])} "
        f"({_interval(row['difference_low_s'], row['difference_high_s'])})",
        "over L, difference, s": f"{_number(row['over_level_difference_s'])} "
        f"({_interval(row['over_level_low_s'], row['over_level_high_s'])})",
        "censored": f"{row['censored_a']}, {row['censored_b']}",
        "ratio w/o failures": _number(row["ratio_without_failures"]),
        "failures, %": f"{100 * row['failures_a']:.2f}, {100 * row['failures_b']:.2f}",
        "verdict": row["verdict"],
        "notes": row["notes"] or "-",
        "p, sign flips": _p(row["p_signflip"]),
        "p, Holm": _p(row["p_holm"]),
    }


def _interval(low: float, high: float) -> str:
    return f"{low:.3f} to {high:.3f}" if np.isfinite(low) and np.isfinite(high) else "-"


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _p(value: float) -> str:
    if not np.isfinite(value):
        return "-"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def _text(table: pd.DataFrame, *, index: bool = True) -> str:
    text: str = table.to_string(
        line_width=WIDE, index=index, na_rep="-", max_colwidth=60, float_format=lambda value: f"{value:.4g}"
    )
    return text
