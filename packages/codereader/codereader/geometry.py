"""Plane geometry of photos: homographies, boxes and rectified crops.

Coordinates are continuous: pixel (row r, column c) covers x in [c, c+1), y in [r, r+1). Corners are float arrays of
shape (4, 2), (x, y) in pixels, clockwise from the code's own top left.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Points = NDArray[np.float64]


def rectangle(width: float, height: float, left: float = 0.0, top: float = 0.0) -> Points:
    """Corners of an upright rectangle, clockwise from its top left, shape (4, 2)."""
    return np.array(
        [[left, top], [left + width, top], [left + width, top + height], [left, top + height]], dtype=np.float64
    )


def homography(source: Points, target: Points) -> Points:
    """The 3x3 matrix that takes four ``source`` points to four ``target`` points, each of shape (4, 2).

    Raises:
        numpy.linalg.LinAlgError: three of the points lie on one line.
    """
    matrix = _basis(target) @ np.linalg.inv(_basis(source))
    return np.asarray(matrix / matrix[2, 2], dtype=np.float64)


def _basis(points: Points) -> Points:
    """The 3x3 matrix that takes (1, 0, 0), (0, 1, 0), (0, 0, 1) and (1, 1, 1) to four ``points`` (4, 2)."""
    at = np.vstack([points.T, np.ones(4)])
    return np.asarray(at[:, :3] * np.linalg.solve(at[:, :3], at[:, 3]))


def project(matrix: Points, points: Points) -> Points:
    """``points`` (n, 2) through the homography ``matrix`` (3, 3)."""
    x, y = points[:, 0], points[:, 1]
    across, down, depth = (row[0] * x + row[1] * y + row[2] for row in matrix)  # far quicker than a product for many
    return np.stack([across / depth, down / depth], axis=1)


def warp(image: Image.Image, to_image: Points, width: int, height: int, fill: int = 128) -> Image.Image:
    """A ``width`` x ``height`` view of ``image``; ``to_image`` takes the view's points to the image's points."""
    coefficients = tuple((to_image / to_image[2, 2]).ravel()[:8])
    return image.transform(
        (width, height), Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR, fillcolor=fill
    )


def expand(corners: Points, fraction: float) -> Points:
    """The quadrilateral with each side moved outwards by ``fraction`` of its extent (in the code's own plane)."""
    unit = rectangle(1.0, 1.0)
    outer = rectangle(1.0 + 2 * fraction, 1.0 + 2 * fraction, -fraction, -fraction)
    return project(homography(unit, corners), outer)


def side_lengths(corners: Points) -> tuple[float, float]:
    """Mean lengths in pixels of the two horizontal and the two vertical sides."""
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    return float(sides[0] + sides[2]) / 2, float(sides[1] + sides[3]) / 2


def is_convex(corners: Points) -> bool:
    """Whether the quadrilateral is convex, clockwise in image coordinates, and no sliver."""
    edges = np.roll(corners, -1, axis=0) - corners
    following = np.roll(edges, -1, axis=0)
    turns = edges[:, 0] * following[:, 1] - edges[:, 1] * following[:, 0]
    return bool((turns > 1e-6).all())
