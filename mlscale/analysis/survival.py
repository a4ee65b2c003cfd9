"""The mean of times that may be censored (METHOD §3)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def restricted_mean(times_s: npt.ArrayLike, censored: npt.ArrayLike, until_s: float) -> float:
    """Mean of min(T, until_s): the area under the Kaplan-Meier curve up to ``until_s``, s. NaN without times; NaN times
    are left out.

    Where every censoring happens at ``until_s``, as at the common horizon, this is the plain mean of min(T, until_s)
    and rests on no assumption. Source: P. Royston and M. Parmar, BMC Medical Research Methodology 13 (2013), 152.
    """
    times, flags = np.asarray(times_s, dtype=float), np.asarray(censored, dtype=bool)
    known = np.isfinite(times)
    if not known.any():
        return float("nan")
    from scipy import stats  # here: it takes longer to import than pandas

    curve = stats.ecdf(stats.CensoredData.right_censored(times[known], flags[known])).sf
    inside = curve.quantiles < until_s
    edges = np.concatenate([[0.0], curve.quantiles[inside], [until_s]])
    return float(np.sum(np.diff(edges) * np.concatenate([[1.0], curve.probabilities[inside]])))
