"""Which runs a comparison notebook compares, and its remarks where there are few."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mlscale.analysis import design, objectives
from mlscale.analysis.inference import compare
from mlscale.analysis.verdicts import across_cells
from mlscale.notebook.show import remark
from mlscale.runs import MlscaleError, Run


def main_rows(rows: pd.DataFrame, cell: str) -> pd.DataFrame:
    """The rows of ``cell`` that may be compared with one another; of sensitivity, those of its first variant.

    Raises:
        MlscaleError: there is none.
    """
    cell_rows = rows[rows["cell"].map(lambda name: name is None or str(name).split("/")[0] == cell)]
    if cell_rows.empty:
        raise MlscaleError(f"no run of cell {cell!r} is among them", "run_dirs", "name runs of it, or another cell")
    return design.cells(cell_rows)[0]


def behind(runs: Sequence[Run], rows: pd.DataFrame) -> list[Run]:
    """The runs that belong to ``rows``, in the same order."""
    known = {run.info.run_id: run for run in runs}
    return [known[run_id] for run_id in rows["run_id"]]


def usable(rows: pd.DataFrame) -> pd.DataFrame:
    """One valid run for each environment, block and label, and all runs of environments without a valid one, which a
    remark names.
    """
    selected = design.runs_for_figures(rows)
    without_valid = selected.loc[~selected["valid"].astype(bool) | selected["block"].isna(), "environment"]
    if len(without_valid):
        names = ", ".join(dict.fromkeys(without_valid))
        remark(f"No valid run in a block: {names}. It is shown; nothing may be claimed from it.")
    return selected


def has_pairs(table: pd.DataFrame) -> bool:
    """Whether `compare` had at least two environments; a remark says so where it had not."""
    if table.empty:
        remark("There is one environment only: nothing to compare it with.")
    return not table.empty


def p_value_note(table: pd.DataFrame) -> str:
    """The note under the estimation plot where p-values were left out."""
    return "" if table["p"].notna().any() else "Too few blocks, or not asked for: no p-values"


def pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Every pair of environments among the rows."""
    return design.environment_pairs(list(dict.fromkeys(rows["environment"])))


def across(rows: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of every cell and variant among the rows, side by side."""
    tables = {}
    for group in design.cells(rows):
        first = group.iloc[0]
        effects = compare(group)
        if not effects.empty:
            tables[str(first["cell"] or "by hand")] = effects
    return across_cells(tables)


def by_objective(rows: pd.DataFrame) -> pd.DataFrame:
    """The best environment for each objective, from the measured rows (`mlscale.analysis.objectives.by_objective`)."""
    return objectives.by_objective(rows, {}, list(dict.fromkeys(rows["environment"])))
