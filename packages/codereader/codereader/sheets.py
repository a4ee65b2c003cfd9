"""Where a QR code lies in a photo: a plane, bent between nine points."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codereader import crops
from codereader.geometry import Points, homography, is_convex, project, rectangle

# A sheet whose points lie closer than this to a plane's, in modules, is read as a plane.
_FLAT_MODULES = 0.35


def lattice() -> Points:
    """The nine points of a sheet in shares of the code's sides, row by row: (9, 2)."""
    columns, rows = np.meshgrid([0.0, 0.5, 1.0], [0.0, 0.5, 1.0])
    return np.stack([columns.ravel(), rows.ravel()], axis=1)


@dataclass(frozen=True)
class Sheet:
    """Where a code lies in the photo: in the plane that ``corners`` (4, 2) span, moved by the ``offsets`` (9, 2) of its
    `lattice` (shares of the plane's sides), between which it is a smooth surface of second order."""

    corners: Points
    offsets: Points

    def see(self, shares: Points) -> Points:
        """Points of the code (n, 2), in shares of its sides, in the photo."""
        bent = shares + lattice_weights(shares) @ self.offsets
        return project(homography(rectangle(1, 1), self.corners), bent)

    def see_all(self, columns: NDArray[np.float64], rows: NDArray[np.float64]) -> Points:
        """Where ``columns`` and ``rows`` of the code (shares of its sides) cross, in the photo, row by row: (n, 2)."""
        bend = _lagrange(columns) @ np.tensordot(_lagrange(rows), self.offsets.reshape(3, 3, 2), 1)
        bent = np.stack(np.meshgrid(columns, rows), axis=-1) + bend
        return project(homography(rectangle(1, 1), self.corners), bent.reshape(-1, 2))

    def moved(self, by: Points) -> Sheet:
        """The sheet moved by so much, all of it (2,) or point by point (9, 2), in shares of the plane's sides."""
        return replace(self, offsets=self.offsets + by)

    @property
    def outline(self) -> Points:
        """The code's own corners (4, 2)."""
        return self.see(rectangle(1, 1))

    def is_flat(self, size: int) -> bool:
        """Whether a plane through its corners holds all nine points, to a fraction of one of ``size`` modules."""
        outline = self.outline
        if not is_convex(outline):
            return False
        plane = project(homography(rectangle(1, 1), outline), lattice())
        side = np.linalg.norm(outline[1] - outline[0])
        return bool(np.abs(self.see(lattice()) - plane).max() < _FLAT_MODULES / size * side)

    def module_crop(self, photo: Image.Image, size: int) -> crops.Crop:
        """The rectified code, as the module reader expects it."""
        if self.is_flat(size):
            return crops.module_crop(photo, self.outline, size)
        at = crops.module_places(size)
        return crops.bent_module_crop(photo, self.see_all(at, at), size)


def lattice_weights(shares: Points) -> Points:
    """Weights of the nine points of the `lattice` at ``shares`` (n, 2) of a code's sides: (n, 9)."""
    columns, rows = _lagrange(shares[:, 0]), _lagrange(shares[:, 1])
    return np.asarray((rows[:, :, None] * columns[:, None, :]).reshape(len(shares), 9))


def _lagrange(at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the knots 0, 0.5 and 1 in the parabola through them: (n, 3)."""
    return np.stack([(1 - at) * (1 - 2 * at), 4 * at * (1 - at), at * (2 * at - 1)], axis=1)
