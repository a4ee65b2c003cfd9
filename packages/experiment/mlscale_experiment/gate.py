"""A gate for continuous integration: is a model's response, under the same protocol, no worse than before?

The number of blocks is fixed by the experiment, and nothing is judged before all of them are there, so that looking
early changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from scipy.stats import t as student

from mlscale.analysis.summary import summarise
from mlscale.plots.style import display_name
from mlscale.runs import MlscaleError, Run

# A one-sided error of 5 %: the ends of a 90 % interval.
ALPHA: Final = 0.05
_LEAST_RUNS: Final = 2
Answer = Literal["pass", "worse", "undecided"]
# The command's exit codes.
CODES: Final[dict[Answer, int]] = {"pass": 0, "worse": 1, "undecided": 2}


@dataclass(frozen=True)
class Judged:
    """``said``: a sentence with the interval."""

    answer: Answer
    said: str


def gate(
    runs: Sequence[Run], before: Sequence[Run], level_s: float, *, worse: float | None, p95_s: float | None
) -> Judged:
    """Judge the runs of core; with several environments or limits, the worst answer counts.

    Args:
        before: runs of the baseline, of the same environments, load, settings and host.
        worse: by which share the mean response after the step may be longer, such as 0.1.
        p95_s: upper limit of the 95th percentile of the response after the step, s.

    Raises:
        MlscaleError: neither limit is given; the runs differ in host, load, settings or environments.
    """
    if worse is None and p95_s is None:
        raise MlscaleError("no limit is given", "gate", "give --worse 10% (with --against) or --p95 SECONDS")
    now = _valid(summarise(list(runs), level_s))
    if now.empty:
        return Judged("undecided", "No run is valid.")
    old = _valid(summarise(list(before), level_s)) if worse is not None else now
    _check_same(now, old)
    judged = []
    for environment, rows in now.groupby("environment", sort=False):
        if worse is not None:
            judged.append(_against(str(environment), rows, old[old["environment"] == environment], worse))
        if p95_s is not None:
            judged.append(_within(str(environment), rows, p95_s))
    order: list[Answer] = ["worse", "undecided", "pass"]
    answer = min((each.answer for each in judged), key=order.index)
    return Judged(answer, " ".join(each.said for each in judged))


def _against(environment: str, rows: pd.DataFrame, old: pd.DataFrame, worse: float) -> Judged:
    """By Welch's interval of the ratio of geometric means over runs."""
    new_log, old_log = (np.log(each["mean_response_s"].to_numpy(dtype=float)) for each in (rows, old))
    name = display_name(environment)
    if min(len(new_log), len(old_log)) < _LEAST_RUNS:
        return Judged("undecided", f"{name}: {len(new_log)} and {len(old_log)} valid runs are too few.")
    parts = [each.var(ddof=1) / len(each) for each in (new_log, old_log)]
    squares = sum(part**2 / (len(each) - 1) for part, each in zip(parts, (new_log, old_log), strict=True))
    freedom = sum(parts) ** 2 / squares if squares > 0 else math.inf
    middle, half = float(new_log.mean() - old_log.mean()), float(student.ppf(1 - ALPHA, freedom) * sum(parts) ** 0.5)
    low, high, limit = middle - half, middle + half, math.log1p(worse)
    answer: Answer = "worse" if low > limit else "pass" if high <= limit else "undecided"
    said = (
        f"{name}: the mean response after the step is {math.exp(middle):.2f} times as long as before "
        f"({math.exp(low):.2f} to {math.exp(high):.2f}; at most {1 + worse:.2f} is allowed)"
    )
    return Judged(answer, said + _more(answer, len(new_log), half, abs(middle - limit)))


def _within(environment: str, rows: pd.DataFrame, p95_s: float) -> Judged:
    """By Student's interval of the mean over runs."""
    values = rows["p95_response_s"].to_numpy(dtype=float)
    name = display_name(environment)
    if len(values) < _LEAST_RUNS:
        return Judged("undecided", f"{name}: {len(values)} valid runs are too few.")
    middle = float(values.mean())
    half = float(student.ppf(1 - ALPHA, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    answer: Answer = "worse" if middle - half > p95_s else "pass" if middle + half <= p95_s else "undecided"
    said = (
        f"{name}: the 95th percentile after the step is {middle:.3g} s ({middle - half:.3g} to {middle + half:.3g}; at "
        f"most {p95_s:g} is allowed)"
    )
    return Judged(answer, said + _more(answer, len(values), half, abs(middle - p95_s)))


def _more(answer: Answer, runs: int, half: float, distance: float) -> str:
    """The end of the sentence: how many blocks would decide, since an interval's half width shrinks with their root."""
    if answer != "undecided":
        return "."
    needed = math.ceil(runs * (half / distance) ** 2) if distance > 0 else 0
    return f": undecided; about {needed} blocks would decide." if 0 < needed <= 200 else ": undecided, too close to it."


def _valid(rows: pd.DataFrame) -> pd.DataFrame:
    """One valid run for each block and environment, run A of an A/A pair."""
    used = rows[rows["valid"].astype(bool) & (rows["aa_label"].fillna("A") == "A")]
    return used.drop_duplicates(["environment", "block"])


def _check_same(now: pd.DataFrame, old: pd.DataFrame) -> None:
    """Raise MlscaleError where a difference would not be the model's."""
    for column, what in (("host", "hosts"), ("environment", "environments"), ("quota", "quotas"), ("load", "loads")):
        if column in now and column in old and set(now[column].dropna()) ^ set(old[column].dropna()):
            raise MlscaleError(
                f"the baseline has other {what}", "--against", "measure both by the same protocol and host"
            )


def share(text: str) -> float:
    """``"10%"`` or ``"0.1"`` to 0.1.

    Raises:
        MlscaleError: neither.
    """
    try:
        value = float(text.removesuffix("%")) / (100.0 if text.endswith("%") else 1.0)
    except ValueError:
        value = math.nan
    if not 0 <= value < 10:
        raise MlscaleError(f"not a share: {text!r}", "--worse", "give one such as 10%")
    return value


def baseline_runs(folder: Path) -> Path:
    """Where a baseline's runs of core lie: below the folder of an experiment, of its runs, or the folder itself."""
    return next((each for each in (folder / "runs" / "core", folder / "core") if each.is_dir()), folder)
