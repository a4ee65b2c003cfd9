"""Sentences that say which runs may be compared with one another, and why others may not (METHOD §4, §6, §8)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import pandas as pd

from mlscale.analysis import design
from mlscale.analysis.inference import least_blocks
from mlscale.runs import MlscaleError

_WORDS: Final[Mapping[str, str]] = {
    "application": "the application",
    "cell": "the cell",
    "arm": "the arm",
    "connections": "the connections",
    "quota": "the CPU quota",
    "cpu_period_s": "the quota period",
    "loop": "the loop",
}


def comparability_sentences(rows: pd.DataFrame) -> list[str]:
    """Sentences about ``rows`` (of `mlscale.analysis.summary.summarise`): groups of runs that may not be compared with
    one another, then what may be said within each group."""
    groups = design.cells(rows)
    sentences = []
    if len(groups) > 1:
        sentences += [
            f"Not compared with one another are runs that differ in {words}: {_listed(rows[factor])}."
            for factor, words in _WORDS.items()
            if rows[factor].nunique(dropna=False) > 1
        ]
    for group in groups:
        sentences += _within(group, several=len(groups) > 1)
    return sentences


def _within(group: pd.DataFrame, *, several: bool) -> list[str]:
    names = list(dict.fromkeys(group["environment"]))
    first = group.iloc[0]
    about = f"{first['application']}, arm {first['arm']}: " if several else ""
    runs = ", ".join(f"{name} ({_count(group[group['environment'] == name])})" for name in names)
    if len(names) < 2:
        return [f"{about}nothing to compare, since all runs are of one environment: {runs}."]
    try:
        design.check_comparable(group)
    except MlscaleError as error:
        return [f"{about}no ratio is given for {runs}: {error.what}."]
    refused = design.refused(design.invalid_share(group))
    valid = group.groupby("environment")["valid"].any()
    without = [name for name in names if name in refused or not valid[name]]
    most = f"{design.MAX_INVALID_SHARE:.0%}"
    nothing = f"No claim may rest on {', '.join(without)}: over {most} of the runs are invalid (the reasons are below)."
    if len(names) - len(without) < 2:
        return [f"{about}{runs}: nothing can be compared. {nothing}"]
    sentences = [f"{about}{_unequal_stimulus(group)}{runs} can be compared: {_strength(group, len(names))}."]
    sentences += [nothing] if without else []
    return sentences + (_means(group, names) if group["block"].isna().all() else [])


def _unequal_stimulus(group: pd.DataFrame) -> str:
    if group["bodies"].nunique(dropna=False) > 1:
        return "careful, the runs were sent different files, so their requests may have cost different work; "
    if group.groupby("block", dropna=False)["load"].nunique().max() > 1:  # blocks may differ: runs are paired in them
        loads = "; ".join(dict.fromkeys(group["load"]))
        return f"careful, the runs had different loads ({loads}), so their clients asked for different work; "
    return ""


def _strength(group: pd.DataFrame, environments: int) -> str:
    blocks, needed = group["block"].nunique(), least_blocks(environments)
    if blocks == 0:
        return (
            "side by side, without an interval, because they were not measured in blocks "
            f"({needed} blocks allow p-values: each runs every environment once, in a new order)"
        )
    cell = group["cell"].iloc[0]
    if blocks < needed:
        enough = f"without p-values, which need {needed} blocks"
    elif cell == "core":
        enough = "with p-values in cell core"
    else:
        enough = f"with intervals but without p-values, which are given in cell core alone, not in {cell or 'no cell'}"
    return f"{blocks} block{'s' if blocks > 1 else ''}, {enough}"


def _means(group: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Ratios of means over runs outside blocks: an observation, not a test."""
    valid = group[group["valid"].astype(bool)]
    means = valid.groupby("environment")["mean_response_s"].mean()
    counts = valid["environment"].value_counts()
    return [
        f"Mean response: {a} / {b} = {means[a] / means[b]:.2f} in these runs "
        f"({counts[a]} and {counts[b]}); how much of it is chance is not known."
        for a, b in design.environment_pairs([name for name in names if name in means.index])
    ]


def _count(rows: pd.DataFrame) -> str:
    invalid = int((~rows["valid"].astype(bool)).sum())
    return f"{len(rows)} run{'s' if len(rows) > 1 else ''}" + (f", {invalid} invalid" if invalid else "")


def _listed(values: pd.Series) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values))
