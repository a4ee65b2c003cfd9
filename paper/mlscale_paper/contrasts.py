"""The twin's error in a comparison: log(twin A / twin B) - log(live A / live B), from runs measured in the same block.

What both sides share (the host, the clients, what the twin gets wrong of both) cancels in it. Pure functions of the
rows of `mlscale_paper.contrast_runs` (METHOD §8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from mlscale.analysis.boot_time_response import KEPT_FREE

Floats = npt.NDArray[np.float64]
Figure = Literal["mean", "spread", "recovery"]
FIGURES: Final[tuple[Figure, ...]] = ("mean", "spread", "recovery")
REHEARSAL: Final = "rehearsal"
# Share of draws that recover, up to which a side shows nothing.
MIN_RECOVERED: Final = 0.5
# Points of the error's distribution at which a ratio's quantiles are computed: the middles of as many equal parts.
_PARTS: Final = 100


@dataclass(frozen=True)
class Error:
    """Student's t of the error of a log ratio: ``bias``, ``scale``, ``df``. ``borrowed``: the contrast was not
    measured, so that the spread between others stands for it; ``what``: the runs that show it."""

    bias: float
    scale: float
    df: float
    borrowed: bool
    what: str

    def scaled(self, factor: float) -> Error:
        """With a borrowed spread varied; a measured one stays."""
        return replace(self, scale=self.scale * factor) if self.borrowed else self

    def share_right(self, log_ratios: Floats) -> float:
        """Share of draws and errors in which the live log ratio is positive."""
        return float(stats.t.cdf((log_ratios - self.bias) / self.scale, self.df).mean())

    def quantiles(self, log_ratios: Floats, at: Sequence[float]) -> Floats:
        """Of the live log ratio: of the draws less the error."""
        middles = (np.arange(_PARTS) + 0.5) / _PARTS
        errors = self.bias + self.scale * stats.t.ppf(middles, self.df)
        return np.asarray(np.quantile(log_ratios[:, None] - errors[None, :], at), dtype=float)


def used(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows for which one error holds: of a closed loop, whose clients wait where replicas lag, in which the live
    run recovered, and most of its twins. An open loop's queue grows while replicas lag, and with it what a small error
    of their capacity does; a side that does not recover has such a queue for good."""
    recovered = rows["recovered"].astype(bool) & (rows["twins_recovered"] > MIN_RECOVERED)
    return rows[recovered & (rows["loop"] == "closed")]


def contrasts(rows: pd.DataFrame, better: str, worse: str) -> pd.DataFrame:
    """The error of worse / better in every block of a setting that has both: setting, block, `FIGURES`."""
    keyed = rows.set_index(["setting", "block"])
    sides = [keyed[keyed["side"] == side][list(FIGURES)] for side in (worse, better)]
    return (sides[0] - sides[1]).dropna(how="all").reset_index()


def measured(by_block: pd.DataFrame, figure: Figure, what: str) -> Error:
    """The error of a contrast in a new setting, from those in which it was measured: the mean of the settings; the
    spread between settings; and the uncertainty of the mean that blocks leave, which settings share where they share a
    side's run. Satterthwaite's degrees of freedom.

    Args:
        by_block: a row per setting and block, two settings at least.
    """
    groups = by_block.dropna(subset=[figure]).groupby("setting")[figure]
    means, count = groups.mean(), groups.ngroups
    between = float(means.var(ddof=1)) * (1 + 1 / count)
    freedom = int((groups.count() - 1).sum())
    parts = [(between, count - 1)]
    if freedom:
        within = float((groups.var(ddof=1).fillna(0.0) * (groups.count() - 1)).sum()) / freedom
        parts.append((within / float(groups.count().min()), freedom))
    variance = sum(each for each, _ in parts)
    df = variance**2 / sum(each**2 / of for each, of in parts)
    return Error(float(means.mean()), float(np.sqrt(variance)), df, False, what)


def side_errors(rows: pd.DataFrame, figure: Figure) -> pd.DataFrame:
    """Mean over blocks of each side's error in each setting, less the mean of the sides of the same block: setting,
    side, error."""
    complete = rows.dropna(subset=[figure])
    centred = complete[figure] - complete.groupby(["setting", "block"])[figure].transform("mean")
    return centred.groupby([complete["setting"], complete["side"]]).mean().rename("error").reset_index()


def borrowed(rows: pd.DataFrame, figure: Figure, what: str) -> Error:
    """The error of a contrast that was not measured: two more sides, as far apart as those of ``rows`` are in the same
    setting. No bias, since which side is called A is arbitrary; sides - 1 degrees of freedom in each setting."""
    variance, df = _between_sides(side_errors(rows, figure))
    return Error(0.0, float(np.sqrt(2 * variance)), df, True, what)


def _between_sides(errors: pd.DataFrame) -> tuple[float, float]:
    groups = errors.groupby("setting")["error"]
    df = float((groups.count() - 1).sum())
    return float(((errors["error"] - groups.transform("mean")) ** 2).sum()) / df, df


def rehearsed_contrasts(rows: pd.DataFrame) -> pd.DataFrame:
    """`contrasts` of machines that start, at each boot time, and of machines that run already, which are the
    rehearsal's buffer: each boot time is a setting of the same contrast."""
    ready = next(side for side in rows["side"].unique() if KEPT_FREE in side)
    starting = sorted(side for side in rows["side"].unique() if "boot" in side and side != ready)
    return pd.concat([contrasts(rows, ready, side).assign(setting=side) for side in starting], ignore_index=True)
