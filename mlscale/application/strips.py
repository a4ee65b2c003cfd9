"""From the strip reader's frames to the digits of an EAN-13, EAN-8, UPC-A or UPC-E.

The reader says which symbol is centred at which frame. Where the code starts and ends is searched for: symbols are
evenly spaced but for perspective (a bend) and curled paper (narrower towards the ends). A strip may be upside down, or
light on dark: then other symbols are seen, by a fixed rule, and the rule is undone before anything else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mlscale.application import ean
from mlscale.application.crops import STRIP_MARGIN, STRIP_PLACES, STRIP_WIDTH
from mlscale.application.geometry import Points, rectangle

FRAMES = STRIP_WIDTH // 2
_SURE = {12: ((0.15, 0.80), (0.35, 0.92)), 8: ((0.75, 0.93), (0.90, 0.97)), 6: ((0.80, 0.95), (0.92, 0.98))}
"""Least and mean probability of the digits that are believed, of all strips together and of one strip alone, by the
number of digits. With eight there is no parity pattern, and with six it is all there is, so that many wrong digits
would pass the check digit."""
_LONG_FITS = -1.0
"""Mean log probability per digit from which twelve digits are taken to be there."""
_HARDLY_FITS = -2.0
_NOISE_BESIDE = 0.5
_HOPEFUL_FITS = -1.7
_STEP = 3.0
"""Frames between the edges that are tried: a symbol is recognised within 2 frames of its centre."""
_BENDS = (-2.5, 0.0, 2.5)
_CURLS = (0.0, 0.7, 1.1)
"""Angles in radians by which both ends turn away."""
_LEFT_SETS = {12: "LG", 8: "L", 6: "LG"}
_RIGHT_SETS = {12: "R", 8: "R", 6: "LG"}
_NEGATIVE = {"L": "R", "R": "L", "G": "Q", "Q": "G"}
_LEAST_LOG = -8.0

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class BarsRead:
    """A verified number, and from where to where in the strips (shares of the box's width) its bars stand."""

    kind: str
    text: str
    span: tuple[float, float]
    turned: bool
    sure: tuple[float, float]
    """Least and mean probability of its digits."""
    alone: bool
    """Whether it rests on one strip."""


def is_believed(bars: BarsRead) -> bool:
    """Whether a number's digits are sure enough to return it."""
    least, mean = _SURE[ean.DRAWN[bars.kind]][bars.alone]
    return bars.sure[0] >= least and bars.sure[1] >= mean


@dataclass(frozen=True)
class Look:
    """One look at a box: the number, None where nothing verifies; where the bars seem to stand, (4, 2) in shares of the
    box, for another look; how well digits fit (mean log probability); whether another look has any prospect."""

    bars: BarsRead | None
    outline: Points
    fits: float

    @property
    def hopeful(self) -> bool:
        return self.fits > _HOPEFUL_FITS


@dataclass(frozen=True)
class _Fit:
    """Digits laid over strips that were brought upright: ``scores`` (strips, 41, `FRAMES`)."""

    scores: Scores
    score: float
    count: int
    turned: bool
    frames: NDArray[np.int64]  # (strips, count)
    places: NDArray[np.float64]  # (strips, 4): start, end, bend, curl

    @property
    def edges(self) -> NDArray[np.float64]:
        """Start and end of the bars (strips, 2)."""
        return self.places[:, :2]


def read_bars(logits: Scores, look: int = 0, believe: Callable[[BarsRead], bool] = is_believed) -> Look:
    """What the strips (n, 41, `FRAMES`) of one box show, the ``look``-th time that it is looked at."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    curled = look > 0  # the first look tries what most codes are: flat
    ways = {(turned, False): _brought_upright(scores, turned, negative=False) for turned in (False, True)}
    best = _best(ways, 12, curled)
    if best.score < _LONG_FITS and look > 0:
        ways |= {(turned, True): _brought_upright(scores, turned, negative=True) for turned in (False, True)}
        best = _best(ways, 12, curled)
    if best.score < _LONG_FITS:  # else the inner digits of twelve would pass for fewer
        for count in (8, 6):
            short = _best(ways, count, curled)
            if short.score > best.score and _is_quiet_around(short):
                best = short
    best = _refined(best)
    bars = next((number for number in _numbers(best) if believe(number)), None)
    return Look(bars, _outline(best, look), best.score)


def _brought_upright(scores: Scores, turned: bool, *, negative: bool) -> Scores:
    """The strips as if they had been upright and dark on light."""
    if negative:
        order = [10 * ean.SETS.index(_NEGATIVE[name]) + digit for name in ean.SETS for digit in range(10)]
        scores = scores[:, [*order, 40]]
    if turned:
        symbols = np.stack([ean.upside_down(strip[:40]) for strip in scores])
        scores = np.concatenate([symbols, scores[:, 40:, ::-1]], axis=1)
    return scores


def _best(ways: dict[tuple[bool, bool], Scores], count: int, curled: bool) -> _Fit:
    fits = [_fit(scores, count, turned, curled) for (turned, _), scores in ways.items()]
    if count == 6:  # of L and G alone, it looks the same upside down and light on dark: only the number tells
        fits = [replace(fit, score=_spelled_score(fit)) if fit.score > _LONG_FITS else fit for fit in fits]
    return max(fits, key=lambda fit: fit.score)


def _spelled_score(fit: _Fit) -> float:
    """Mean log probability of the digits of the likeliest number."""
    return ean.spell(_merged(_digits_of(fit)))[2] / fit.count


def _digits_of(fit: _Fit) -> Scores:
    """Log probabilities (strips, 41, count) at the digits' places."""
    return np.stack([fit.scores[strip][:, frames] for strip, frames in enumerate(fit.frames)])


@lru_cache(maxsize=6)
def _placements(count: int, curled: bool) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Frames of the digits (n, count) of every placement that is tried, and the placements (n, 4): start, end, bend,
    curl."""
    nominal = STRIP_MARGIN / (1 + 2 * STRIP_MARGIN) * FRAMES
    left = np.arange(1.0, 2.1 * nominal, _STEP)
    places = _product(left, FRAMES - left, _BENDS, _CURLS if curled else (0.0,))
    return _frames(places, count), places


def _product(*axes: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def _frames(places: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The frames of ``count`` digits (n, count) in each of ``places`` (n, 4)."""
    start, end, bend, curl = (places[:, column, None] for column in range(4))
    flat = ean.digit_centres(count)[None]
    share = np.where(curl > 0, 0.5 + np.sin(curl * (2 * flat - 1)) / (2 * np.sin(np.maximum(curl, 0.1))), flat)
    frames = start + (end - start) * share + bend * 4 * flat * (1 - flat)
    return np.clip(np.floor(frames), 0, FRAMES - 1).astype(np.int64)


def _fit(scores: Scores, count: int, turned: bool, curled: bool) -> _Fit:
    frames, places = _placements(count, curled)
    total = _totals(_halves(scores, count), frames)
    best = total.argmax(axis=1)
    score = float(total.max(axis=1).mean()) / count
    return _Fit(scores, score, count, turned, frames[best], places[best])


def _refined(fit: _Fit) -> _Fit:
    """The fit with each strip's placement searched once more, finely, around where it was found."""
    halves = _halves(fit.scores, fit.count)
    frames, places = [], []
    for strip, place in enumerate(fit.places):
        near = place + _nearby()
        at = _frames(near, fit.count)
        total = _totals([half[strip : strip + 1] for half in halves], at)[0]
        best = np.flatnonzero(total >= total.max() - 1e-3)
        middle = best[np.abs(near[best] - near[best].mean(axis=0)).sum(axis=1).argmin()]  # of a plateau, its middle
        frames.append(at[middle])
        places.append(near[middle])
    return replace(fit, frames=np.stack(frames), places=np.stack(places))


@lru_cache(maxsize=1)
def _nearby() -> NDArray[np.float64]:
    shifts = np.linspace(-_STEP, _STEP, 7)
    return _product(shifts, shifts, (-1.2, 0.0, 1.2), (0.0,))


def _halves(scores: Scores, count: int) -> list[Scores]:
    """The best log probability of any symbol that may stand left, and right: twice (strips, `FRAMES`)."""
    halves = []
    for sets in (_LEFT_SETS[count], _RIGHT_SETS[count]):
        classes = [10 * ean.SETS.index(name) + digit for name in sets for digit in range(10)]
        halves.append(scores[:, classes].max(axis=1).clip(_LEAST_LOG))
    return halves


def _totals(halves: list[Scores], frames: NDArray[np.int64]) -> NDArray[np.float32]:
    """Sum over the digits at ``frames`` (n, count): (strips, n)."""
    half = frames.shape[1] // 2
    parts = (halves[0][:, frames[:, :half]].sum(axis=2), halves[1][:, frames[:, half:]].sum(axis=2))
    return np.asarray(parts[0] + parts[1])


def _is_quiet_around(fit: _Fit) -> bool:
    """Whether no symbols stand where a short code has its quiet zones."""
    somewhere = 1 - np.exp(fit.scores[:, 40])
    width = {8: ean.MODULES["EAN8"], 6: ean.MODULES["UPCE"]}[fit.count]
    for strip, (start, end) in enumerate(fit.edges):
        reach = 7 / width * (end - start)
        for low, high in ((start - reach, start), (end, end + reach)):
            beside = somewhere[strip, max(0, int(low)) : max(0, int(high))]
            if beside.size and beside.max() > _NOISE_BESIDE:
                return False
    return True


def _outline(fit: _Fit, look: int) -> Points:
    """The bars' corners: straight edges through the strips' edges, or a larger box where hardly anything fits."""
    if fit.score < _HARDLY_FITS:
        return rectangle(1.3, 1.0, -0.15, 0.0)
    places = np.array(STRIP_PLACES[look % len(STRIP_PLACES)])
    edges = FRAMES - fit.edges[:, ::-1] if fit.turned else fit.edges
    (left_slope, right_slope), (left, right) = np.polyfit(places, _shares(edges), 1)
    return np.array([[left, 0], [right, 0], [right + right_slope, 1], [left + left_slope, 1]])


def _numbers(fit: _Fit) -> Iterator[BarsRead]:
    """The likeliest number of all strips together, then of each alone."""
    digits = _digits_of(fit)
    yield _spelled(_merged(digits), fit, slice(None))
    for strip in range(len(digits)):
        yield _spelled(digits[strip, :40], fit, slice(strip, strip + 1))


def _merged(digits: Scores) -> Scores:
    """One strip of many (strips, 41, count): where a strip shows no symbol, under glare say, the others count."""
    none = digits[:, 40:]
    shown = np.clip(1 - np.exp(none), 1e-4, 1)
    given_shown = np.maximum(digits[:, :40] - np.log(shown), _LEAST_LOG)
    merged = (shown * given_shown).sum(axis=0) / shown.sum(axis=0) + np.log(shown.max(axis=0))
    return np.asarray(merged, dtype=np.float32)


def _spelled(drawn: Scores, fit: _Fit, strips: slice) -> BarsRead:
    """The likeliest number for digits (40, count) of log probabilities, and where ``strips`` show it."""
    kind, text, _ = ean.spell(drawn)
    classes = [10 * ean.SETS.index(name) + digit for name, digit in ean.symbols(kind, text)]
    probability = np.exp(drawn[classes, np.arange(fit.count)])
    edges = fit.edges[strips].mean(axis=0)
    left, right = _shares(FRAMES - edges[::-1] if fit.turned else edges)
    sure = float(probability.min()), float(probability.mean())
    return BarsRead(kind, text, (float(left), float(right)), fit.turned, sure, strips != slice(None))


def _shares(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frames to shares of the box's width."""
    return np.asarray(edges / FRAMES * (1 + 2 * STRIP_MARGIN) - STRIP_MARGIN)
