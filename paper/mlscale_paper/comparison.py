"""Which runs the comparison notebook compares, and its remarks where there are few."""

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
from mlscale.defaults import defaults
from mlscale.notebook.show import remark
from mlscale.runs import MlscaleError, Run
from mlscale_paper.twin_tables import FIVE
from mlscale_paper.variants import TWIN_CELLS, cell_of

_EC2: Final = "boot ec2"


def apart(runs: Sequence[Run]) -> tuple[list[Run], list[Run]]:
    """Runs that may be compared, and rehearsed runs, which have their own panel (METHOD §8); runs for the twin are in
    neither."""
    runs = [run for run in runs if cell_of(run) not in TWIN_CELLS]
    rehearsed = [run for run in runs if run.info.mode == "rehearsal" or (run.info.cell or "").startswith("rehearsal")]
    return [run for run in runs if run not in rehearsed], rehearsed


def of_the_code_reader(runs: Sequence[Run]) -> bool:
    """Whether these are runs of the application that the twin's profiles and the record of the claims are about; a
    remark says so where they are not."""
    same = all(run.info.app == defaults().application().name for run in runs)
    if not same:
        remark("The twin's profiles are about the code reader, not this application: nothing is simulated here.")
    return same


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


def by_objective(
    rows: pd.DataFrame, rehearsed: Sequence[Run], simulated: Sequence[Run], level_s: float
) -> pd.DataFrame:
    """The best environment for each objective, from the measured rows. Environments that were not measured are shown
    beside them: valid rehearsed runs with EC2's boot times, else simulated ones."""
    measured = set(rows["environment"])
    boots = [run for run in rehearsed if run.info.mode == "rehearsal" and run.info.valid and variant_of(run) == _EC2]
    twins = [
        run for run in simulated if run.info.environment not in {*measured, *(boot.info.environment for boot in boots)}
    ]
    unmeasured: dict[Known, pd.DataFrame] = {
        "rehearsed": summarise(boots, level_s),
        "simulated": summarise(twins, level_s),
    }
    return objectives.by_objective(rows, unmeasured, FIVE)


def across(rows: pd.DataFrame) -> pd.DataFrame:
    """The verdicts of every cell and variant among the rows, side by side."""
    tables = {}
    for group in design.cells(rows):
        first = group.iloc[0]
        effects = compare(group)
        if not effects.empty:
            tables[str(first["cell"] or "by hand")] = effects
    return across_cells(tables)
