"""Verdicts: which claims a comparison supports, and which are refused (METHOD §1, §2, §4, §6, §7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.endpoints import P3, Endpoint
from mlscale.analysis.paired import ALPHA, paired_t

MAX_FAILURES_ABOVE: Final = 0.01
WINDOW_FIGURES: Final[Mapping[str, tuple[str, ...]]] = {
    "m_t": tuple(f"mean_m_{name}_s" for name in ("w2", "w5", "w10", "w30", "last50")),
    "sigma_t": tuple(f"mean_sigma_{name}_s" for name in ("w2", "w5", "w10", "w30", "last50")),
    "T_slo + W": P3.by_window,
}


def add_verdicts(
    table: pd.DataFrame, selected: pd.DataFrame, invalid: pd.DataFrame, words: Mapping[str, Endpoint]
) -> pd.DataFrame:
    """``table`` with verdict, favours (the environment that a claim is for, else "") and notes."""
    judged = [_verdict(row, selected, invalid, words[row["endpoint"]]) for row in table.to_dict(orient="records")]
    return table.drop(columns=["note", "comparable"]).assign(
        verdict=[verdict for verdict, _, _ in judged],
        favours=[favours for _, favours, _ in judged],
        notes=[notes for _, _, notes in judged],
    )


def _verdict(
    row: Mapping[str, Any], selected: pd.DataFrame, invalid: pd.DataFrame, words: Endpoint
) -> tuple[str, str, str]:
    """(verdict, the environment that it favours or "", notes)."""
    notes = [str(row["note"])] if row["note"] else []
    if not row["comparable"]:
        return "not comparable", "", _invalid_runs(row, invalid)
    if row["n_blocks"] < 2:
        return "too few blocks", "", "; ".join([*notes, "fewer than 2 blocks: no interval"])
    if row["aa_low"] <= row["ratio"] <= row["aa_high"]:
        notes.append("inside the A/A noise floor")
    if row["at_bound_share"] > 0.5:
        notes.append(f"{row['at_bound_share']:.0%} of the runs sit at a bound (0 or censored)")
    significant = row["p_holm"] < ALPHA if np.isfinite(row["p_holm"]) else not row["sim_low"] <= 1.0 <= row["sim_high"]
    if not significant or not (np.isfinite(row["p_holm"]) or np.isfinite(row["sim_low"])):
        return "no difference shown", "", "; ".join(notes)
    a_wins = row["ratio"] < 1.0
    winner, loser = (row["a"], row["b"]) if a_wins else (row["b"], row["a"])
    excess = row["failures_a"] - row["failures_b"] if a_wins else row["failures_b"] - row["failures_a"]
    if excess > MAX_FAILURES_ABOVE:
        return (
            f"refused: {winner} {words.better}, but it fails more by {100 * excess:.1f} points",
            "",
            "; ".join(notes),
        )
    if row["over_level_difference_s"] > 0 if a_wins else row["over_level_difference_s"] < 0:
        notes.append(f"but {loser} is over L for fewer seconds in all")
    if not for_every_window(selected, words.by_window, row["a"], row["b"]):
        return f"refused: {winner} {words.better} than {loser}, but not for every W", "", "; ".join(notes)
    by_interval = "" if np.isfinite(row["p_holm"]) else " (by interval alone)"
    return f"{winner} {words.better}{by_interval}", str(winner), "; ".join(notes)


def for_every_window(selected: pd.DataFrame, columns: Sequence[str], a: str, b: str) -> bool:
    """Whether the ratio lies on the same side of 1 for each W, where there are ``columns`` for several."""
    return not columns or same_side([_ratio(_logs(selected, column, a, b)) for column in columns])


def _invalid_runs(row: Mapping[str, Any], invalid: pd.DataFrame) -> str:
    refused = [name for name in (row["a"], row["b"]) if name in design.refused(invalid)]
    numbers = {name: (invalid.loc[name, "invalid"], invalid.loc[name, "runs"]) for name in refused}
    counts = [f"{wrong} of {runs} runs of {name} are invalid" for name, (wrong, runs) in numbers.items()]
    return f"{' and '.join(counts)} (at most {design.MAX_INVALID_SHARE:.0%})"


def _logs(selected: pd.DataFrame, column: str, a: str, b: str) -> pd.Series:
    """Log ratios a / b by block; none where a run has no such figure: the others may be the quicker ones."""
    if column not in selected or selected.loc[selected["environment"].isin((a, b)), column].isna().any():
        return pd.Series(dtype=float)
    return design.log_ratios(design.by_block(selected, column), a, b)


def _ratio(logs: pd.Series) -> float:
    """Geometric mean over blocks; NaN without any."""
    return float(np.exp(logs.mean())) if len(logs) else float("nan")


def _interval(logs: pd.Series) -> dict[str, float]:
    """95 % t interval of `_ratio` over blocks: low, high; NaN where that is, and under 2 blocks."""
    if not np.isfinite(_ratio(logs)):
        return dict.fromkeys(("low", "high"), float("nan"))
    interval = paired_t(logs.to_numpy())
    return {"low": float(np.exp(interval.low)), "high": float(np.exp(interval.high))}


def window_name(column: str) -> str:
    """The window of one of the columns of `WINDOW_FIGURES`, in words."""
    name = column.removesuffix("_s").rpartition("_")[2]
    return "last 50" if name == "last50" else f"{name[1:]} s"


def by_window(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Whether a ranking depends on W (METHOD §2): exploratory, so without p-values.

    Args:
        rows: of one cell.
    Returns:
        pair, figure (m_t, sigma_t: time averages after t0; T_slo + W), window, ratio (geometric mean over blocks
        of a / b; NaN where a run has none), low, high (its 95 % t interval), claimable: the same
        side of 1 for every W of the figure that has one, and neither of the two has too many invalid runs.
    """
    selected, refused = design.chosen(rows), design.refused(design.invalid_share(rows))
    table_rows = []
    for a, b in pairs:
        for figure, columns in WINDOW_FIGURES.items():
            logs = {column: _logs(selected, column, a, b) for column in columns}
            ratios = {column: _ratio(each) for column, each in logs.items()}
            table_rows += [
                {
                    "pair": f"{a} / {b}",
                    "figure": figure,
                    "window": window_name(column),
                    "ratio": ratio,
                    **_interval(logs[column]),
                    "claimable": not refused & {a, b} and same_side(list(ratios.values())),
                }
                for column, ratio in ratios.items()
            ]
    return pd.DataFrame(table_rows, columns=["pair", "figure", "window", "ratio", "low", "high", "claimable"])


def same_side(ratios: Sequence[float]) -> bool:
    """Whether all ratios that exist lie on one side of 1; one of exactly 1 (both censored) is on neither side."""
    signs = {float(np.sign(np.log(ratio))) for ratio in ratios if np.isfinite(ratio)}
    return len(signs - {0.0}) == 1


def across_cells(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Verdicts of several cells beside one another (METHOD §1, §4): pair, endpoint, one column per cell, agreement.

    ``agreement``: "same" where every cell that favours one side favours the same one and none is undecided, "differs"
    where cells favour different sides, else "seen in: ..." with the cells that show it, or "not shown".
    """
    directions = {cell: table.set_index(["pair", "endpoint"]) for cell, table in tables.items()}
    keys = list(dict.fromkeys(key for table in directions.values() for key in table.index))
    rows = []
    for pair, endpoint in keys:
        key = (pair, endpoint)
        by_cell = {cell: table.loc[key] for cell, table in directions.items() if key in table.index}
        sides = {cell: str(row["favours"]) for cell, row in by_cell.items() if row["favours"]}
        if len(set(sides.values())) > 1:
            agreement = "differs"
        elif len(sides) == len(tables):
            agreement = "same"
        else:
            agreement = f"seen in: {', '.join(sides)}" if sides else "not shown"
        verdict = {cell: (by_cell[cell]["verdict"] if cell in by_cell else "not measured") for cell in tables}
        rows.append({"pair": pair, "endpoint": endpoint, **verdict, "agreement": agreement})
    return pd.DataFrame(rows, columns=["pair", "endpoint", *tables, "agreement"])
