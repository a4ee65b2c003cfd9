"""Which runs the comparison notebook sets against one another, and what it can say with few of them."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.inference import compare
from mlscale.analysis.summary import summarise
from mlscale.analysis.verdicts import across_cells
from mlscale.experiment.figures import remark
from mlscale.experiment.lab import of_cell
from mlscale.runs import MlscaleError, Run


def main_runs(runs: Sequence[Run], cell: str) -> list[Run]:
    """The runs of ``cell`` that may be compared with one another; of sensitivity, those of its first variant.

    Raises:
        MlscaleError: there is none.
    """
    wanted = of_cell(runs, cell)
    if not wanted:
        raise MlscaleError(f"no run of cell {cell!r} is among them", "run_dirs", "name runs of it, or another cell")
    first = _factors(wanted[0])
    return [run for run in wanted if _factors(run) == first]


def usable(runs: Sequence[Run], rows: pd.DataFrame) -> tuple[list[Run], pd.DataFrame]:
    """One valid run for each place, and its rows; where there are none, all, and a line says so."""
    chosen = design.chosen(rows)
    if chosen.empty:
        remark("No valid run stands in a block: what follows is shown, and nothing may be claimed from it.")
        return list(runs), rows
    names = set(chosen["run_id"])
    return [run for run in runs if run.info.run_id in names], chosen


def has_blocks(table: pd.DataFrame) -> bool:
    """Whether `compare` found a block in which a pair stands; says so where it did not."""
    if table.empty or not table["n_blocks"].gt(0).any():
        remark("No block has a valid run of both: there is no ratio to show.")
        return False
    return True


def p_value_note(table: pd.DataFrame) -> str:
    """What stands under the estimation plot where p-values were left out."""
    return "" if table["p"].notna().any() else "Too few blocks, or not asked for: no p-values"


def pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Every pair of environments in the rows, once."""
    return design.environment_pairs(list(dict.fromkeys(rows["environment"])))


def across(runs: Sequence[Run], level_s: float) -> pd.DataFrame:
    """The verdicts of every cell and variant among the runs, beside one another."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        groups.setdefault(run.info.cell or "by hand", []).append(run)
    tables = {name: compare(summarise(group, level_s)) for name, group in groups.items()}
    return across_cells({name: table for name, table in tables.items() if not table.empty})


def _factors(run: Run) -> tuple[str | None, str, str]:
    return run.info.cell, run.info.arm, run.info.connections
