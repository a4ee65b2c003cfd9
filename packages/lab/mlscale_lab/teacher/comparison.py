"""Answers to lab 5."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np

from mlscale.analysis.paired import paired_t
from mlscale_lab.checks import Choice, Mistake, Number, Question
from mlscale_lab.lessons.comparison import A, B, aa_ratios, log_ratios, published, with_failures


def own(numbers: Mapping[str, Any]) -> dict[str, float]:
    """Right answers about a student's own numbers."""
    ratios, failed = paired_t(np.array(numbers["log_ratios"])), numbers["failed"]
    return {
        "own_ratio": float(np.exp(ratios.mean)),
        "own_lower": float(np.exp(ratios.low)),
        "own_answered": (numbers["mean_s"] - failed * numbers["timeout_s"]) / (1 - failed),
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


QUESTIONS: Final[Mapping[str, Callable[[], Question]]] = {
    "one_block": _one_block,
    "unit": _unit,
    "ratio": _ratio,
    "lower_bound": _lower_bound,
    "noise": _noise,
    "answered": _answered,
    "simulated": _simulated,
    "claim": _claim,
}
