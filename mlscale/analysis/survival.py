"""Times that may be censored: Kaplan-Meier curve and restricted mean (METHOD §3)."""

from __future__ import annotations

import warnings

import numpy as np
import numpy.typing as npt
import pandas as pd

from mlscale.analysis.windows import Floats


def _split(times_s: npt.ArrayLike, censored: npt.ArrayLike) -> tuple[Floats, npt.NDArray[np.bool_]]:
    times, flags = np.asarray(times_s, dtype=float), np.asarray(censored, dtype=bool)
    if times.shape != flags.shape:
        raise ValueError(f"{times.shape} times and {flags.shape} flags")
    known = np.isfinite(times)
    return times[known], flags[known]


def kaplan_meier(times_s: npt.ArrayLike, censored: npt.ArrayLike) -> pd.DataFrame:
    """The share of runs whose event is still to come, over time since t0 (right-censored; NaN times are left out).

    Returns:
        t_s, survival, low, high (pointwise log-log Greenwood interval, NaN where it does not exist), from
        (0, 1) on; one row per time of an event or censoring; ``events`` and ``censored`` count them.
    Source: scipy.stats.ecdf on CensoredData; E. L. Kaplan and P. Meier, JASA 53 (1958), 457-481.
    """
    times, flags = _split(times_s, censored)
    columns = ["t_s", "survival", "low", "high", "events", "censored"]
    start = pd.DataFrame([[0.0, 1.0, 1.0, 1.0, 0, 0]], columns=columns)
    if not len(times):
        return start
    from scipy import stats  # here: it takes longer to import than pandas

    survival = stats.ecdf(stats.CensoredData.right_censored(times, flags)).sf
    at = np.asarray(survival.quantiles, dtype=float)
    low = high = np.full(len(at), np.nan)
    if len(times) > 1 and not flags.all():
        with warnings.catch_warnings():  # the interval does not exist where the curve is 1 or 0: NaN says so
            warnings.simplefilter("ignore", RuntimeWarning)
            interval = survival.confidence_interval(0.95, method="log-log")
        low, high = np.asarray(interval.low.probabilities), np.asarray(interval.high.probabilities)
    body = pd.DataFrame(
        {
            "t_s": at,
            "survival": np.asarray(survival.probabilities, dtype=float),
            "low": low,
            "high": high,
            "events": [int(((times == t) & ~flags).sum()) for t in at],
            "censored": [int(((times == t) & flags).sum()) for t in at],
        }
    )
    return pd.concat([start, body], ignore_index=True)


def restricted_mean(times_s: npt.ArrayLike, censored: npt.ArrayLike, until_s: float) -> float:
    """Mean of min(T, until_s): the area under the Kaplan-Meier curve up to ``until_s``, s. NaN without times.

    Where every censoring happens at ``until_s``, as at the common horizon, this is the plain mean of min(T, until_s)
    and rests on no assumption. Source: P. Royston and M. Parmar, BMC Medical Research Methodology 13 (2013), 152.
    """
    times, _ = _split(times_s, censored)
    if not len(times):
        return float("nan")
    curve = kaplan_meier(times_s, censored)
    inside = curve[curve["t_s"] < until_s]
    edges = np.append(inside["t_s"].to_numpy(), until_s)
    return float(np.sum(np.diff(edges) * inside["survival"].to_numpy()))
