"""Selects runs by cell, block and label (METHOD §4, §6), and says what rules out a test (§7, §8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd

from mlscale.runs import MlscaleError

# Runs must agree in all of these to be compared.
CELL_FACTORS: Final = ("application", "cell", "arm", "connections", "quota", "cpu_period_s", "loop")
PLACE: Final = ("environment", "block", "aa_label")
MAX_INVALID_SHARE: Final = 0.20


def check_comparable(rows: pd.DataFrame) -> None:
    """Refuse tables that do not allow an inferential test (METHOD §8).

    Raises:
        MlscaleError: no run; a run that is not live; several hosts, applications or cells; several levels L or
            horizons; a run listed twice.
    """
    if rows.empty:
        raise MlscaleError("there is no run to compare", "the runs", "name runs of a finished experiment")
    excluded = sorted(set(rows["mode"]) - {"live"})
    if excluded:
        raise MlscaleError(
            f"{int((rows['mode'] != 'live').sum())} of {len(rows)} runs are {' and '.join(excluded)}: no test is made "
            "on them, since their number is a matter of choice and a p-value would mean nothing",
            "the runs",
            "compare live runs; show simulated ones as predictions",
        )
    hosts = sorted(set(rows["host"]))
    if len(hosts) > 1:
        raise MlscaleError(
            f"the runs are of {len(hosts)} hosts ({'; '.join(hosts)})", "the runs", "compare runs of one host"
        )
    for factor in CELL_FACTORS:
        values = rows[factor].drop_duplicates().tolist()
        if len(values) > 1:
            text = ", ".join(str(value) for value in values)
            raise MlscaleError(f"the runs differ in {factor} ({text})", "the runs", "compare one cell at a time")
    for column, label in (("level_s", "levels L"), ("horizon_s", "horizons H"), ("window_s", "windows W")):
        values = rows[column].dropna().to_numpy(dtype=float)
        if len(values) and values.max() - values.min() > 1e-3 * max(abs(values.max()), 1e-9):
            raise MlscaleError(
                f"the runs were judged by several {label} ({values.min():g} to {values.max():g} s)",
                "the runs",
                "use one for all of them",
            )
    if rows["run_id"].duplicated().any():
        duplicate = rows.loc[rows["run_id"].duplicated(), "run_id"].iloc[0]
        raise MlscaleError(f"run {duplicate} is named twice", "the runs", "name each run once")


def cells(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """The table split into groups of runs that may be compared with one another, in order of appearance."""
    return [group for _, group in rows.groupby(list(CELL_FACTORS), sort=False, dropna=False)]


def chosen(rows: pd.DataFrame, *, with_invalid: bool = False) -> pd.DataFrame:
    """One run for each environment, block and A/A label: the first valid attempt.

    ``with_invalid``: the very first attempt, valid or not, as if there were no validity rules. Runs outside blocks
    are left out.
    """
    placed = rows[rows["block"].notna()]
    if not with_invalid:
        placed = placed[placed["valid"].astype(bool)]
    ordered = placed.sort_values("attempt", kind="stable")
    return ordered.drop_duplicates(list(PLACE)).sort_index()


def runs_for_figures(rows: pd.DataFrame) -> pd.DataFrame:
    """`chosen`, plus all runs of environments without a valid one (see column ``valid``), so that no environment
    silently drops out of a figure."""
    valid = chosen(rows)
    none_valid = rows[~rows["environment"].isin(valid["environment"])]
    return pd.concat([valid, none_valid]).sort_index()


def by_block(selected: pd.DataFrame, column: str) -> pd.DataFrame:
    """Blocks x environments of ``column``; of a block's A/A pair, run A stands for the environment.

    (A has the environment's own position in the Williams order; the mean of both would give blocks unequal precision.)
    """
    first_of_pair = selected.loc[selected["aa_label"].fillna("A") == "A", ["block", "environment", column]]
    return first_of_pair.pivot(index="block", columns="environment", values=column)


def aa_pairs(selected: pd.DataFrame, column: str) -> pd.DataFrame:
    """The A/A pairs: index block, columns environment, A, B of ``column``."""
    labelled = selected.loc[selected["aa_label"].isin(["A", "B"]), ["block", "environment", "aa_label", column]]
    wide = labelled.pivot(index=["block", "environment"], columns="aa_label", values=column)
    return wide.reindex(columns=["A", "B"]).dropna().reset_index("environment")


def invalid_share(rows: pd.DataFrame) -> pd.DataFrame:
    """Invalid runs among undisturbed ones, every attempt counted: index environment; runs, invalid, share.

    Disturbance is measured independently of everything that is compared, so leaving disturbed runs out does not select
    runs by their outcome.
    """
    undisturbed = rows[~rows["disturbed"].astype(bool)] if "disturbed" in rows else rows
    valid = undisturbed["valid"].astype(bool)
    table = valid.groupby(undisturbed["environment"]).agg(runs="size", invalid=lambda flags: int((~flags).sum()))
    table["share"] = table["invalid"] / table["runs"]
    return table


def refused(invalid: pd.DataFrame) -> set[str]:
    """Environments about which nothing is claimed: more than `MAX_INVALID_SHARE` of their runs are invalid (of
    `invalid_share`)."""
    return set(invalid.index[invalid["share"] > MAX_INVALID_SHARE])


def environment_pairs(environments: Sequence[str]) -> list[tuple[str, str]]:
    """Every pair once, in the given order."""
    return [(a, b) for index, a in enumerate(environments) for b in environments[index + 1 :]]


def log_ratios(table: pd.DataFrame, a: str, b: str) -> pd.Series:
    """Within-block log(a / b), in blocks that have both; index block.

    Raises:
        MlscaleError: a value that has no logarithm.
    """
    both = table.reindex(columns=[a, b]).dropna()
    if (both <= 0).any(axis=None):
        raise MlscaleError("a value of 0 or less has no logarithm", f"{a} / {b}", "look at the runs with such a value")
    return np.log(both[a]) - np.log(both[b])
