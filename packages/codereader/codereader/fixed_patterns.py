"""Refits a rough sheet to a QR code's fixed patterns, which are searched for near their expected places.

The grid finder sees a large code at one or two pixels per module, so its sheet may be off by a module or two and its
version by a few. The three finder patterns correct both; the alignment patterns then straighten the sheet between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codereader import crops, qr
from codereader.geometry import Points
from codereader.sheets import Sheet, lattice, lattice_weights
from codereader.surfaces import sample

# Pixels per module.
_PX = 3
# Modules around the code.
_ROOM = 5
_REACH, _FARTHER_REACH, _NEARER_REACH = 3.0, 4.5, 1.5
"""How far from its expected place a pattern is searched for, in modules: finder patterns at first; the alignment
pattern farthest from all three; and every pattern once these are in place."""
_LEAST_FIT, _LEAST_FINDER_FIT = 0.45, 0.33
"""Correlation at which an alignment or a finder pattern counts as found."""
_ROUNDS = 2
# How many versions on either side of the assumed one are tried.
_NEIGHBOURS = 4
_FAR_OFF, _LEAST_FAR_FIT = 4, 0.5
"""Without finder patterns at the assumed version, versions this far off are tried, with this least correlation."""
# Weight of a sheet's bend relative to the misfit of its patterns (ridge regression).
_STIFFNESS = 0.3
_FINDER_CENTRE = 3.5
# Samples of a timing pattern, two a module, that are taken to be evenly spaced.
_TIMED_PART = 32


@dataclass(frozen=True)
class _Match:
    """A pattern found near ``at`` (2,), its expected centre in modules, and off by ``shift`` (2,) modules."""

    at: Points
    shift: Points
    fit: float


def refit(photo: Image.Image, sheet: Sheet, version: int) -> tuple[Sheet, int] | None:
    """The sheet moved to where the code's fixed patterns are, and its version by its alignment and timing patterns;
    None where its three finder patterns aren't found."""
    grey = np.asarray(photo, dtype=np.float32)
    match = _finders(grey, sheet, version, _LEAST_FINDER_FIT)
    for candidate in (version - _FAR_OFF, version + _FAR_OFF):
        if match is None and 1 <= candidate <= qr.MAX_VERSION:
            version, match = candidate, _finders(grey, sheet, candidate, _LEAST_FAR_FIT)
    for _ in range(_ROUNDS):
        if match is None:
            return None
        finders, missing = match
        size = qr.size_of(version)
        sheet = _moved(sheet, finders, size, bends=False)
        view = _view(grey, sheet, size)
        before, version = version, _likeliest_version(view, version, missing - 2)
        if version == before:
            break
        match = _finders(grey, sheet, version, _LEAST_FINDER_FIT)
    for reach, patterns in ((_FARTHER_REACH, slice(-1, None)), (_NEARER_REACH, slice(None))):
        sheet = _straightened(grey, sheet, version, missing - 2, reach, patterns)
    return sheet, version


def _finders(
    grey: NDArray[np.float32], sheet: Sheet, version: int, least_fit: float
) -> tuple[list[_Match], int] | None:
    """The three finder patterns of a code of ``version``, and which corner has none; None where one fits worse."""
    size = qr.size_of(version)
    corners = [_finder_near(grey, sheet, size, at) for at in _corner_centres(size)]
    missing = int(np.argmin([corner.fit for corner in corners]))
    finders = corners[:missing] + corners[missing + 1 :]
    return (finders, missing) if min(finder.fit for finder in finders) >= least_fit else None


def _straightened(
    grey: NDArray[np.float32], sheet: Sheet, version: int, turn: int, reach: float, patterns: slice
) -> Sheet:
    """The sheet bent so that its finder patterns and some of its alignment ``patterns`` are in place; the code begins
    ``turn`` corners on."""
    size = qr.size_of(version)
    view = _view(grey, sheet, size)
    finders = [_corner_centres(size)[(corner + turn) % 4] for corner in (3, 0, 1)]
    alignments = [_turned(at, size, turn) for at in _alignment_places(size)[patterns]]
    matches = _best_matches(view, _finder(), finders, _NEARER_REACH)
    matches += _best_matches(view, _alignment(), alignments, reach)
    fitting = [match for match in matches if match.fit > _LEAST_FIT]
    return _moved(sheet, fitting, size, bends=True) if len(fitting) > 2 else sheet


def _view(grey: NDArray[np.float32], sheet: Sheet, size: int) -> crops.Crop:
    """The code straightened, `_PX` pixels a module, with `_ROOM` modules around it for patterns that are off."""
    at = crops.module_places(size, _PX, _ROOM)
    return _part(grey, sheet, at, at)


def _part(
    grey: NDArray[np.float32], sheet: Sheet, columns: NDArray[np.float64], rows: NDArray[np.float64]
) -> crops.Crop:
    return sample(grey, sheet.see_all(columns, rows))[0].reshape(len(rows), len(columns))


def _finder_near(grey: NDArray[np.float32], sheet: Sheet, size: int, at: Points) -> _Match:
    """Where around ``at`` a finder pattern fits best. Only that part of the view is computed: most boxes end here."""
    places = crops.module_places(size, _PX, _ROOM)
    length = len(_finder()) + 2 * int(_REACH * _PX)
    first = np.clip(np.round((at + _ROOM) * _PX - length / 2).astype(int), 0, len(places) - length)
    columns, rows = (places[low : low + length] for low in first)
    (match,) = _best_matches(_part(grey, sheet, columns, rows), _finder(), [at - first / _PX], _REACH)
    return replace(match, at=at)


def _best_matches(view: crops.Crop, template: crops.Crop, places: Sequence[Points], reach: float) -> list[_Match]:
    """Where around each of ``places`` (column, row in modules) the zero-mean ``template`` fits best, light for dark or
    not."""
    if not places:
        return []
    side, steps = len(template), int(reach * _PX)
    expected = (np.stack(places) + _ROOM) * _PX - side / 2
    length = side + 2 * steps
    low = np.clip(np.round(expected).astype(int) - steps, 0, np.array(view.shape[::-1]) - length)
    along = np.arange(length)
    parts = view[low[:, 1, None, None] + along[:, None], low[:, 0, None, None] + along]
    parts -= parts.mean(axis=(1, 2), keepdims=True)
    windows = np.lib.stride_tricks.sliding_window_view(parts, template.shape, axis=(1, 2))
    flat = windows.reshape(-1, template.size)
    spread = np.sqrt(np.maximum(np.einsum("ij,ij->i", flat, flat) / template.size - flat.mean(axis=1) ** 2, 1e-4))
    fits = np.abs(flat @ template.ravel()) / (spread * template.size * template.std())
    fits = fits.reshape(len(places), -1)
    row, column = np.divmod(fits.argmax(axis=1), windows.shape[2])
    shifts = (low - expected + np.stack([column, row], axis=1)) / _PX
    return [_Match(at, shift, float(fit)) for at, shift, fit in zip(places, shifts, fits.max(axis=1), strict=True)]


def _moved(sheet: Sheet, matches: list[_Match], size: int, *, bends: bool) -> Sheet:
    """The sheet with its points moved so that the ``matches`` are in place: a plane's change, or a bend where that is
    worth it (ridge regression on the deviation from a plane)."""
    at = np.stack([match.at for match in matches]) / size
    shifts = np.stack([match.shift for match in matches]) / size
    flat = np.column_stack([np.ones(len(at)), at])
    plane, *_ = np.linalg.lstsq(flat, shifts, rcond=None)
    moved = np.column_stack([np.ones(9), lattice()]) @ plane
    if bends:
        basis = lattice_weights(at)
        residuals = shifts - flat @ plane
        ridge = _STIFFNESS * np.eye(9)
        moved = moved + np.linalg.solve(basis.T @ basis + ridge, basis.T @ residuals)
    return sheet.moved(moved)


def _likeliest_version(view: crops.Crop, version: int, turn: int) -> int:
    """Of ``version`` and its neighbours, the one whose alignment and timing patterns show best where the finder
    patterns are in place."""
    size = qr.size_of(version)

    def score(candidate: int) -> float:
        candidate_size = qr.size_of(candidate)
        scale = (size - 2 * _FINDER_CENTRE) / (candidate_size - 2 * _FINDER_CENTRE)

        def place(at: Points) -> Points:
            return _turned(_FINDER_CENTRE + (at - _FINDER_CENTRE) * scale, size, turn)

        places = [place(at) for at in _alignment_places(candidate_size)]
        fits = [match.fit for match in _best_matches(view, _alignment(), places, _NEARER_REACH)]
        along = np.arange(7, candidate_size - 7, 0.5)  # twice a module, between the finder patterns
        line = np.stack([along + 0.5, np.full(len(along), 6.5)], axis=1)
        timed = [_alternates(sample(view, (place(points) + _ROOM) * _PX)[0]) for points in (line, line[:, ::-1])]
        return float(np.mean(fits or [_LEAST_FIT])) + float(np.mean(timed))

    return max(range(max(1, version - _NEIGHBOURS), min(qr.MAX_VERSION, version + _NEIGHBOURS) + 1), key=score)


def _alternates(values: NDArray[np.float32]) -> float:
    """How well greys sampled twice a module alternate module by module, 0 to 1, in any phase: the mean over parts of
    the line, since it may be stretched in places."""
    around = np.convolve(values, np.full(4, 0.25), mode="same")
    ripple = values - around
    wave = ripple * np.exp(-0.5j * np.pi * np.arange(len(ripple)))
    part = min(_TIMED_PART, len(wave))
    local = np.abs(np.convolve(wave, np.full(part, 1 / part), mode="valid"))
    return float(local.mean()) / float(np.sqrt((ripple**2).mean()) + 1e-6)


def _corner_centres(size: int) -> list[Points]:
    """Centres of finder patterns in the four corners, clockwise from the top left, in modules."""
    low, high = _FINDER_CENTRE, size - _FINDER_CENTRE
    return [np.array(at) for at in ((low, low), (high, low), (high, high), (low, high))]


def _turned(at: Points, size: int, turn: int) -> Points:
    """Points (..., 2) of an upright code, in modules, where it begins ``turn`` corners on (clockwise)."""
    for _ in range(turn % 4):
        at = np.stack([size - at[..., 1], at[..., 0]], axis=-1)
    return at


def _alignment_places(size: int) -> list[Points]:
    return [np.array([column + 0.5, row + 0.5]) for row, column in qr.alignment_centres((size - 17) // 4)]


def _finder() -> crops.Crop:
    """A finder pattern within its light ring, `_PX` pixels a module, mean 0."""
    return _rings(4, dark=(0, 1, 3))


def _alignment() -> crops.Crop:
    return _rings(2, dark=(0, 2))


@lru_cache(maxsize=2)
def _rings(reach: int, dark: tuple[int, ...]) -> crops.Crop:
    """Square rings around a module up to the ``reach``-th, of which some are dark."""
    at = np.abs(np.arange(-reach, reach + 1))
    light = 1.0 - np.isin(np.maximum(at[:, None], at[None]), dark)
    grey = np.kron(light, np.ones((_PX, _PX)))
    pattern = np.asarray(grey - grey.mean(), dtype=np.float32)
    pattern.setflags(write=False)
    return pattern
