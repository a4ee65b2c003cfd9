"""A label's surface, a plane or a cylinder in perspective: maps canvas points to photo points and back, exactly.

A curl bends the canvas plane first, the homography then takes the bent plane to the photo. Points are float arrays of
shape (n, 2), (x, y) in pixels; see `geometry` for the conventions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codereader.geometry import Points, project, rectangle, side_lengths, warp

# Points along each edge of a bent canvas that its outline is drawn through.
_ALONG_EDGE = 12
# Sine of the angle at which a cylinder's surface counts as turned away.
_STEEPEST = 0.995


@dataclass(frozen=True)
class Curl:
    """A sheet around a cylinder, seen from a distance.

    With u = (x - centre) / radius, x becomes centre + radius sin u; what turns away also gets smaller by ``shrink`` and
    sinks by ``sag`` times radius (1 - cos u), as a can does that is seen from above.

    Attributes:
        axis: 0 where x is bent (the cylinder stands upright), 1 where y is.
        centre: the line nearest to the camera, (x, y); the other coordinate is where nothing shrinks to.
        radius: of the cylinder in canvas pixels.
    """

    axis: int
    centre: tuple[float, float]
    radius: float
    sag: float = 0.0
    shrink: float = 0.0

    def bend(self, points: Points) -> Points:
        """Canvas points to points of the bent plane."""
        along, across = points[:, self.axis], points[:, 1 - self.axis]
        angle = np.clip((along - self.centre[self.axis]) / self.radius, -np.pi / 2, np.pi / 2)
        depth = 1 - np.cos(angle)
        middle = self.centre[1 - self.axis]
        bent = self.centre[self.axis] + self.radius * np.sin(angle)
        moved = middle + (across - middle) * (1 - self.shrink * depth) + self.sag * self.radius * depth
        return self._together(bent, moved)

    def unbend(self, points: Points) -> Points:
        """The inverse of `bend`; NaN where the surface has turned away."""
        bent, moved = points[:, self.axis], points[:, 1 - self.axis]
        sine = (bent - self.centre[self.axis]) / self.radius
        sine = np.where(np.abs(sine) < _STEEPEST, sine, np.nan)
        angle = np.arcsin(sine)
        depth = 1 - np.cos(angle)
        middle = self.centre[1 - self.axis]
        along = self.centre[self.axis] + self.radius * angle
        across = middle + (moved - middle - self.sag * self.radius * depth) / (1 - self.shrink * depth)
        return self._together(along, across)

    def _together(self, along: NDArray[np.float64], across: NDArray[np.float64]) -> Points:
        return np.stack([along, across] if self.axis == 0 else [across, along], axis=1)


@dataclass(frozen=True)
class Surface:
    """Where a canvas is seen: bent by ``curl``, then taken to the photo by the homography ``to_photo`` (3, 3)."""

    to_photo: Points
    curl: Curl | None = None

    def see(self, points: Points) -> Points:
        """Canvas points in the photo."""
        return project(self.to_photo, points if self.curl is None else self.curl.bend(points))

    def back(self, points: Points) -> Points:
        """Photo points on the canvas; NaN where a bent one is turned away."""
        flat = project(np.asarray(np.linalg.inv(self.to_photo), dtype=np.float64), points)
        return flat if self.curl is None else self.curl.unbend(flat)

    def moved(self, by: Points) -> Surface:
        """The surface with its photo moved by the homography ``by``."""
        return Surface(by @ self.to_photo, self.curl)

    def outline(self, width: int, height: int) -> Points:
        """The edge of a canvas of that size in the photo: corners, or many points where it is bent."""
        corners = rectangle(width, height)
        if self.curl is None:
            return self.see(corners)
        steps = np.linspace(0, 1, _ALONG_EDGE, endpoint=False)[:, None]
        following = np.roll(corners, -1, axis=0)
        edge = np.concatenate([a + (b - a) * steps for a, b in zip(corners, following, strict=True)])
        return self.see(edge)


def paste(scene: Image.Image, canvas: Image.Image, surface: Surface) -> None:
    """Draws ``canvas`` into ``scene`` as ``surface`` shows it, averaged where it is seen smaller than it is."""
    outline = surface.outline(*canvas.size)
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int), scene.size)
    width, height = (int(side) for side in high - low)
    if width < 1 or height < 1:
        return
    factor = max(1, int(canvas.width / max(1.0, side_lengths(surface.see(rectangle(*canvas.size)))[0])))
    small = canvas.reduce(factor) if factor > 1 else canvas  # bilinear sampling alone would alias
    place = (int(low[0]), int(low[1]))
    if surface.curl is None:
        to_canvas = np.linalg.inv(surface.to_photo) @ np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1.0]])
        to_canvas = np.diag([1 / factor, 1 / factor, 1]) @ to_canvas
        # An opaque canvas in a transparent plane: where the canvas ends, the scene shows.
        mask = warp(Image.new("L", small.size, 255), to_canvas, width, height, fill=0)
        scene.paste(warp(small, to_canvas, width, height, fill=0), place, mask)
        return
    columns, rows = np.meshgrid(np.arange(width) + low[0] + 0.5, np.arange(height) + low[1] + 0.5)
    on_canvas = surface.back(np.stack([columns.ravel(), rows.ravel()], axis=1)) / factor
    greys, inside = sample(np.asarray(small, dtype=np.float32), on_canvas)
    shape = (height, width)
    mask = Image.fromarray(np.where(inside, 255, 0).astype(np.uint8).reshape(shape))
    scene.paste(Image.fromarray(greys.astype(np.uint8).reshape(shape)), place, mask)


def sample(grey: NDArray[np.float32], points: Points) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Bilinear samples of ``grey`` at ``points``, and which of the points lie on it."""
    height, width = grey.shape
    x, y = points[:, 0], points[:, 1]
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # False for NaN
    x = np.clip(np.where(inside, x, 0) - 0.5, 0, width - 1.001)
    y = np.clip(np.where(inside, y, 0) - 0.5, 0, height - 1.001)
    column, row = x.astype(int), y.astype(int)
    right, below = (x - column).astype(np.float32), (y - row).astype(np.float32)
    flat, at = grey.ravel(), row * width + column  # one index is quicker than two
    step, line = (column + 1 < width).astype(int), np.where(row + 1 < height, width, 0)
    upper = flat.take(at) * (1 - right) + flat.take(at + step) * right
    lower = flat.take(at + line) * (1 - right) + flat.take(at + line + step) * right
    return upper * (1 - below) + lower * below, inside
