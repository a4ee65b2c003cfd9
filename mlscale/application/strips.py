"""From the strip reader's frames to the digits of an EAN-13, EAN-8 or UPC-A.

The reader says which symbol is centred at which frame; where the code starts and ends is searched for, since symbols
are evenly spaced but for a slight bend of perspective.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlscale.application import ean
from mlscale.application.crops import STRIP_MARGIN, STRIP_PLACES, STRIP_WIDTH
from mlscale.application.geometry import Points, rectangle

FRAMES = STRIP_WIDTH // 2
_SURE = {12: ((0.6, 0.85), (0.8, 0.93)), 8: ((0.82, 0.93), (0.92, 0.97))}
"""Least and mean probability of the digits that are believed, of all strips together and of one strip alone, by the
number of digits: with eight there is no parity pattern, so that one wrong digit in ten would pass the check digit."""
_LONG_FITS = -1.0
"""Mean log probability per digit from which twelve digits are taken to be there."""
_HARDLY_FITS = -2.0
_NOISE_BESIDE = 0.5
_UPRIGHT = (("L", "G"), ("R",))
_TURNED = (("G",), ("R", "Q"))

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class BarsRead:
    """A verified number, and from where to where in the strips (shares of the box's width) its bars stand."""

    kind: str
    text: str
    span: tuple[float, float]
    turned: bool
    sure: float


@dataclass(frozen=True)
class Look:
    """One look at a box: the number, None where nothing verifies; where the bars seem to stand, (4, 2) in shares of the
    box, for another look; and whether such a look has any prospect."""

    bars: BarsRead | None
    outline: Points
    hopeful: bool


@dataclass(frozen=True)
class _Fit:
    score: float
    count: int
    turned: bool
    frames: NDArray[np.int64]  # (strips, count)
    edges: NDArray[np.float64]  # (strips, 2)


@lru_cache(maxsize=2)
def _placements(count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames of the digits (n, count) and edges (n, 2) of every placement that is tried."""
    nominal = STRIP_MARGIN / (1 + 2 * STRIP_MARGIN) * FRAMES
    left = np.arange(1.0, 2.1 * nominal, 2.0)
    grid = np.stack(np.meshgrid(left, FRAMES - left, (-3.0, -1.5, 0.0, 1.5, 3.0), indexing="ij"), axis=-1)
    start, end, bend = (grid.reshape(-1, 3)[:, column, None] for column in range(3))
    place = ean.digit_centres(count)[None]
    frames = start + (end - start) * place + bend * 4 * place * (1 - place)
    edges = np.concatenate([start, end], axis=1)
    return np.clip(np.floor(frames), 0, FRAMES - 1).astype(np.int64), edges


def read_bars(logits: Scores) -> Look:
    """What the strips (n, 41, `FRAMES`) of one box show."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    fit = max((_best_fit(scores, 12, turned) for turned in (False, True)), key=_score)
    if fit.score < _LONG_FITS:  # else the inner digits of twelve would pass for eight
        short = max((_best_fit(scores, 8, turned) for turned in (False, True)), key=_score)
        fit = short if _is_quiet_around(scores, short) else fit
    return Look(_verify_fit(scores, fit), _outline(fit), fit.score > _HARDLY_FITS)


def _outline(fit: _Fit) -> Points:
    """The bars' corners: straight edges through the strips' edges, or a larger box where hardly anything fits."""
    if fit.score < _HARDLY_FITS:
        return rectangle(1.3, 1.0, -0.15, 0.0)
    places = np.array(STRIP_PLACES)
    shares = fit.edges / FRAMES * (1 + 2 * STRIP_MARGIN) - STRIP_MARGIN
    (left_slope, right_slope), (left, right) = np.polyfit(places, shares, 1)
    return np.array([[left, 0], [right, 0], [right + right_slope, 1], [left + left_slope, 1]])


def _verify_fit(scores: Scores, fit: _Fit) -> BarsRead | None:
    digits = np.stack([scores[strip][:, frames] for strip, frames in enumerate(fit.frames)])
    together, alone = _SURE[fit.count]
    verified = _verify(digits.mean(axis=0), fit, slice(None), together)
    for strip in range(len(digits)):
        verified = verified or _verify(digits[strip], fit, slice(strip, strip + 1), alone)
    return verified


def _score(fit: _Fit) -> float:
    return fit.score


def _is_quiet_around(scores: Scores, fit: _Fit) -> bool:
    """Whether no symbols stand where an EAN-8 has its quiet zones."""
    somewhere = 1 - np.exp(scores[:, 40])
    for strip, (start, end) in enumerate(fit.edges):
        reach = 7 / ean.MODULES["EAN8"] * (end - start)
        for low, high in ((start - reach, start), (end, end + reach)):
            beside = somewhere[strip, max(0, int(low)) : max(0, int(high))]
            if beside.size and beside.max() > _NOISE_BESIDE:
                return False
    return True


def _best_fit(scores: Scores, count: int, turned: bool) -> _Fit:
    frames, edges = _placements(count)
    sets = _TURNED if turned else _UPRIGHT
    halves = [
        np.concatenate([scores[:, 10 * ean.SETS.index(name) : 10 * ean.SETS.index(name) + 10] for name in half], axis=1)
        .max(axis=1)
        .clip(-8)
        for half in sets
    ]
    half = count // 2
    total = halves[0][:, frames[:, :half]].sum(axis=2) + halves[1][:, frames[:, half:]].sum(axis=2)
    best = total.argmax(axis=1)
    score = float(total.max(axis=1).mean()) / count
    return _Fit(score, count, turned, frames[best], edges[best])


def _verify(digits: Scores, fit: _Fit, strips: slice, sure: tuple[float, float]) -> BarsRead | None:
    """Digits (41, count) of log probabilities to a number, if sets, check digit and certainty allow."""
    classes = digits[:40].argmax(axis=0)
    probability = np.exp(digits[:40].max(axis=0))
    if probability.min() < sure[0] or probability.mean() < sure[1]:
        return None
    number = ean.from_symbols([(ean.SETS[index // 10], int(index % 10)) for index in classes.tolist()])
    if number is None:
        return None
    edges = fit.edges[strips].mean(axis=0) / FRAMES * (1 + 2 * STRIP_MARGIN) - STRIP_MARGIN
    return BarsRead(*number, (float(edges[0]), float(edges[1])), fit.turned, float(probability.min()))
