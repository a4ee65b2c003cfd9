"""From a box around a QR code to its corners, its module matrix and its text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlscale.application import crops, qr
from mlscale.application.geometry import Points, homography, is_convex, project, rectangle

_PASSES = 3
_SETTLED = 0.004
"""Corners that move by less, as a share of the side, have settled."""
_TURNS = (0.0, 22.5, -22.5, 45.0)
"""Degrees that a box is turned by, one after the other, until its code is read."""
_WORTH_A_TRY = 4.0
"""Versions whose logit is this far below the best are not tried."""
_CANDIDATES = 3
_LEAST_AGREEMENT = 0.85
"""Share of a code's fixed modules that the reader must have got right before its data are tried."""

FindGrid = Callable[[crops.Crop], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""A crop to corner offsets (8,) and version logits (n,)."""
ReadModules = Callable[[crops.Crop], NDArray[np.float32]]
"""A crop to the modules' logits (n, n), above 0 = dark."""


@dataclass(frozen=True)
class GridRead:
    """A QR code as far as it was read: ``text`` is None where it did not verify; corners from its own top left."""

    corners: Points
    version: int
    matrix: qr.Matrix
    agreement: float
    text: str | None


def find_grid(photo: Image.Image, box: Points, net: FindGrid) -> tuple[Points, list[int]] | None:
    """Corners (4, 2) and likely versions, likeliest first; None where the net finds no sensible corners."""
    corners = box
    logits = np.zeros(qr.MAX_VERSION, dtype=np.float32)
    for _ in range(_PASSES):
        offsets, logits = net(crops.grid(photo, corners))
        unit = rectangle(1, 1)
        moved = project(homography(unit, corners), unit + offsets.reshape(4, 2).astype(np.float64))
        if not is_convex(moved):
            return None
        settled = float(np.abs(offsets).max()) < _SETTLED
        corners = moved
        if settled:
            break
    likely = np.argsort(-logits)[:_CANDIDATES]
    return corners, [int(index) + 1 for index in likely if logits[index] > logits.max() - _WORTH_A_TRY]


def read_grid(photo: Image.Image, box: Points, finder: FindGrid, reader: ReadModules) -> GridRead | None:
    """The QR code in ``box``, with or without a text; None where there is no grid.

    A box tells a QR code's place and size better than its angle, so where nothing verifies other angles are tried.
    """
    best: GridRead | None = None
    for degrees in _TURNS:
        found = _read_from(photo, _turned(box, np.deg2rad(degrees)), finder, reader)
        if found is not None and found.text is not None:
            return found
        if found is not None and (best is None or found.agreement > best.agreement):
            best = found
    return best


def _turned(box: Points, angle: float) -> Points:
    centre = box.mean(axis=0)
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(centre + (box - centre) @ spin.T)


def _read_from(photo: Image.Image, box: Points, finder: FindGrid, reader: ReadModules) -> GridRead | None:
    grid = find_grid(photo, box, finder)
    if grid is None:
        return None
    corners, versions = grid
    best: GridRead | None = None
    for version in versions:
        matrix = (reader(crops.module_crop(photo, corners, qr.size_of(version))) > 0).astype(np.uint8)
        upright, turn, agreement = qr.orient(matrix, version)
        text = qr.read(_with_fixed(upright, version)) if agreement >= _LEAST_AGREEMENT else None
        found = GridRead(np.roll(corners, -turn, axis=0), version, upright, agreement, text)
        if text is not None:
            return found
        if best is None or agreement > best.agreement:
            best = found
    return best


def _with_fixed(matrix: qr.Matrix, version: int) -> qr.Matrix:
    """The matrix with its fixed modules as the standard draws them; they carry no data."""
    fixed = qr.fixed_patterns(version)
    return np.where(fixed >= 0, fixed, matrix).astype(np.uint8)
