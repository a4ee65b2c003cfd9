"""From photos to the networks' inputs: what training and reading share, so that both see the same crops."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mlscale.application.geometry import Points, homography, project, rectangle, side_lengths, warp

LOCALISER_SIDE = 480
STRIDE = 4
"""Pixels of the localiser's input per cell of its maps."""
STRIP_WIDTH, STRIP_HEIGHT = 384, 16
STRIP_MARGIN = 0.12
"""Share of the box's width that a strip shows beyond either end."""
STRIP_PLACES = (0.3, 0.5, 0.7)
"""Where the strips' centre lines lie between the top and the bottom of the bars."""
STRIP_THICKNESS = 0.16
GRID_SIDE = 128
GRID_MARGIN = 0.15
MODULE_PX = 4
MODULE_MARGIN = 2

Crop = NDArray[np.float32]


def normalised(image: Image.Image) -> Crop:
    """Mean 0, deviation 1 (a flat crop stays 0), float32 (height, width)."""
    grey = np.asarray(image, dtype=np.float32)
    grey = grey - grey.mean()
    return np.asarray(grey / max(float(grey.std()), 2.0), dtype=np.float32)


def rectify(photo: Image.Image, quad: Points, width: int, height: int) -> Image.Image:
    """The quadrilateral ``quad`` (4, 2) of ``photo``, seen straight on. Where the photo is finer than the view, it is
    averaged first, so that fine bars don't alias."""
    across, down = side_lengths(quad)
    factor = int(max(1.0, min(across / width, down / height)))
    if factor > 1:
        low = np.maximum(np.floor(quad.min(axis=0)).astype(int) - factor, 0)
        high = np.minimum(np.ceil(quad.max(axis=0)).astype(int) + factor, photo.size)
        if (high - low < 1).any():
            return Image.new("L", (width, height), 128)
        photo = photo.crop((int(low[0]), int(low[1]), int(high[0]), int(high[1]))).reduce(factor)
        quad = (quad - low) / factor
    return warp(photo, homography(rectangle(width, height), quad), width, height)


def localiser_size(width: int, height: int) -> tuple[int, int]:
    """The size a photo is brought to for the localiser: longer side `LOCALISER_SIDE`, both multiples of 16."""
    scale = LOCALISER_SIDE / max(width, height)
    return max(32, round(width * scale / 16) * 16), max(32, round(height * scale / 16) * 16)


def localiser_input(photo: Image.Image) -> Crop:
    """The whole photo as the localiser sees it."""
    size = localiser_size(*photo.size)
    return normalised(photo.resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0))


def strip_quads(box: Points) -> list[Points]:
    """The quadrilaterals of the strips of a box around bars, from left to right along them."""
    unit_to_box = homography(rectangle(1, 1), box)
    return [
        project(
            unit_to_box,
            rectangle(1 + 2 * STRIP_MARGIN, STRIP_THICKNESS, -STRIP_MARGIN, place - STRIP_THICKNESS / 2),
        )
        for place in STRIP_PLACES
    ]


def strip(photo: Image.Image, quad: Points) -> Crop:
    """One strip as the reader sees it, (`STRIP_HEIGHT`, `STRIP_WIDTH`)."""
    return normalised(rectify(photo, quad, STRIP_WIDTH, STRIP_HEIGHT))


def grid_quad(corners: Points) -> Points:
    """What the grid finder looks at, for the corners assumed so far."""
    side = 1 + 2 * GRID_MARGIN
    return project(homography(rectangle(1, 1), corners), rectangle(side, side, -GRID_MARGIN, -GRID_MARGIN))


def grid(photo: Image.Image, corners: Points) -> Crop:
    """A QR code as the grid finder sees it, (`GRID_SIDE`, `GRID_SIDE`)."""
    return normalised(rectify(photo, grid_quad(corners), GRID_SIDE, GRID_SIDE))


def module_crop(photo: Image.Image, corners: Points, size: int) -> Crop:
    """A QR code of ``size`` modules a side as the module reader sees it."""
    unit = rectangle(size, size)
    with_margin = rectangle(size + 2 * MODULE_MARGIN, size + 2 * MODULE_MARGIN, -MODULE_MARGIN, -MODULE_MARGIN)
    side = (size + 2 * MODULE_MARGIN) * MODULE_PX
    return normalised(rectify(photo, project(homography(unit, corners), with_margin), side, side))


def oriented_box(points: Points, weights: NDArray[np.float64], angle: float) -> Points:
    """The rectangle at ``angle`` (radians) with the same second moments as the weighted ``points`` (n, 2)."""
    total = weights.sum()
    centre = (points * weights[:, None]).sum(axis=0) / total
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    half = [np.sqrt(3 * (weights * ((points - centre) @ axis) ** 2).sum() / total) for axis in (along, across)]
    signs = rectangle(2, 2, -1, -1)
    return np.asarray(centre + signs[:, :1] * half[0] * along + signs[:, 1:] * half[1] * across)
