"""Lab 5: reading a comparison honestly, on the published live runs."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd

from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.summary import span
from mlscale.defaults import defaults
from mlscale.progress import Shown
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale_lab.checks import Checks
from mlscale_lab.experiments import Experiment, run
from mlscale_lab.questions import checks_of, draw_of

A, B = "rayserve", "k3s"
# What `published` gives, in a student's copy, beside the notebook.
COPY: Final = Path("lab_5_published.csv")


@cache
def published() -> pd.DataFrame:
    """The valid published runs of the cell core: environment, block, label of an A/A pair, requests, mean response.

    Raises:
        MlscaleError: no runs are published in this checkout.
    """
    if COPY.exists():
        return pd.read_csv(COPY, keep_default_na=False)
    found = defaults().published()
    if found is None:
        raise MlscaleError("no published runs", "data/reference", "use a checkout that has them")
    core = [one for one in load_runs(found[0]) if one.info.cell == "core" and one.info.valid]
    with Shown() as progress:
        rows = []
        for one in core:
            rows.append(_row(one))
            progress("reading the published runs", len(rows) / len(core))
    return pd.DataFrame(rows)


def one_block() -> pd.DataFrame:
    """The runs of the first block in which Ray Serve was slower than Kubernetes and neither of them ran twice."""
    rows, logs = published(), log_ratios()
    twice = rows.loc[rows["environment"].isin([A, B]) & rows["aa_label"].ne(""), "block"]
    return rows[rows["block"] == logs[(logs > 0) & ~logs.index.isin(twice)].index[0]]


def log_ratios() -> pd.Series[float]:
    """log(mean response of Ray Serve / of Kubernetes) in each block: one number per block, A of an A/A pair."""
    rows = published()
    first = rows[rows["aa_label"] != "B"]
    means = first.pivot_table(index="block", columns="environment", values="mean_response_s")
    return np.log(means[A] / means[B]).dropna()


def aa_ratios() -> pd.Series[float]:
    """Mean response of run A / of run B, where both ran the same environment in the same block."""
    rows = published()
    wide = rows[rows["aa_label"].isin(["A", "B"])].pivot_table(
        index=["block", "environment"], columns="aa_label", values="mean_response_s"
    )
    return (wide["A"] / wide["B"]).dropna()


def with_failures() -> Experiment:
    """A simulated run in which requests time out."""
    return run("torchserve", "waves", upscale_delay_s=20.0)


def checks(student: Any = None) -> Checks:
    """The checks of notebook lab_5."""
    return checks_of("comparison", student, own=("own_ratio", "own_lower", "own_answered"))


def own_numbers(student: Any) -> dict[str, Any]:
    """Made-up logarithms of ratios, one for each block, and a mean with failures: drawn by the student's name."""
    draw = draw_of("comparison", student)
    middle, spread = draw.uniform(0.15, 0.6), draw.uniform(0.05, 0.15)
    return {
        "log_ratios": [round(draw.gauss(middle, spread), 3) for _ in range(8)],
        "mean_s": draw.choice([2.4, 2.8, 3.1, 3.5]),
        "failed": draw.choice([0.03, 0.04, 0.05, 0.06]),
        "timeout_s": 30,
    }


def _row(one: Run) -> dict[str, Any]:
    frame = intended_between(durations(one.requests, timeout_s=one.info.timeout_s), *span(one))
    return {
        "environment": one.info.environment,
        "block": one.info.block,
        "aa_label": one.info.aa_label or "",
        "requests": len(frame),
        "mean_response_s": float(frame["response_s"].mean()),
    }
