"""The best environment for each objective: a row per objective, a cell per environment, and its kind of evidence.

Only what was measured under one set of conditions is compared. Rehearsed and simulated runs had other schedules and
horizons, and are shown for scale only (METHOD §8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.endpoints import P3
from mlscale.analysis.paired import ALPHA, paired_t
from mlscale.analysis.verdicts import MAX_FAILURES_ABOVE, for_every_window

Known = Literal["measured", "rehearsed", "simulated", "not known"]
NO_WINNER: Final = "no winner shown"


@dataclass(frozen=True)
class Objective:
    """Less is better. ``factor`` brings ``column`` of `summarise` to ``unit``; compared is log ``compared``, or the
    difference where a value may be 0; ``by_window``: as an endpoint's."""

    name: str
    column: str
    unit: str
    factor: float = 1.0
    compared: str | None = None
    difference: bool = False
    by_window: tuple[str, ...] = ()


OBJECTIVES: Final = (
    Objective("mean response", "mean_response_s", "ms", 1000),
    Objective("sd of response", "sd_response_s", "ms", 1000),
    Objective("T_slo", "t_slo_s", "s", compared="t_slo_confirmed_s", by_window=P3.by_window),
    Objective("seconds over L", "over_level_s", "s", difference=True),
    Objective("CPU per right answer", "cpu_per_answer_s", "ms", 1000),
    Objective("cores at rest", "idle_cores", "cores"),
)


def by_objective(
    measured: pd.DataFrame, beside: Mapping[Known, pd.DataFrame], environments: Sequence[str]
) -> pd.DataFrame:
    """The table by objective, long.

    Args:
        measured: of `mlscale.analysis.summary.summarise`, every attempt of one cell, all live, one host.
        beside: rows of rehearsed and simulated runs, by mode; used for environments that were not measured.
        environments: the table's columns, in order.
    Returns:
        A row per objective and environment: objective, unit, environment, known, value (mean over runs, of T_slo the
        restricted one; NaN where not known), runs, horizon_s, comparable (False: not measured, or too many invalid
        runs), winner (of the objective; `NO_WINNER`), among (the environments that were compared). A winner's paired t
        interval against each other comparable environment lies on its side, at 95 % for all pairs and objectives
        together (Bonferroni); it does not fail more by over a point, and its T_slo wins for every W.
    Raises:
        MlscaleError: see `mlscale.analysis.design.check_comparable`.
    """
    design.check_comparable(measured)
    selected = design.chosen(measured)
    refused = design.refused(design.invalid_share(measured))
    comparable = [name for name in environments if name in set(selected["environment"]) - refused]
    family = max(1, len(design.environment_pairs(comparable)) * len(OBJECTIVES))
    rows = []
    for objective in OBJECTIVES:
        winner = _winner(selected, objective, comparable, ALPHA / family)
        for name in environments:
            known, runs = _source(name, selected, beside)
            row = {"objective": objective.name, "unit": objective.unit, "environment": name}
            row |= _cell(known, runs, objective)
            among = ", ".join(comparable)
            rows.append({**row, "comparable": name in comparable, "winner": winner, "among": among})
    return pd.DataFrame(rows)


def shown_objectives(table: pd.DataFrame) -> pd.DataFrame:
    """`by_objective` for a page: a row per objective, a column per environment with the value and how it is known; then
    the winner, and among which."""
    wide = table.assign(text=[_text(row) for row in table.to_dict(orient="records")])
    wide = wide.pivot(index="objective", columns="environment", values="text")
    first = table.drop_duplicates("objective").set_index("objective")
    wide = wide.reindex(index=first.index, columns=list(dict.fromkeys(table["environment"])))
    return wide.assign(winner=first["winner"], among=first["among"]).rename_axis(columns=None)


def _text(row: Mapping[str, Any]) -> str:
    if row["known"] == "not known":
        return "not known"
    number = f"{row['value']:.0f}" if row["value"] >= 100 else f"{row['value']:.3g}"
    withheld = ", not comparable" if row["known"] == "measured" and not row["comparable"] else ""
    return f"{number} {row['unit']}, {row['known']}{withheld}"


def _source(name: str, selected: pd.DataFrame, beside: Mapping[Known, pd.DataFrame]) -> tuple[Known, pd.DataFrame]:
    """How an environment is known, and its rows."""
    sources: dict[Known, pd.DataFrame] = {"measured": selected[selected["aa_label"].fillna("A") == "A"], **beside}
    for known, rows in sources.items():
        if len(rows) and (matching := rows[rows["environment"] == name]).size:
            return known, matching
    return "not known", selected.iloc[:0]


def _cell(known: Known, runs: pd.DataFrame, objective: Objective) -> dict[str, Any]:
    value = float(runs[objective.column].mean()) * objective.factor if len(runs) else float("nan")
    horizon_s = float(runs["horizon_s"].mean()) if len(runs) else float("nan")
    return {
        "known": known if np.isfinite(value) else "not known",
        "value": value,
        "runs": int(runs[objective.column].notna().sum()),
        "horizon_s": horizon_s,
    }


def _winner(selected: pd.DataFrame, objective: Objective, names: list[str], alpha: float) -> str:
    winners = [
        a for a in names if len(names) > 1 and all(_beats(selected, objective, a, b, alpha) for b in names if b != a)
    ]
    return winners[0] if winners else NO_WINNER


def _beats(selected: pd.DataFrame, objective: Objective, a: str, b: str, alpha: float) -> bool:
    both = design.by_block(selected, objective.compared or objective.column).reindex(columns=[a, b]).dropna()
    failures = design.by_block(selected, "failure_share").reindex(index=both.index, columns=[a, b]).mean()
    values = both if objective.difference else np.log(both)
    interval = paired_t((values[a] - values[b]).to_numpy(dtype=float), alpha)
    fails_more = failures[a] - failures[b] > MAX_FAILURES_ABOVE
    return bool(interval.high < 0) and not fails_more and for_every_window(selected, objective.by_window, a, b)
