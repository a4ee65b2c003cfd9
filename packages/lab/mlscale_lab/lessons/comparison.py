"""Lab 5: reading a comparison honestly, on the published live runs."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from mlscale.analysis.durations import durations, intended_between
from mlscale.analysis.paired import paired_t
from mlscale.analysis.summary import span
from mlscale.defaults import defaults
from mlscale.progress import Shown
from mlscale.runs import MlscaleError, Run, load_runs
from mlscale_lab.checks import Checks, Choice, Mistake, Number, Question
from mlscale_lab.experiments import Experiment, run

A, B = "rayserve", "k3s"


@cache
def published() -> pd.DataFrame:
    """The valid published runs of the cell core: environment, block, label of an A/A pair, requests, mean response.

    Raises:
        MlscaleError: no runs are published in this checkout.
    """
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


def checks() -> Checks:
    """The checks of notebook lab_5."""
    return Checks(
        {
            "one_block": _one_block,
            "unit": _unit,
            "ratio": _ratio,
            "lower_bound": _lower_bound,
            "noise": _noise,
            "answered": _answered,
            "simulated": _simulated,
            "claim": _claim,
        }
    )


def _row(one: Run) -> dict[str, Any]:
    frame = intended_between(durations(one.requests, timeout_s=one.info.timeout_s), *span(one))
    return {
        "environment": one.info.environment,
        "block": one.info.block,
        "aa_label": one.info.aa_label or "",
        "requests": len(frame),
        "mean_response_s": float(frame["response_s"].mean()),
    }


def _one_block() -> Question:
    return Choice(
        "c",
        {
            "a": "In this block it was. Would another minute on the same machine say the same?",
            "b": "All requests of one run share one start-up, one phase of a control loop, one state of the host.",
        },
        "One run shows that something can happen, not that it does. What varies from run to run is unseen in one.",
    )


def _unit() -> Question:
    rows = published()
    ray = rows[rows["environment"] == A]
    return Number(
        len(log_ratios()),
        [
            Mistake(
                int(ray["requests"].sum()),
                "Requests of one run are not independent: one slow start delays hundreds of them.",
            ),
            Mistake(len(rows), "Those are all runs, of every environment. A ratio needs a pair from the same block."),
            Mistake(len(ray), "Almost: some blocks have two runs of Ray Serve (A/A). A block gives one ratio."),
        ],
        "The block is the unit: one ratio each. More requests per run would not make it more.",
        "Count the pairs: `lesson.log_ratios()` has one row for each.",
        0.001,
    )


def _ratio() -> Question:
    logs = log_ratios()
    rows = published()
    means = rows.groupby("environment")["mean_response_s"].mean()
    geometric = float(np.exp(logs.mean()))
    return Number(
        geometric,
        [
            # near 1.76, where the published ratio is, a ratio's logarithm is also its inverse
            Mistake(
                float(logs.mean()),
                "The mean of the logarithms, not turned back into a ratio? Or Kubernetes over Ray Serve?",
            ),
            Mistake(float(means[A] - means[B]), "That is a difference in seconds. A ratio is asked."),
        ],
        "The mean of logarithms, turned back: a block in which everything was slow counts as much as any other.",
        "exp(mean of log_ratios).",
        0.005,
    )


def _lower_bound() -> Question:
    logs = log_ratios()
    right = float(np.exp(paired_t(logs.to_numpy()).low))
    half = 2.0 * float(logs.std())
    return Number(
        right,
        [
            Mistake(
                float(np.exp(logs.mean() - half)),
                "That is where single blocks lie (sd). The mean of several is known better: divide by sqrt(n).",
            ),
            Mistake(float(np.exp(paired_t(logs.to_numpy()).high)), "That is the upper end."),
            Mistake(float(np.exp(logs.mean())), "That is the middle. How far down is the data compatible with?"),
            Mistake(float(paired_t(logs.to_numpy()).low), "Still a logarithm. Turn it back into a ratio."),
        ],
        f"All of the interval is above 1: on this host Ray Serve took at least {100 * (right - 1):.0f} % longer.",
        "mean - t x sd / sqrt(n), with t from n - 1 degrees of freedom (scipy.stats.t.ppf(0.975, n - 1)), then exp.",
        0.02,
    )


def _noise() -> Question:
    ratios = aa_ratios()
    largest = float(np.exp(np.abs(np.log(ratios)).max()))
    return Number(
        largest,
        [
            Mistake(1.0, "The same thing twice, and yet not the same number: look at aa_ratios()."),
            Mistake(float(ratios.max()), "Some ratios are below 1: 0.7 is as far from 1 as 1 / 0.7."),
            Mistake(float(np.exp(np.abs(np.log(ratios)).mean())), "That is a typical one. The largest is asked for."),
        ]
        if abs(largest - float(ratios.max())) > 0.02 * largest
        else [
            Mistake(1.0, "The same thing twice, and yet not the same number: look at aa_ratios()."),
            Mistake(float(np.exp(np.abs(np.log(ratios)).mean())), "That is a typical one. The largest is asked for."),
        ],
        "So much can two runs differ when nothing differs. A single pair with such a ratio shows nothing.",
        "Take the ratio farthest from 1, in either direction, as a number above 1.",
        0.02,
    )


def _answered() -> Question:
    prediction = next(iter(with_failures().predictions.values()))
    answered_s = (prediction.mean_s - 30.0 * prediction.failed) / (1 - prediction.failed)
    return Number(
        answered_s,
        [
            Mistake(prediction.mean_s, "That is the mean with failures as 30 s. Take them out."),
            Mistake(
                prediction.mean_s * (1 - prediction.failed),
                "That makes failures 0 s long. They count 30 s in the mean.",
            ),
            Mistake(prediction.mean_s - 30.0 * prediction.failed, "Nearly: divide by the share that was answered."),
        ],
        "It looks better, because the worst cases no longer count. A system that fails faster would win.",
        "mean = failed x 30 + (1 - failed) x answered. Solve for the last one.",
        0.03,
    )


def _simulated() -> Question:
    return Choice(
        "c",
        {
            "a": "With 10,000 draws any difference becomes significant, also one that the profile got wrong.",
            "b": "It is small, and it is about the model. The model itself is what is in doubt.",
        },
        "With a simulator n is as large as you like, so p says nothing. `mlscale.compare` refuses simulated runs.",
    )


def _claim() -> Question:
    low = float(np.exp(paired_t(log_ratios().to_numpy()).low))
    return Choice(
        "b" if low > 1 else "d",
        {
            "a": "In general? One host, one application, one set of settings, one shape of load were measured.",
            "c": "Beyond the step, with other settings, on other machines, nothing was measured. And better at what?",
            ("d" if low > 1 else "b"): "Look at the interval again: does it contain 1?",
        },
        "It names host, settings, load, size and uncertainty, and stops there.",
    )
