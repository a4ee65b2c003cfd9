"""The effect of changing one factor of an environment, against the reference runs of the same block (METHOD §4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.paired import paired_t

CELL: Final = "sensitivity"
REFERENCE: Final = "reference"
FIGURES: Final[Mapping[str, str]] = {
    "mean response": "mean_response_s",
    "sd of response": "sd_response_s",
    "T_slo + W": "t_slo_confirmed_s",
    "CPU per right answer": "cpu_per_answer_s",
}


def factor_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Each factor of the cell sensitivity, by environment and figure: exploratory, so without p-values.

    Args:
        rows: of `mlscale.analysis.summary.summarise`, of any cells.
    Returns:
        environment, factor, figure, blocks (with a valid run of both), reference_s and factor_s (means over them),
        ratio (geometric mean of factor / reference), low, high (its 95 % t interval; NaN under 2 blocks).
    """
    cell, _, variant = (rows["cell"].fillna("").str.partition("/")[part] for part in range(3))
    sensitivity = rows.assign(factor=variant)[cell == CELL]
    chosen = [design.chosen(group) for _, group in sensitivity.groupby("factor", sort=False)]
    effects = []
    for environment, runs in pd.concat([sensitivity.iloc[:0], *chosen]).groupby("environment", sort=False):
        for figure, column in FIGURES.items():
            wide = runs.pivot(index="block", columns="factor", values=column)
            for factor in wide.columns.drop(REFERENCE, errors="ignore"):
                both = wide.reindex(columns=[factor, REFERENCE]).dropna()
                effect = paired_t((np.log(both[factor]) - np.log(both[REFERENCE])).to_numpy(dtype=float))
                means = both.mean()
                ratios = (float(np.exp(end)) for end in (effect.mean, effect.low, effect.high))
                effects.append((environment, factor, figure, len(both), means[REFERENCE], means[factor], *ratios))
    columns = ["environment", "factor", "figure", "blocks", "reference_s", "factor_s", "ratio", "low", "high"]
    table = pd.DataFrame(effects, columns=columns)
    return table.sort_values(["factor", "environment"], kind="stable", ignore_index=True)
