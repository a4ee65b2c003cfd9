"""Checks a number against the greys of its strips: its bars are rendered with the strips' blur and compared.

With blurred bars, the strip reader can be confident of a wrong digit, and then in every strip. Here each digit is
replaced by every other that could be in its place: if one explains the greys better, the number is doubtful.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from codereader import ean, placements
from codereader.crops import Crop

# Samples of a strip for each module.
_PER_MODULE = 4
# Deviations of a Gaussian, in modules, that are tried; the one that fits all of a strip best is taken.
_BLURS = (0.25, 0.5, 0.75, 1.0, 1.3)
# Light modules on either side of the bars.
_BESIDE = 4
# Modules on either side of a digit that are compared with it.
_AROUND = 1
_LIGHT_BEFORE, _LIGHT_AFTER = (-6, -5, -4, -2), (-2, 0, 1, 2)
"""Modules, from a code's start and from its end, that are light; dark in an inverted, upside-down UPC-E."""
_SHIFTS, _DIGIT_SHIFTS = 4, 2
"""Samples by which all bars and a digit's alone may be off, either way."""
# A strip counts by this power of its correlation with the bars.
_SHARPNESS = 4
# Misfit, as a share of a strip's variance, that says nothing.
_NOISE = 0.01

Floats = NDArray[np.float64]


def digit_support(kind: str, text: str, strips: Crop, places: Floats, *, turned: bool) -> Floats:
    """How much better each digit explains the greys than any other digit in its place does: (digits,), the log ratio
    of their squared misfits, in the mean over strips; below 0 where another one explains them better.

    Args:
        strips: (n, height, width), dark bars on light.
        places: where in each the number stands, (n, 4), see `placements`.
        turned: whether it stands upside down.
    """
    width = ean.MODULES[kind]
    along = (np.arange(-_MARGIN, width * _PER_MODULE + _MARGIN) + 0.5) / _PER_MODULE / width
    greys = np.concatenate([greys_at(*s, along, turned=turned) for s in zip(strips, places[:, None], strict=True)])
    rendered = _rendered(1 - 2 * ean.modules(kind, text).astype(np.float64))
    shifts = np.arange(-_SHIFTS, _SHIFTS + 1)
    shifted = sliding_window_view(rendered, width * _PER_MODULE, axis=1)[:, _ROOM + shifts]
    fits = np.einsum("bsn,gn->gbs", _standard(shifted), _standard(greys[:, _MARGIN:-_MARGIN]))
    blurs, best = np.divmod(fits.reshape(len(greys), -1).argmax(axis=1), len(shifts))
    weights = np.maximum(fits.max(axis=(1, 2)), 0.1) ** _SHARPNESS
    ratios = _ratios(kind, text, greys, rendered, blurs, shifts[best])
    return np.asarray(weights @ ratios / weights.sum())


def lightness_beside(kind: str, text: str, strips: Crop, places: Floats, *, turned: bool) -> float:
    """How light the strips are in and beside the guards of a number where these are light, -1 to 1, in the mean over
    strips; arguments as for `digit_support`. Its exact place is taken from its digits' bars."""
    width = ean.MODULES[kind]
    inner = np.arange(3, width - (6 if kind == "UPCE" else 3))
    bars = 1 - 2.0 * ean.modules(kind, text)[inner]
    light = np.array([*_LIGHT_BEFORE, *(width + module for module in _LIGHT_AFTER)])
    shares = (np.concatenate([inner, light]) + 0.5) / width
    lightness = []
    for strip, place in zip(strips, places, strict=True):
        greys = greys_at(strip, placements.refinements(place), shares, turned=turned)
        digits, beside = np.split(greys, [len(inner)], axis=1)
        middle, spread = digits.mean(axis=1, keepdims=True), digits.std(axis=1, keepdims=True) + 0.05
        best = int((((digits - middle) / spread) @ bars).argmax())
        lightness.append(float(np.clip((beside - middle) / spread, -1, 1)[best].mean()))
    return float(np.mean(lightness))


# Samples on either side of rendered bars.
_ROOM = (_BESIDE + _AROUND) * _PER_MODULE + _SHIFTS + _DIGIT_SHIFTS
# Samples of a strip's greys beside the bars.
_MARGIN = _BESIDE * _PER_MODULE


def greys_at(strip: Crop, places: Floats, shares: Floats, *, turned: bool) -> Floats:
    """Greys (n, m) of a strip (height, width) at ``shares`` (m,) of the bars' width, in each of its ``places`` (n, 4):
    the mean over the middle rows, which are sure to show the bars."""
    third = strip.shape[0] // 3
    row = strip[third:-third].mean(axis=0)[:: -1 if turned else 1]
    return np.asarray(np.interp(2 * placements.frames_at(places, shares), np.arange(len(row)) + 0.5, row))


def _rendered(modules: Floats) -> Floats:
    """Bars (modules,), 1 light and -1 dark, with light on either side, blurred in every way: (blurs, samples)."""
    sharp = np.pad(np.repeat(modules, _PER_MODULE), _ROOM, constant_values=1.0)
    return np.stack([np.convolve(np.pad(sharp, len(blur) // 2, mode="edge"), blur, "valid") for blur in _blurs()])


@lru_cache(maxsize=1)
def _blurs() -> Sequence[Floats]:
    kernels = []
    for deviation in _BLURS:
        reach = int(np.ceil(3 * deviation * _PER_MODULE))
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / (deviation * _PER_MODULE)) ** 2)
        kernels.append(kernel / kernel.sum())
    return kernels


@lru_cache(maxsize=len(_BLURS))
def _symbols(blur: int) -> Floats:
    """Every symbol alone among light modules, blurred, less that light: (40, samples from `_AROUND` modules and
    `_DIGIT_SHIFTS` samples before it on)."""
    kernel = _blurs()[blur]
    beside = _AROUND * _PER_MODULE + _DIGIT_SHIFTS
    rendered = []
    for name in ean.SETS:
        for digit in range(10):
            dark = np.array([-2.0 * int(bit) for bit in ean.digit_bits(name, digit)])
            rendered.append(
                np.convolve(np.pad(np.repeat(dark, _PER_MODULE), beside + len(kernel) // 2), kernel, "valid")
            )
    return np.stack(rendered)


def _ratios(
    kind: str, text: str, greys: Floats, rendered: Floats, blurs: NDArray[np.int64], shifts: NDArray[np.int64]
) -> Floats:
    """`digit_support` by strip, (n, digits), for bars in the strips' ``greys`` with these ``blurs`` and ``shifts``;
    ``rendered``: the bars with every blur."""
    length = (7 + 2 * _AROUND) * _PER_MODULE
    digit_classes = ean.classes(kind, text)
    starts = np.round(ean.digit_centres(len(digit_classes)) * ean.MODULES[kind] - 3.5).astype(int)
    first = (starts - _AROUND) * _PER_MODULE
    strip = np.arange(len(greys))[:, None, None]
    digit_greys = greys[strip, _MARGIN + first[:, None] + np.arange(length)]
    digit_greys -= digit_greys.mean(axis=2, keepdims=True)
    along = _ROOM - _DIGIT_SHIFTS + first[:, None] + np.arange(length + 2 * _DIGIT_SHIFTS)
    bars = rendered[blurs[:, None, None], along + shifts[:, None, None]]
    symbols = np.stack([_symbols(int(blur)) for blur in blurs])
    ratios = np.empty(digit_greys.shape[:2])
    sets = np.array(["LG" if name in "LG" and kind != "EAN8" else name for name, _ in ean.symbols(kind, text)])
    for names in np.unique(sets):
        places = np.flatnonzero(sets == names)
        others = np.concatenate([10 * ean.SETS.index(name) + np.arange(10) for name in names])
        options = (bars[:, places] - symbols[:, digit_classes[places]])[:, :, None] + symbols[:, None, others]
        windows = sliding_window_view(options, length, axis=3)
        common = np.maximum(np.einsum("gposl,gpl->gpos", windows, digit_greys[:, places]), 0)
        spread = np.einsum("gposl,gposl->gpos", windows, windows) - windows.sum(axis=4) ** 2 / length
        explained = (common**2 / spread).max(axis=3)
        misfit = (digit_greys[:, places] ** 2).sum(axis=2, keepdims=True) - explained
        variance = greys[:, _MARGIN:-_MARGIN].var(axis=1)[:, None, None] + 1e-9
        misfit = misfit / length / variance + _NOISE
        is_own = others == digit_classes[places, None]
        ratios[:, places] = np.log(np.where(is_own, np.inf, misfit).min(axis=2) / (misfit * is_own).sum(axis=2))
    return ratios


def _standard(values: Floats) -> Floats:
    """Mean 0 and norm 1 along the last axis."""
    centred = values - values.mean(axis=-1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).sum(axis=-1, keepdims=True) + 1e-9))
