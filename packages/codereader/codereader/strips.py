"""From the strip reader's frames to the digits of an EAN-13, EAN-8, UPC-A or UPC-E.

The reader gives the symbol centred at each frame. The start and end of the code are searched for: symbols are evenly
spaced except for perspective (a bend) and curled paper (narrower towards the ends). An upside-down strip shows other
symbols, by a fixed mapping that is inverted first. Light bars on dark are inverted before the reader sees them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from codereader import ean, placements
from codereader.crops import STRIP_MARGIN, STRIP_PLACES, STRIP_WIDTH, Crop
from codereader.evidence import digit_support, lightness_beside
from codereader.geometry import Points, rectangle
from codereader.placements import FRAMES

# Least digit probability at which a number read from all strips is accepted without checking the greys.
_CLEAR = 0.98
# Least and mean digit probability at which a number is worth that check, by the number of digits: other codes, and
# parts of longer ones, also show eight or six digits that the greys support.
_PLAUSIBLE = {12: (0.01, 0.5), 8: (0.05, 0.8), 6: (0.1, 0.8)}
_LEAST_EVIDENCE, _LEAST_ALONE = {12: -0.2, 8: -0.1, 6: -0.1}, -0.1
"""The least `BarsRead.evidence` of an accepted number, by the number of digits, and for a number from one strip: above
what any wrong number reached (benchmarks/certainty.py: -0.89 with twelve digits; else -0.39, with one strip -0.14).
With six digits the parity pattern is all there is to check, with eight not even that."""
# Weight of the log probability relative to the greys.
_DOUBT = 0.2
_LEAST_APART = 0.25
# Mean log probability per digit at which twelve digits are taken to be there.
_LONG_FITS = -1.0
# The same, at which a box that was looked at before is taken to hold only one code.
_WHOLE_FITS = -0.6
_HARDLY_FITS = -2.0
_NOISE_BESIDE = 0.5
_LEAST_GAP, _WIDER_GAP = 10, 1.6
"""Least width of a gap that divides a strip, in columns and in widths of the third widest."""
_HOPEFUL_FITS = -1.7
# Mean of the digits' highest probabilities at which one strip's number is worth spelling, far below an accepted one.
_WORTH_SPELLING = 0.5
# Least probability of a code to go on with a box, by look; by the last looks the box should fit well
# (benchmarks/dismissal.py: of 963 codes none is lost; 59 % of the other boxes are dropped at the first look, and 90 %
# of the rest at the third).
_LEAST_LIKELY = (0.03, 0.03, 0.5)
_LEFT_SETS = {12: "LG", 8: "L", 6: "LG"}
_RIGHT_SETS = {12: "R", 8: "R", 6: "LG"}
# Columns at either end of a strip that lie beside the bars.
_BESIDE = 20
_DOUBTFUL_CONTRAST = 0.35
_LEAST_LOG = -8.0
# Mean log probability by which a UPC-E must fit better than in the other direction: its digits can make a valid number
# either way.
_DIRECTION_MARGIN = 2.0
# Modules beside its bars that the strips must show of a number that is not clear: where a strip ends within the bars,
# digits read there may be squeezed in.
_ROOM_BESIDE = 3.0
# Probability of a digit below which a number is ruled out.
_DOUBTFUL = 0.02

Scores = NDArray[np.float32]


@dataclass(frozen=True)
class BarsRead:
    """A verified number, and the span of its bars in the strips (shares of the box's width)."""

    kind: str
    text: str
    span: tuple[float, float]
    turned: bool
    sure: tuple[float, float]
    """Least and mean probability of its digits."""
    alone: bool
    """Whether a single strip supports it."""
    apart: float = 1.0
    """Mean probability that no symbol is centred halfway between its digits."""
    support: float | None = None
    """Support by the greys for the two digits with the least (`evidence.digit_support`); None: not computed, since the
    digits are clear or too unlikely, or the strips rule them out."""

    @property
    def evidence(self) -> float:
        """Evidence for the number, from the greys and from the probability of its least certain digit."""
        if _is_clear(self.sure, self.alone):
            return np.inf
        return -np.inf if self.support is None else float(self.support + _DOUBT * np.log(self.sure[0]))


def _is_clear(sure: tuple[float, float], alone: bool) -> bool:
    """Whether a number is accepted without checking the greys."""
    return not alone and sure[0] >= _CLEAR


def is_accepted(bars: BarsRead) -> bool:
    """Whether the evidence for a number is strong enough to return it."""
    least = _LEAST_EVIDENCE[ean.DRAWN[bars.kind]]
    return bars.apart >= _LEAST_APART and bars.evidence > (max(least, _LEAST_ALONE) if bars.alone else least)


@dataclass(frozen=True)
class Look:
    """One look at a box: the number, None if nothing verifies; the outline of the bars, (4, 2) in shares of the box,
    for the next look; how well digits fit (mean log probability); whether another look is worthwhile."""

    bars: BarsRead | None
    outline: Points
    fits: float
    hopeful: bool


@dataclass(frozen=True)
class _Fit:
    """Digits placed on strips turned upright: ``scores`` (strips, 41, `FRAMES`)."""

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


def dark_on_light(strips: Crop, look: int = 0) -> Crop:
    """The ``strips`` (n, height, width) with dark bars on light, judged by the margins beside the bars; where those are
    inconclusive, every other look assumes the opposite."""
    contrast = float(strips[:, :, np.r_[:_BESIDE, -_BESIDE:0]].mean() - strips[:, :, 3 * _BESIDE : -3 * _BESIDE].mean())
    reversed_guess = abs(contrast) < _DOUBTFUL_CONTRAST and look % 2 == 1
    return -strips if (contrast < 0) != reversed_guess else strips


def read_bars(
    strips: Crop,
    logits: Scores,
    code: NDArray[np.float32],
    look: int = 0,
    accept: Callable[[BarsRead], bool] = is_accepted,
) -> Look:
    """Reads the ``strips`` (n, height, width) of one box in its ``look``-th look; ``logits`` (n, 41, `FRAMES`) of
    symbols and those of a ``code`` (n,) are the reader's."""
    if _likely(code) < _LEAST_LIKELY[min(look, len(_LEAST_LIKELY) - 1)]:
        part = _largest_part(strips) if look == 0 else None
        return Look(None, rectangle(1, 1) if part is None else _across(part), _LEAST_LOG, hopeful=part is not None)
    shifted = logits - logits.max(axis=1, keepdims=True)
    scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    curled = look > 0  # the first look assumes flat paper, as most codes are on
    directions = {turned: _upright(scores, turned) for turned in (False, True)}
    best = _best(directions, 12, curled)
    if best.score < _LONG_FITS:  # else the inner digits of twelve would pass for fewer
        eight = _best(directions, 8, curled)
        if eight.score > best.score and _is_quiet_around(eight):
            best = eight
        six = _best_of_six(directions, curled, strips, best.score)
        if six is not None and _is_quiet_around(six):
            best = six
    bars = None
    if best.score > _HARDLY_FITS:
        best = _refined(best)
        bars = next((number for number in _numbers(best, strips) if accept(number)), None)
    return Look(bars, _outline(best, strips, look), best.score, look == 0 or best.score > _HOPEFUL_FITS)


def _likely(code: NDArray[np.float32]) -> float:
    """Probability that the strips show a code at all, from their logits (n,)."""
    return float(1 / (1 + np.exp(-code.mean().clip(-30, 30))))


def _upright(scores: Scores, turned: bool) -> Scores:
    """The strips' scores, turned upright."""
    if not turned:
        return scores
    symbols = np.stack([ean.upside_down(strip[:40]) for strip in scores])
    return np.concatenate([symbols, scores[:, 40:, ::-1]], axis=1)


Directions = dict[bool, Scores]
"""Upside down or not -> the strips' scores, turned upright."""


def _best(directions: Directions, count: int, curled: bool) -> _Fit:
    fits = [_fit(scores, count, turned, curled) for turned, scores in directions.items()]
    return max(fits, key=lambda fit: fit.score)


def _best_of_six(directions: Directions, curled: bool, strips: Crop, least: float) -> _Fit | None:
    """The UPC-E that fits better than ``least``, far better than any in the other direction, and is light beside its
    guards; None if none does. Inverted and upside down, its digits are those of another number, which is dark there."""
    fits = [_fit(scores, 6, turned, curled) for turned, scores in directions.items()]
    worse, best = sorted(fits, key=lambda fit: fit.score)
    if best.score <= max(least, _LONG_FITS) or best.score - worse.score < _DIRECTION_MARGIN:
        return None
    best = _refined(best)
    _, text, score = ean.spell(_merged(_digits_of(best)))
    score /= best.count
    light = score > least and lightness_beside("UPCE", text, strips, best.places, turned=best.turned) > 0
    return replace(best, score=score) if light else None


def _digits_of(fit: _Fit) -> Scores:
    """Log probabilities (strips, 41, count) at the digits' places."""
    return np.stack([fit.scores[strip][:, frames] for strip, frames in enumerate(fit.frames)])


def _fit(scores: Scores, count: int, turned: bool, curled: bool) -> _Fit:
    frames, places = placements.candidates(count, curled)
    total = _totals(_halves(scores, count), frames)
    best = total.argmax(axis=1)
    score = float(total.max(axis=1).mean()) / count
    return _Fit(scores, score, count, turned, frames[best], places[best])


def _refined(fit: _Fit) -> _Fit:
    """The fit with each strip's placement searched once more, finely, around where it was found."""
    halves = _halves(fit.scores, fit.count)
    frames, places = [], []
    for strip, place in enumerate(fit.places):
        near = placements.refinements(place)
        at = placements.whole_frames(near, ean.digit_centres(fit.count))
        total = _totals([half[strip : strip + 1] for half in halves], at)[0]
        best = np.flatnonzero(total >= total.max() - 1e-3)
        middle = best[np.abs(near[best] - near[best].mean(axis=0)).sum(axis=1).argmin()]  # of a plateau, its middle
        frames.append(at[middle])
        places.append(near[middle])
    return replace(fit, frames=np.stack(frames), places=np.stack(places))


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
    total = np.zeros((len(halves[0]), len(frames)), dtype=np.float32)
    for digit, at in enumerate(frames.T):  # summed digit by digit: numpy is slow over an axis of six
        total += halves[digit >= half].take(at, axis=1)
    return total


def _is_quiet_around(fit: _Fit) -> bool:
    """Whether most strips show no symbols where a short code has its quiet zones, or a UPC-E the end of its last
    guard: half an EAN-13 would pass for one."""
    somewhere = 1 - np.exp(fit.scores[:, 40])
    width, guard = {8: (ean.MODULES["EAN8"], 0), 6: (ean.MODULES["UPCE"], 3)}[fit.count]
    noisy = 0
    for strip, (start, end) in enumerate(fit.edges):
        module = (end - start) / width
        zones = [(start - 7 * module, start), (end - guard * module, end + 7 * module)]
        beside = [somewhere[strip, max(0, int(low)) : max(0, int(high))] for low, high in zones]
        noisy += bool((np.concatenate(beside) > _NOISE_BESIDE).any())
    return noisy < len(fit.edges) / 2


def _outline(fit: _Fit, strips: Crop, look: int) -> Points:
    """The bars' corners: straight edges through the strips' edges; where they fit badly, the largest part of what gaps
    divide; a larger box where hardly anything fits."""
    if fit.score < (_WHOLE_FITS if look else _LONG_FITS) and (part := _largest_part(strips)) is not None:
        return _across(part)
    if fit.score < _HARDLY_FITS:
        return rectangle(1.3, 1.0, -0.15, 0.0)
    places = np.array(STRIP_PLACES[look % len(STRIP_PLACES)])
    edges = FRAMES - fit.edges[:, ::-1] if fit.turned else fit.edges
    (left_slope, right_slope), (left, right) = np.polyfit(places, _shares(edges), 1)
    return np.array([[left, 0], [right, 0], [right + right_slope, 1], [left + left_slope, 1]])


def _across(part: tuple[float, float]) -> Points:
    """The part of a box from ``part[0]`` to ``part[1]`` of its width."""
    return rectangle(part[1] - part[0], 1.0, part[0], 0.0)


def _largest_part(strips: Crop) -> tuple[float, float] | None:
    """The span (shares of the box's width) of the largest of two or three neighbours in the box, say a code and its
    add-on; None if no gap is far wider than the spaces between bars."""
    dark = np.flatnonzero(strips[len(strips) // 2].mean(axis=0) < 0)
    gaps = np.diff(dark)
    if len(gaps) < 3:
        return None
    divides = np.flatnonzero(gaps >= max(_LEAST_GAP, _WIDER_GAP * np.partition(gaps, -3)[-3]))
    if len(divides) == 0:
        return None
    starts, ends = dark[np.r_[0, divides + 1]], dark[np.r_[divides, -1]] + 1
    largest = int((ends - starts).argmax())
    left, right = _shares(np.array([starts[largest], ends[largest]]) * FRAMES / STRIP_WIDTH)
    return float(left), float(right)


def _numbers(fit: _Fit, strips: Crop) -> Iterator[BarsRead]:
    """The likeliest number of all strips together, then of each alone."""
    digits = _digits_of(fit)

    @cache  # most strips spell the same number as all together
    def least_support(kind: str, text: str) -> float | None:
        if lightness_beside(kind, text, strips, fit.places, turned=fit.turned) <= 0:
            return None
        return float(np.sort(digit_support(kind, text, strips, fit.places, turned=fit.turned))[:2].mean())

    yield _spelled(_merged(digits), fit, slice(None), least_support)
    for strip in range(len(digits)):
        if np.exp(digits[strip, :40].max(axis=0)).mean() > _WORTH_SPELLING:
            others = np.delete(digits, strip, axis=0)
            yield _spelled(digits[strip, :40], fit, slice(strip, strip + 1), least_support, others)


def _merged(digits: Scores) -> Scores:
    """One strip of many (strips, 41, count): where a strip shows no symbol, under glare say, the others count."""
    no_symbol = digits[:, 40:]
    visible = np.clip(1 - np.exp(no_symbol), 1e-4, 1)
    given_visible = np.maximum(digits[:, :40] - np.log(visible), _LEAST_LOG)
    merged = (visible * given_visible).sum(axis=0) / visible.sum(axis=0) + np.log(visible.max(axis=0))
    return np.asarray(merged, dtype=np.float32)


def _spelled(
    log_probs: Scores,
    fit: _Fit,
    shown_by: slice,
    least_support: Callable[[str, str], float | None],
    others: Scores | None = None,
) -> BarsRead:
    """The likeliest number for digits (40, count) of log probabilities, and where it stands in the strips ``shown_by``;
    ``others``: those (strips, 41, count) of the remaining strips, which can rule it out."""
    kind, text, _ = ean.spell(log_probs)
    classes = ean.classes(kind, text)
    probability = np.exp(log_probs[classes, np.arange(fit.count)])
    edges = fit.edges[shown_by].mean(axis=0)
    left, right = _shares(FRAMES - edges[::-1] if fit.turned else edges)
    sure = float(probability.min()), float(probability.mean())
    centres = ean.digit_centres(fit.count)
    between = placements.whole_frames(fit.places[shown_by], (centres[1:] + centres[:-1]) / 2)
    apart = float(np.exp(np.take_along_axis(fit.scores[shown_by, 40], between, axis=1)).mean())
    alone = others is not None
    possible = others is None or np.exp(others[:, classes, np.arange(fit.count)]).max(axis=0).min() >= _DOUBTFUL
    room = _ROOM_BESIDE * (edges[1] - edges[0]) / ean.MODULES[kind]
    in_view = bool(edges[0] >= room and edges[1] <= FRAMES - room)
    likely = possible and in_view and apart >= _LEAST_APART and all(np.array(sure) > _PLAUSIBLE[fit.count])
    least = least_support(kind, text) if likely and not _is_clear(sure, alone) else None
    return BarsRead(kind, text, (float(left), float(right)), fit.turned, sure, alone, apart, least)


def _shares(edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Frames to shares of the box's width."""
    return np.asarray(edges / FRAMES * (1 + 2 * STRIP_MARGIN) - STRIP_MARGIN)
