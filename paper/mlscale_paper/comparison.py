"""Which runs the comparison notebook sets against one another, and what it can say with few of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from mlscale.analysis import design, objectives
from mlscale.analysis.boot_time_response import variant_of
from mlscale.analysis.inference import compare
from mlscale.analysis.objectives import Known
from mlscale.analysis.summary import summarise
from mlscale.analysis.verdicts import across_cells
from mlscale.notebook.figures import remark
from mlscale.runs import MlscaleError, Run
from mlscale_paper.twin_tables import FIVE
from mlscale_paper.variants import TWIN_CELLS, cell_of

_EC2: Final = "boot ec2"


def apart(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """The runs that may be compared, and those of a rehearsal, which has a panel of its own (METHOD §8). Those for
    the twin are in neither."""
    runs = [run for run in runs if cell_of(run) not in TWIN_CELLS]
    rehearsed = [run for run in runs if run.info.mode == "rehearsal" or (run.info.cell or "").startswith("rehearsal")]
    return [run for run in runs if run not in rehearsed], rehearsed


def main_rows(rows: pd.DataFrame, cell: str) -> pd.DataFrame:
    """The rows of ``cell`` that may be compared with one another; of sensitivity, those of its first variant.

    Raises:
        MlscaleError: there is none.
    """
    wanted = rows[rows["cell"].map(lambda name: name is None or str(name).split("/")[0] == cell)]
    if wanted.empty:
        raise MlscaleError(f"no run of cell {cell!r} is among them", "run_dirs", "name runs of it, or another cell")
    return design.cells(wanted)[0]


def behind(runs: Sequence[Run], rows: pd.DataFrame) -> list[Run]:
    """The runs that ``rows`` are about, in the rows' order."""
    known = {run.info.run_id: run for run in runs}
    return [known[run_id] for run_id in rows["run_id"]]


def usable(rows: pd.DataFrame) -> pd.DataFrame:
    """One valid run for each place, and whatever runs there are of environments without any; a line names those."""
    found = design.shown(rows)
    poor = found.loc[~found["valid"].astype(bool) | found["block"].isna(), "environment"]
    if len(poor):
        names = ", ".join(dict.fromkeys(poor))
        remark(f"No valid run in a block: {names}. It is shown; nothing may be claimed from it.")
    return found


def has_pairs(table: pd.DataFrame) -> bool:
    """Whether `compare` found two environments to set against one another; says so where it did not."""
    if table.empty:
        remark("There is one environment only: nothing to compare it with.")
    return not table.empty


def p_value_note(table: pd.DataFrame) -> str:
    """What stands under the estimation plot where p-values were left out."""
    return "" if table["p"].notna().any() else "Too few blocks, or not asked for: no p-values"


def pairs(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Every pair of environments in the rows, once."""
    return design.environment_pairs(list(dict.fromkeys(rows["environment"])))


def by_objective(
    rows: pd.DataFrame, rehearsed: Sequence[Run], simulated: Sequence[Run], level_s: float
) -> pd.DataFrame:
    """Which environment is best at what: the measured rows, and beside them, for environments that were not measured,
    the valid rehearsed runs with the boot times of EC2, else simulated ones."""
    measured = set(rows["environment"])
    boots = [run for run in rehearsed if run.info.mode == "rehearsal" and run.info.valid and variant_of(run) == _EC2]
    twins = [
        run for run in simulated if run.info.environment not in {*measured, *(each.info.environment for each in boots)}
    ]
    beside: dict[Known, pd.DataFrame] = {"rehearsed": summarise(boots, level_s), "simulated": summarise(twins, level_s)}
    return objectives.by_objective(rows, beside, FIVE)


def across(rows: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of every cell and variant among the rows, beside one another."""
    tables = {}
    for group in design.cells(rows):
        first = group.iloc[0]
        found = compare(group)
        if not found.empty:
            tables[str(first["cell"] or "by hand")] = found
    return across_cells(tables)
