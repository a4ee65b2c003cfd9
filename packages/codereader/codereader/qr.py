"""QR module matrices: their fixed patterns, and their text, decoded by zxing-cpp.

Matrices are square uint8 arrays, 1 = dark. zxing-cpp draws the codes of generated photos; for reading, it only
sees a clean rendering of a matrix that the model produced (`render`, `read`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.uint8]
MAX_VERSION = 25
_SCALE = 3
_QUIET = 4


def size_of(version: int) -> int:
    """Modules along a side of a QR code of ``version`` 1 to 40."""
    return 17 + 4 * version


def encode(text: str, ec_level: str, version: int) -> Matrix:
    """The module matrix of ``text``.

    Args:
        text: the payload.
        ec_level: L, M, Q or H.
        version: 1 to 40.

    Raises:
        ValueError: the payload does not fit.
    """
    import zxingcpp

    code = zxingcpp.create_barcode(text, zxingcpp.BarcodeFormat.QRCode, ec_level=ec_level, version=version)
    grey = np.array(code.to_image(scale=1, add_quiet_zones=False))
    if grey.shape != (size_of(version), size_of(version)):
        raise ValueError(f"{len(text)} characters don't fit a version {version} code at level {ec_level}")
    return (grey < 128).astype(np.uint8)


def _finder() -> NDArray[np.int8]:
    pattern = np.ones((7, 7), dtype=np.int8)
    pattern[1:6, 1:6] = 0
    pattern[2:5, 2:5] = 1
    return pattern


def alignment_centres(version: int) -> list[tuple[int, int]]:
    """(row, column) of the module in the middle of each alignment pattern."""
    if version == 1:
        return []
    count = version // 7 + 2
    step = 26 if version == 32 else (version * 4 + count * 2 + 1) // (count * 2 - 2) * 2
    last = size_of(version) - 7
    centres = [6, *sorted(last - step * i for i in range(count - 1))]
    finders = ((6, 6), (6, last), (last, 6))
    return [(row, column) for row in centres for column in centres if (row, column) not in finders]


@lru_cache(maxsize=40)
def fixed_patterns(version: int) -> NDArray[np.int8]:
    """Finders with their separators, timing and alignment patterns: 1 dark, 0 light, -1 for data."""
    size = size_of(version)
    pattern = np.full((size, size), -1, dtype=np.int8)
    for row, column in alignment_centres(version):
        pattern[row - 2 : row + 3, column - 2 : column + 3] = 1
        pattern[row - 1 : row + 2, column - 1 : column + 2] = 0
        pattern[row, column] = 1
    pattern[6, :] = pattern[:, 6] = (np.arange(size) + 1) % 2
    for rows, columns, top, left in (
        (slice(0, 8), slice(0, 8), 0, 0),
        (slice(0, 8), slice(size - 8, size), 0, size - 7),
        (slice(size - 8, size), slice(0, 8), size - 7, 0),
    ):
        pattern[rows, columns] = 0
        pattern[top : top + 7, left : left + 7] = _finder()
    pattern[size - 8, 8] = 1
    pattern.setflags(write=False)
    return pattern


def orient(matrix: Matrix, version: int) -> tuple[Matrix, int, float]:
    """The matrix, rotated and if necessary inverted, so that its fixed patterns fit best.

    Returns:
        the turned matrix, how many quarter turns (counter-clockwise, as `numpy.rot90`) it took, and the share of fixed
        modules that agree.
    """
    pattern = fixed_patterns(version)
    known = pattern >= 0
    shares = [float((np.rot90(matrix, turn)[known] == pattern[known]).mean()) for turn in range(4)]
    inverted = 1 - min(shares) > max(shares)
    turn = int(np.argmin(shares) if inverted else np.argmax(shares))
    upright = np.ascontiguousarray(np.rot90(matrix, turn))
    return (1 - upright, turn, 1 - shares[turn]) if inverted else (upright, turn, shares[turn])


def render(matrix: Matrix) -> NDArray[np.uint8]:
    """The matrix as a clean grey picture: 0 dark, 255 light, 3 pixels a module, a quiet zone of 4 modules."""
    padded = np.pad(matrix, _QUIET)
    return np.ascontiguousarray(np.kron(1 - padded, np.full((_SCALE, _SCALE), 255, dtype=np.uint8)))


def read(matrix: Matrix) -> str | None:
    """The text of an upright module matrix, verified by the code's error correction; None if it does not verify."""
    import zxingcpp

    results: list[Any] = zxingcpp.read_barcodes(
        render(matrix),
        formats=zxingcpp.BarcodeFormat.QRCode,
        is_pure=True,
        try_rotate=False,
        try_downscale=False,
        try_invert=False,
        text_mode=zxingcpp.TextMode.Plain,
    )
    return str(results[0].text) if results and results[0].valid else None
