"""Which runs notebook 07 compares, and what stands beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import pandas as pd

from mlscale.analysis import objectives
from mlscale.analysis.boot_time_response import variant_of
from mlscale.analysis.objectives import Known
from mlscale.analysis.summary import summarise
from mlscale.defaults import defaults
from mlscale.notebook.show import remark
from mlscale.runs import Run
from mlscale_experiment.comparison import across, behind, has_pairs, main_rows, p_value_note, pairs, usable
from mlscale_paper.twin_tables import FIVE
from mlscale_paper.variants import TWIN_CELLS, cell_of

_EC2: Final = "boot ec2"

__all__ = [
    "across",
    "apart",
    "behind",
    "by_objective",
    "has_pairs",
    "main_rows",
    "of_the_code_reader",
    "p_value_note",
    "pairs",
    "usable",
]


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
