"""Experiments in which nothing differs, to test the pipeline of inference on (METHOD §7).

Every experiment has ``environments`` x ``blocks`` runs of three endpoints. log y = block effect + noise, noise of the
three endpoints correlated as mean and standard deviation of the same requests are; the third endpoint is a
T_slo + W in [W, H]: log-normal, cut off at H so that a given share is censored.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mlscale.analysis.design import environment_pairs
from mlscale.analysis.durations import Floats
from mlscale.analysis.paired import ALPHA, holm, paired_t

NOISE_SD: Final = (0.10, 0.20, 0.35)
BLOCK_SD: Final = (0.20, 0.25, 0.30)
CORRELATION: Final = 0.6


@dataclass(frozen=True)
class NullResult:
    """Shares over all experiments. ``coverage`` of single 95 % intervals, by endpoint; ``simultaneous`` of whole
    families."""

    experiments: int
    family: int
    family_wise_error: float
    coverage: Floats
    coverage_mean: float
    simultaneous: float
    censored_share: float


def draw(
    rng: np.random.Generator, experiments: int, environments: int, blocks: int, censored: float = 0.20
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """log values of shape (experiments, environments, blocks, 3), and which of the third endpoint are censored.

    The bound is that quantile of the third endpoint's distribution which ``censored`` of all runs pass; as at a true
    horizon, it is the same for every run.
    """
    mixing = np.linalg.cholesky(np.full((3, 3), CORRELATION) + (1 - CORRELATION) * np.eye(3))
    noise = rng.standard_normal((experiments, environments, blocks, 3)) @ mixing.T * np.asarray(NOISE_SD)
    block = rng.standard_normal((experiments, 1, blocks, 3)) * np.asarray(BLOCK_SD)
    values = noise + block
    if censored <= 0:
        return values, np.zeros(values.shape[:-1], dtype=bool)
    bound = np.quantile(values[..., 2], 1 - censored)
    cut = values[..., 2] >= bound
    values[..., 2] = np.minimum(values[..., 2], bound)
    return values, cut


def null_experiments(
    experiments: int = 2000,
    *,
    environments: int = 2,
    blocks: int = 8,
    censored: float = 0.20,
    seed: int = 0,
    alpha: float = ALPHA,
) -> NullResult:
    """Put null experiments through the same paired t, Holm and intervals that `compare` uses; the truth is 0
    everywhere.

    An interval that can't be given (both sides censored in every block) covers nothing and excludes nothing: it is
    left out of the coverage.
    """
    values, cut = draw(np.random.default_rng(seed), experiments, environments, blocks, censored)
    places = environment_pairs([str(number) for number in range(environments)])
    pairs = [(int(a), int(b)) for a, b in places]
    differences = np.stack([values[:, a] - values[:, b] for a, b in pairs], axis=1)  # experiment, pair, block, endpoint
    family = np.moveaxis(differences, -1, -2).reshape(experiments, -1, blocks)
    size = family.shape[1]
    one, together = paired_t(family, alpha), paired_t(family, alpha / size)
    adjusted = holm(one.p)
    covered = np.where(np.isnan(one.low), np.nan, (one.low <= 0) & (one.high >= 0))
    whole = np.isnan(together.low) | ((together.low <= 0) & (together.high >= 0))
    by_endpoint = np.nanmean(covered.reshape(experiments, len(pairs), 3), axis=(0, 1))
    return NullResult(
        experiments=experiments,
        family=size,
        family_wise_error=float(np.mean(np.nanmin(adjusted, axis=1) < alpha)),
        coverage=by_endpoint,
        coverage_mean=float(np.nanmean(covered)),
        simultaneous=float(np.mean(whole.all(axis=1))),
        censored_share=float(cut.mean()),
    )
