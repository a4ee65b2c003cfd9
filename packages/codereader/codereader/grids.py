"""From a box around a QR code to its sheet, its module matrix and its text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codereader import crops, fixed_patterns, qr
from codereader.geometry import Points, is_convex
from codereader.sheets import Sheet, lattice

# Points that move by less, as a share of the side, have converged.
_SETTLED = 0.015
# Least probability of a QR code to go on with a box (benchmarks/dismissal.py: of 232 codes none is lost, and 52 % of
# the other boxes are dropped).
_LEAST_LIKELY = 0.25
# Most passes of the finder over a box, each starting from the sheet of the pass before.
_PASSES = 3
# Angles that a box is turned by, in degrees, tried in order until its code is read.
_TURNS = (0.0, 22.5, -22.5, 45.0)
# Versions whose logit is this far below the best are not tried.
_WORTH_A_TRY = 4.0
_CANDIDATES = 4
# Share of fixed modules that must be right before the data are decoded.
_LEAST_AGREEMENT = 0.85
# From this version on, the sheet and version are refitted before the first read: unrefitted, only 38 of 226 codes can
# be read, and large codes cost most.
_SELDOM_RIGHT = 10
# The same, before other versions are tried if not all finder patterns were found.
_WORTH_A_VERSION = 0.62
# The same, before the box is turned: below that there is no code, or only a part of one.
_WORTH_A_TURN = 0.7
_ALIGNMENTS = 3
# Agreement at which a sheet is aligned, at most `_ALIGNMENTS` times.
_WORTH_ALIGNING = 0.7
# Agreement at which a sheet can't be far off.
_SETTLED_AGREEMENT = 0.97
# Radius around a point of the sheet within which fixed modules locate it, as a share of the side.
_AROUND = 0.3

FindGrid = Callable[[crops.Crop], tuple[NDArray[np.float32], NDArray[np.float32]]]
"""A crop to the offsets of the sheet's points (18,) and the logits of versions and of no code (n + 1,)."""
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
    refitted: bool = False
    """Whether the sheet was refitted to its three finder patterns."""


def find_grid(photo: Image.Image, box: Points, net: FindGrid) -> tuple[Sheet, list[int]] | None:
    """The sheet and its likely versions, likeliest first; None if the net sees no code or the outline is not convex."""
    sheet = Sheet(box, np.zeros((9, 2)))
    logits = np.zeros(qr.MAX_VERSION + 1, dtype=np.float32)
    corners = box
    for _ in range(_PASSES):
        offsets, logits = net(crops.grid(photo, corners))
        if _likely(logits) < _LEAST_LIKELY:
            return None
        sheet = Sheet(corners, offsets.reshape(9, 2).astype(np.float64))
        moved = sheet.outline
        if not is_convex(moved):
            return None
        if float(np.abs(sheet.offsets[[0, 2, 6, 8]]).max()) < _SETTLED:
            break
        corners = moved
    versions = logits[: qr.MAX_VERSION]
    likely = np.argsort(-versions)[:_CANDIDATES]
    return sheet, [int(index) + 1 for index in likely if versions[index] > versions.max() - _WORTH_A_TRY]


def _likely(logits: NDArray[np.float32]) -> float:
    """Probability that there is a code at all, from the ``logits`` of versions and of none."""
    shares = np.exp(logits - logits.max())
    return float(1 - shares[-1] / shares.sum())


def read_grid(photo: Image.Image, box: Points, finder: FindGrid, reader: ReadModules) -> GridRead | None:
    """The QR code in ``box``, with or without a text; None if there is no grid.

    A box gives a QR code's place and size more reliably than its angle. Other angles are therefore tried if nothing
    verifies although the box seems to hold a code, and its finder patterns were not all found.
    """
    best: GridRead | None = None
    for degrees in _TURNS:
        read = _read_from(photo, _turned(box, np.deg2rad(degrees)), finder, reader)
        if read is not None and read.text is not None:
            return read
        if read is not None and (best is None or read.agreement > best.agreement):
            best = read
        if best is None or best.refitted or best.agreement < _WORTH_A_TURN:
            break
    return best


def _turned(box: Points, angle: float) -> Points:
    centre = box.mean(axis=0)
    spin = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return np.asarray(centre + (box - centre) @ spin.T)


def _read_from(photo: Image.Image, box: Points, finder: FindGrid, reader: ReadModules) -> GridRead | None:
    grid = find_grid(photo, box, finder)
    if grid is None:
        return None
    sheet, (likeliest, *others) = grid
    reads: list[GridRead] = []
    for refits in (False, True) if likeliest < _SELDOM_RIGHT else (True, False):
        at = fixed_patterns.refit(photo, sheet, likeliest) if refits else (sheet, likeliest)
        if at is not None:
            reads.append(replace(_read_version(photo, *at, reader), refitted=refits))
            if reads[-1].text is not None or reads[-1].agreement >= _SETTLED_AGREEMENT:
                return reads[-1]
    best = max(reads, key=lambda read: (read.refitted, read.agreement))
    if best.refitted or best.agreement < _WORTH_A_VERSION:
        return best
    for version in others:
        candidate = _read_version(photo, sheet, version, reader)
        if candidate.text is not None:
            return candidate
        best = max(best, candidate, key=lambda read: read.agreement)
    return best


def _read_version(photo: Image.Image, sheet: Sheet, version: int, reader: ReadModules) -> GridRead:
    """Reads the code as ``version``; if that almost fits, again with the sheet aligned."""
    size = qr.size_of(version)
    for attempt in range(_ALIGNMENTS + 1):
        crop = sheet.module_crop(photo, size)
        matrix = (reader(crop) > 0).astype(np.uint8)
        upright, turn, agreement = qr.orient(matrix, version)
        text = qr.read(_with_fixed(upright, version)) if agreement >= _LEAST_AGREEMENT else None
        if text is not None or agreement < _WORTH_ALIGNING or attempt == _ALIGNMENTS:
            break
        expected = np.where(np.rot90(upright, -turn) == matrix, 1, -1) * np.rot90(_expected(version), -turn)
        sheet = _aligned(sheet, crop, expected)
    return GridRead(np.roll(sheet.outline, -turn, axis=0), version, upright, agreement, text)


def _expected(version: int) -> NDArray[np.int8]:
    """1 where a fixed module is dark, -1 where one is light, 0 where data stands."""
    fixed = qr.fixed_patterns(version)
    return np.where(fixed < 0, 0, 2 * fixed - 1)


def _aligned(sheet: Sheet, crop: crops.Crop, expected: NDArray[np.int8]) -> Sheet:
    """The sheet with each of its points moved, by up to half a module, to where the fixed modules around it agree best
    with its module ``crop``: the peak of a parabola through the crop as it is and half a module to either side."""
    size, shift = len(expected), crops.MODULE_PX // 2
    at = (np.arange(size) + 0.5) / size
    rows, columns = np.nonzero(expected)
    from_points = np.stack([at[columns], at[rows]], axis=1)[None] - lattice()[:, None]
    weights = np.exp(-((from_points / _AROUND) ** 2).sum(axis=2))
    weights /= weights.sum(axis=1, keepdims=True)
    first = (np.arange(size) + crops.MODULE_MARGIN) * crops.MODULE_PX

    def agreement(right: int, down: int) -> NDArray[np.float64]:
        """Agreement around each point, with the sheet moved by so many pixels of the crop."""
        inner = np.arange(1, crops.MODULE_PX - 1)
        middles = crop[(first[:, None] + inner + down).ravel()[:, None], (first[:, None] + inner + right).ravel()]
        greys = middles.reshape(size, len(inner), size, len(inner)).mean(axis=(1, 3))
        return np.asarray(weights @ (-greys * expected)[rows, columns])

    centre = agreement(0, 0)
    moved = np.zeros((9, 2))
    for axis, (right, down) in enumerate(((shift, 0), (0, shift))):
        before, after = agreement(-right, -down), agreement(right, down)
        curvature = np.maximum(2 * centre - before - after, np.abs(after - before) / 2 + 1e-6)
        moved[:, axis] = (after - before) / (2 * curvature) * shift / crops.MODULE_PX / size
    return replace(sheet, offsets=sheet.offsets + moved)


def _with_fixed(matrix: qr.Matrix, version: int) -> qr.Matrix:
    """The matrix with its fixed modules as the standard draws them; they carry no data."""
    fixed = qr.fixed_patterns(version)
    return np.where(fixed >= 0, fixed, matrix).astype(np.uint8)
