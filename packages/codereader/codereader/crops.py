"""From photos to the networks' inputs; shared by training and reading, so that both see the same crops."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codereader.geometry import Points, homography, project, rectangle, side_lengths, warp
from codereader.surfaces import sample

LOCALISER_SIDE, CLOSER_SIDE, FARTHER_SIDE = 480, 800, 288
"""Longer sides, in pixels, that a photo is scaled to for the localiser."""
_LARGE_PX, _SMALL_PX = 600, 320
PART_PX, PART_ROOM_PX = 448, 128
"""For a look at part of a photo, in pixels of the look: the side of the part, constant since torch's preparation for
a new size takes as long as the look; and the least margin around each place, since a tenth of a code may be all that
has shown."""
# Pixels of the localiser's input per cell of its maps.
STRIDE = 4
STRIP_WIDTH, STRIP_HEIGHT = 384, 16
# Margin of a strip beyond either end, as a share of the box's width.
STRIP_MARGIN = 0.12
# Heights of the strips' centre lines between the top (0) and bottom (1) of the bars, look by look.
STRIP_PLACES = ((0.3, 0.5, 0.7), (0.2, 0.5, 0.8), (0.38, 0.5, 0.62))
STRIP_THICKNESS = 0.16
GRID_SIDE = 224
GRID_MARGIN = 0.15
MODULE_PX = 4
MODULE_MARGIN = 2

Crop = NDArray[np.float32]


def normalised(image: Image.Image | NDArray[np.float32]) -> Crop:
    """Mean 0, deviation 1 (a flat crop stays 0), float32 (height, width)."""
    grey = np.asarray(image, dtype=np.float32)
    grey = grey - grey.mean()
    return np.asarray(grey / max(float(grey.std()), 2.0), dtype=np.float32)


def rectify(photo: Image.Image, quad: Points, width: int, height: int) -> Image.Image:
    """The quadrilateral ``quad`` (4, 2) of ``photo``, rectified. If the photo is finer than the view, it is averaged
    first, so that fine bars don't alias."""
    photo, quad = _coarser(photo, quad, (width, height))
    return warp(photo, homography(rectangle(width, height), quad), width, height)


def _coarser(photo: Image.Image, points: Points, size: tuple[int, int]) -> tuple[Image.Image, Points]:
    """The part of ``photo`` around ``points``, whose first four are corners, averaged down towards a view of
    ``size``; and the points in it."""
    across, down = side_lengths(points[:4])
    factor = int(max(1.0, min(across / size[0], down / size[1])))
    if factor == 1:
        return photo, points
    low = np.maximum(np.floor(points.min(axis=0)).astype(int) - factor, 0)
    high = np.minimum(np.ceil(points.max(axis=0)).astype(int) + factor, photo.size)
    if (high - low < 1).any():
        return Image.new("L", (1, 1), 128), points
    part = photo.crop((int(low[0]), int(low[1]), int(high[0]), int(high[1]))).reduce(factor)
    return part, (points - low) / factor


def looks(width: int, height: int) -> tuple[int, int]:
    """The sizes (longer sides) for the first look, and for a second one if the first left something unread: closer for
    a large photo, farther for others. A small photo starts with the farther look, since enlarging it only blurs it."""
    longer = max(width, height)
    if longer > _LARGE_PX:
        return LOCALISER_SIDE, CLOSER_SIDE
    return (LOCALISER_SIDE, FARTHER_SIDE) if longer > _SMALL_PX else (FARTHER_SIDE, LOCALISER_SIDE)


def part_around(places: Sequence[Points], size: tuple[int, int], side: int) -> tuple[int, int, int, int]:
    """The part of a photo of ``size`` that a closer look covers (``side`` for the whole photo): left, top, right,
    bottom of a square around all ``places`` (2, 2), lowest and highest x and y, with a margin; the whole photo if the
    square is too small for them."""
    px = max(size) / side
    low = np.min([place[0] for place in places], axis=0) - PART_ROOM_PX * px
    high = np.max([place[1] for place in places], axis=0) + PART_ROOM_PX * px
    part_size = np.minimum(round(PART_PX * px), size)
    if (np.minimum(high, size) - np.maximum(low, 0) > part_size).any():
        return 0, 0, *size
    left, top = np.clip(np.round((low + high - part_size) / 2), 0, size - part_size).astype(int).tolist()
    return left, top, left + int(part_size[0]), top + int(part_size[1])


def localiser_size(width: int, height: int, side: int) -> tuple[int, int]:
    """The size a photo is scaled to for the localiser: longer side ``side``, both multiples of 16."""
    scale = side / max(width, height)
    return max(32, round(width * scale / 16) * 16), max(32, round(height * scale / 16) * 16)


def localiser_input(photo: Image.Image, side: int) -> Crop:
    """The whole photo as the localiser sees it, its longer side ``side`` pixels."""
    size = localiser_size(*photo.size, side)
    return normalised(photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=1.0))


def strip_quads(box: Points, look: int = 0) -> list[Points]:
    """The quadrilaterals of the strips of a box around bars, from left to right along them."""
    unit_to_box = homography(rectangle(1, 1), box)
    return [
        project(
            unit_to_box,
            rectangle(1 + 2 * STRIP_MARGIN, STRIP_THICKNESS, -STRIP_MARGIN, place - STRIP_THICKNESS / 2),
        )
        for place in STRIP_PLACES[look % len(STRIP_PLACES)]
    ]


def strip(photo: Image.Image, quad: Points) -> Crop:
    """One strip as the reader sees it, (`STRIP_HEIGHT`, `STRIP_WIDTH`)."""
    return normalised(rectify(photo, quad, STRIP_WIDTH, STRIP_HEIGHT))


def grid_quad(corners: Points) -> Points:
    """The grid finder's view for the corners assumed so far."""
    side = 1 + 2 * GRID_MARGIN
    return project(homography(rectangle(1, 1), corners), rectangle(side, side, -GRID_MARGIN, -GRID_MARGIN))


def grid(photo: Image.Image, corners: Points) -> Crop:
    """A QR code as the grid finder sees it, (`GRID_SIDE`, `GRID_SIDE`)."""
    return normalised(rectify(photo, grid_quad(corners), GRID_SIDE, GRID_SIDE))


def module_crop(photo: Image.Image, corners: Points, size: int) -> Crop:
    """A flat QR code of ``size`` modules a side as the module reader sees it."""
    unit = rectangle(size, size)
    with_margin = rectangle(size + 2 * MODULE_MARGIN, size + 2 * MODULE_MARGIN, -MODULE_MARGIN, -MODULE_MARGIN)
    side = (size + 2 * MODULE_MARGIN) * MODULE_PX
    return normalised(rectify(photo, project(homography(unit, corners), with_margin), side, side))


def module_places(size: int, px: int = MODULE_PX, margin: int = MODULE_MARGIN) -> NDArray[np.float64]:
    """Where along a side of a code (shares of it) the pixels of its module crop lie, or of a view of ``px`` pixels a
    module with ``margin`` modules around it."""
    return np.asarray(((np.arange((size + 2 * margin) * px) + 0.5) / px - margin) / size)


def bent_module_crop(photo: Image.Image, points: Points, size: int) -> Crop:
    """The module crop of a code that isn't flat: ``points`` of the photo are where its `module_places` cross."""
    side = (size + 2 * MODULE_MARGIN) * MODULE_PX
    ends = points[[0, side - 1, side * side - 1, side * (side - 1)]]
    part, moved = _coarser(photo, np.concatenate([ends, points]), (side, side))
    grey, inside = sample(np.asarray(part, dtype=np.float32), moved[4:])
    return normalised(np.where(inside, grey, np.float32(128)).reshape(side, side))


def oriented_box(points: Points, weights: NDArray[np.float64], angle: float) -> Points:
    """The rectangle at ``angle`` (radians) with the same second moments as the weighted ``points`` (n, 2)."""
    total = weights.sum()
    centre = (points * weights[:, None]).sum(axis=0) / total
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    half = [np.sqrt(3 * (weights * ((points - centre) @ axis) ** 2).sum() / total) for axis in (along, across)]
    signs = rectangle(2, 2, -1, -1)
    return np.asarray(centre + signs[:, :1] * half[0] * along + signs[:, 1:] * half[1] * across)
