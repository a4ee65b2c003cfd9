"""Where the digits of a number may stand along a strip.

A placement is (start, end, bend, curl): the frames where the bars begin and end, how many frames the middle is off
(perspective), and the angle in radians by which both ends of curled paper turn away.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from codereader import ean
from codereader.crops import STRIP_MARGIN, STRIP_WIDTH

FRAMES = STRIP_WIDTH // 2
# Frames between the edges that are tried: a symbol is recognised within 2 frames of its centre.
_STEP = 3.0
_BENDS = (-2.5, 0.0, 2.5)
_CURLS = (0.0, 0.7, 1.1)

Places = NDArray[np.float64]


@lru_cache(maxsize=6)
def candidates(count: int, curled: bool) -> tuple[NDArray[np.int64], Places]:
    """The frames of ``count`` digits in every placement to try (n, count), and these placements (n, 4)."""
    nominal = STRIP_MARGIN / (1 + 2 * STRIP_MARGIN) * FRAMES
    left = np.arange(1.0, 2.1 * nominal, _STEP)
    places = _product(left, FRAMES - left, _BENDS, _CURLS if curled else (0.0,))
    return whole_frames(places, ean.digit_centres(count)), places


def refinements(place: NDArray[np.float64]) -> Places:
    """Finely spaced placements (n, 4) around ``place`` (4,)."""
    return place + _shifts()


@lru_cache(maxsize=1)
def _shifts() -> Places:
    edges = np.linspace(-_STEP, _STEP, 7)
    return _product(edges, edges, (-1.2, 0.0, 1.2), (0.0,))


def _product(*axes: Sequence[float] | NDArray[np.float64]) -> Places:
    return np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, len(axes))


def frames_at(places: Places, shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """The frames (n, m) at ``shares`` (m,) of the bars' width, 0 to 1 and a little beyond, in ``places`` (n, 4)."""
    start, end, bend, curl = (places[:, column, None] for column in range(4))
    flat = projected = shares[None]
    if curl.any():
        projected = np.where(curl > 0, 0.5 + np.sin(curl * (2 * flat - 1)) / (2 * np.sin(np.maximum(curl, 0.1))), flat)
    return np.asarray(start + (end - start) * projected + bend * np.maximum(4 * flat * (1 - flat), 0))


def whole_frames(places: Places, shares: NDArray[np.float64]) -> NDArray[np.int64]:
    """`frames_at` as indices of frames that are there."""
    return np.clip(np.floor(frames_at(places, shares)), 0, FRAMES - 1).astype(np.int64)
