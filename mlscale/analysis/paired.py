"""Paired inference on within-block differences, vectorised over all axes but the last: the blocks, or the family.

SciPy is imported where it is used: it takes longer than pandas, and most figures need none of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mlscale.analysis.durations import Floats

ALPHA: Final = 0.05
POWER: Final = 0.80
_DRAWS: Final = 20_000


class TResult(NamedTuple):
    """Result of a paired t test; arrays without the block axis."""

    mean: Floats
    low: Floats
    high: Floats
    p: Floats


def paired_t(differences: npt.ArrayLike, alpha: float = ALPHA) -> TResult:
    """Mean difference, its t interval at 1 - alpha and two-sided p; df = blocks - 1.

    Without any spread (all differences are equal, for example because all runs sit at a bound) there is no t interval:
    low and high are NaN; p is 1 if all differences are 0, else NaN. With fewer than 2 blocks there is only the mean.
    """
    from scipy import special

    # scipy.stats.ttest_1samp differs in the last digit, and has no rule for differences without spread.
    d = np.asarray(differences, dtype=float)
    n = d.shape[-1]
    mean = d.mean(axis=-1) if n else np.full(d.shape[:-1], np.nan)
    if n < 2:
        missing = np.full_like(mean, np.nan)
        return TResult(mean, missing, missing, missing)
    sd = d.std(axis=-1, ddof=1)
    flat = sd <= 1e-12 * np.maximum(np.abs(d).max(axis=-1), 1e-300)
    error = np.where(flat, np.nan, sd / np.sqrt(n))
    half = t_quantile(1 - alpha / 2, n - 1) * error
    p = 2 * special.stdtr(n - 1, -np.abs(mean) / error)
    p = np.where(flat, np.where(np.abs(d).max(axis=-1) == 0, 1.0, np.nan), p)
    return TResult(mean, mean - half, mean + half, p)


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t distribution."""
    from scipy import special  # what scipy.stats.t.ppf calls, without scipy.stats

    return float(special.stdtrit(df, p))


def holm(p: npt.ArrayLike) -> Floats:
    """Holm-adjusted p over the last axis. A NaN counts as 1, so that the family keeps its size, and stays NaN.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979), 65-70.
    """
    # statsmodels' multipletests gives the same numbers, but takes one family a call, at 30 ms or more.
    raw = np.asarray(p, dtype=float)
    filled = np.where(np.isnan(raw), 1.0, raw)
    order = np.argsort(filled, axis=-1, kind="stable")
    m = filled.shape[-1]
    steps = np.take_along_axis(filled, order, axis=-1) * np.arange(m, 0, -1)
    running = np.minimum(np.maximum.accumulate(steps, axis=-1), 1.0)
    adjusted = np.empty_like(running)
    np.put_along_axis(adjusted, order, running, axis=-1)
    return np.where(np.isnan(raw), np.nan, adjusted)


def sign_flip_p(differences: npt.ArrayLike) -> float:
    """Two-sided p of the mean under random signs; exact up to 14 blocks, else 20,000 draws. At least 2 / 2^n."""
    d = np.asarray(differences, dtype=float)
    if len(d) < 2:
        return float("nan")
    from scipy import stats

    test = stats.permutation_test((d,), np.mean, permutation_type="samples", n_resamples=_DRAWS, rng=0)
    return float(test.pvalue)


def noise_sd(aa_differences: npt.ArrayLike) -> float:
    """Standard deviation of a within-block log ratio when nothing differs, from A/A pairs: about 0, df = pairs.

    The true mean is 0 by construction, so none is estimated. NaN without pairs.
    """
    d = np.asarray(aa_differences, dtype=float)
    d = d[np.isfinite(d)]
    return float(np.sqrt(np.mean(d**2))) if len(d) else float("nan")


def noise_floor(sd: float, pairs: int, blocks: int) -> float:
    """Half width of the 95 % range of a mean log ratio over ``blocks`` blocks when nothing differs.

    t quantile with df = A/A pairs, since ``sd`` itself is estimated from so many.
    """
    if pairs < 1 or blocks < 1 or not np.isfinite(sd):
        return float("nan")
    return t_quantile(1 - ALPHA / 2, pairs) * sd / float(np.sqrt(blocks))


def detectable_difference(sd: float, blocks: int, alpha: float) -> float:
    """Smallest mean log ratio that a two-sided paired t test at ``alpha`` detects with `POWER`, given the noise ``sd``.

    Solved on the noncentral t distribution with df = blocks - 1. ``sd`` is taken as known, and is the noise alone:
    where environments react differently to blocks, more is needed.
    """
    if blocks < 2 or not np.isfinite(sd):
        return float("nan")
    return 0.0 if sd == 0 else float(_detectable_ncp(blocks, alpha) * sd / np.sqrt(blocks))


def blocks_to_detect(difference: float, sd: float, alpha: float) -> int:
    """The fewest blocks in which `detectable_difference` is no larger than ``difference`` (a log ratio above 0)."""
    blocks = 2
    while detectable_difference(sd, blocks, alpha) > difference:
        blocks += 1
    return blocks


@lru_cache
def _detectable_ncp(blocks: int, alpha: float) -> float:
    """The noncentrality of `detectable_difference`."""
    from scipy import optimize

    limit = t_quantile(1 - alpha / 2, blocks - 1)

    def shortfall(ncp: float) -> float:
        return _power(ncp, limit, blocks - 1) - POWER

    high = limit + 2.0
    while shortfall(high) < 0:
        high *= 1.5
    return float(optimize.brentq(shortfall, 0.0, high, xtol=1e-8))


def _power(ncp: float, limit: float, df: int) -> float:
    """P(|T| > limit) of a noncentral t, as the mean over its chi-distributed scale.

    (scipy.stats.nct gives NaN for few degrees of freedom and a large noncentrality.)
    """
    from scipy import integrate, special, stats

    scale = stats.chi(df, scale=1 / np.sqrt(df))

    def not_rejected(s: float) -> float:
        return float(scale.pdf(s) * (special.ndtr(limit * s - ncp) - special.ndtr(-limit * s - ncp)))

    inside, _ = integrate.quad(not_rejected, 0.0, float(scale.isf(1e-14)), points=[float(scale.median())], limit=200)
    return 1.0 - float(inside)
