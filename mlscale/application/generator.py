"""Seeded photos of known codes: what the models learn from and what they are measured on.

A code is drawn on a label with its print, seen through a homography in front of a background, exposed and compressed.
Everything follows from the `numpy.random.Generator` that is handed in.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mlscale.application import ean, payloads, qr
from mlscale.application.clutter import background, decoy, font, words
from mlscale.application.geometry import Points, homography, is_convex, project, rectangle, side_lengths, warp
from mlscale.application.optics import Optics, expose, recompressed

KINDS = ("EAN13", "EAN8", "UPCA", "QR")
DIFFICULTIES = ("easy", "medium", "hard")


@dataclass(frozen=True)
class Difficulty:
    """Ranges that a photo is drawn from; pixels refer to a photo of 640 x 480.

    Attributes:
        module_px: size of a module in the photo, low and high.
        turn: largest rotation off the upright in degrees (180: any).
        tilt: largest shift of a corner by perspective, as a share of the code's side.
        blur_modules: largest sigma of the lens blur in modules.
        motion_modules: longest motion blur in modules.
        noise, light, quality: see `Optics`; noise and light are largest values, quality the lowest.
        contrast: least difference between paper and ink in grey levels.
        quiet: least quiet zone as a share of the standard's.
        decoys: most things that look like codes.
    """

    module_px: tuple[float, float]
    turn: float
    tilt: float
    blur_modules: float
    motion_modules: float
    noise: float
    light: float
    quality: int
    contrast: float
    quiet: float
    decoys: int


LEVELS = {
    "easy": Difficulty((2.0, 3.6), 20, 0.03, 0.25, 0.0, 4, 0.25, 75, 110, 1.0, 1),
    "medium": Difficulty((1.6, 3.6), 180, 0.10, 0.40, 0.6, 8, 0.5, 55, 70, 0.8, 2),
    "hard": Difficulty((1.25, 3.6), 180, 0.18, 0.60, 1.2, 14, 0.7, 30, 40, 0.6, 3),
}


@dataclass(frozen=True)
class Code:
    """A code in a photo: ``corners`` (4, 2) of its bars or modules in pixels, clockwise from its own top left."""

    kind: str
    text: str
    corners: Points
    version: int = 0
    """QR version; 0 for the others."""
    modules: NDArray[np.uint8] | None = None
    """Its bars (rows, n) or its module matrix, 1 = dark."""


@dataclass(frozen=True)
class Scene:
    """A generated grey photo and the codes in it."""

    photo: Image.Image
    codes: tuple[Code, ...]
    optics: Optics


@dataclass(frozen=True)
class _Label:
    canvas: Image.Image
    corners: Points
    kind: str
    text: str
    version: int
    modules: NDArray[np.uint8]


def photo(
    rng: np.random.Generator,
    difficulty: str,
    *,
    width: int = 640,
    height: int = 480,
    kinds: tuple[str, ...] = KINDS,
    codes: int | None = None,
    zoom: float = 1.0,
) -> Scene:
    """A photo with ``codes`` codes (by default one to three, sometimes none), as many as find room.

    Args:
        rng: where all chance comes from.
        difficulty: easy, medium or hard.
        width, height: pixels.
        kinds: which kinds of codes to draw from.
        codes: how many.
        zoom: scales the size of modules.
    """
    level = LEVELS[difficulty]
    scene = background(rng, width, height)
    taken: list[Points] = []
    placed: list[Code] = []
    count = int(rng.choice([0, 1, 2, 3], p=[0.05, 0.55, 0.3, 0.1])) if codes is None else codes
    smallest_px = level.module_px[1] * zoom
    for _ in range(count):
        label = draw_label(rng, level, str(rng.choice(kinds)))
        where = _find_place(rng, label, level, (width, height), taken, zoom)
        if where is not None:
            paste(scene, label.canvas, where)
            corners = project(where, label.corners)
            placed.append(Code(label.kind, label.text, corners, label.version, label.modules))
            smallest_px = min(smallest_px, side_lengths(corners)[0] / label.modules.shape[1])
    for _ in range(int(rng.integers(0, level.decoys + 1))):
        label = _decoy_label(rng, level)
        where = _find_place(rng, label, level, (width, height), taken, zoom)
        if where is not None:
            paste(scene, label.canvas, where)
    optics = draw_optics(rng, level, smallest_px)
    seen = expose(rng, scene, optics)
    return Scene(seen, tuple(placed), optics)


def close_up(rng: np.random.Generator, difficulty: str, kind: str, version: int | None = None) -> Scene:
    """A small photo that one code of ``kind`` all but fills: what the readers learn from, at a tenth of the cost."""
    level = LEVELS[difficulty]
    label = draw_label(rng, level, kind, version)
    module_px = float(np.exp(rng.uniform(*np.log(level.module_px))))
    flat = _view(rng, label, level, module_px)
    seen = project(flat, label.corners)
    pad = 0.3 * max(side_lengths(seen)) + 8
    low = seen.min(axis=0) - pad
    size = np.ceil(seen.max(axis=0) + pad - low).astype(int)
    shift = np.array([[1, 0, -low[0]], [0, 1, -low[1]], [0, 0, 1]])
    scene = background(rng, int(size[0]), int(size[1]))
    paste(scene, label.canvas, shift @ flat)
    optics = draw_optics(rng, level, module_px)
    shot = recompressed(expose(rng, scene, optics), optics.jpeg_quality)
    return Scene(shot, (Code(label.kind, label.text, seen - low, label.version, label.modules),), optics)


def draw_optics(rng: np.random.Generator, level: Difficulty, module_px: float) -> Optics:
    """An exposure within ``level`` for codes whose smallest module is ``module_px`` wide."""
    blur, motion = level.blur_modules, level.motion_modules
    return Optics(
        light=float(rng.uniform(0, level.light)),
        blur_px=float(rng.uniform(0.2, 1) * blur * module_px),
        motion_px=float(rng.uniform(0, motion) * module_px) if rng.random() < 0.5 else 0.0,
        noise=float(rng.uniform(0, level.noise)),
        jpeg_quality=int(rng.integers(level.quality, 96)),
    )


def draw_label(rng: np.random.Generator, level: Difficulty, kind: str, version: int | None = None) -> _Label:
    """A label with one code of ``kind`` and some print, seen straight on."""
    if kind == "QR":
        text, version, matrix = payloads.qr_code(rng, version)
        quiet = max(1, round(4 * rng.uniform(level.quiet, 1.3)))
        return _print_label(rng, level, matrix, kind, text, version, quiet, quiet)
    text = payloads.ean_text(rng, kind)
    bars = ean.modules(text)
    rows = int(rng.uniform(0.3, 0.85) * len(bars))
    quiet = round(9 * rng.uniform(level.quiet, 1.3))
    return _print_label(rng, level, np.repeat(bars[None], rows, axis=0), kind, text, 0, quiet, 3)


def _print_label(
    rng: np.random.Generator,
    level: Difficulty,
    modules: qr.Matrix,
    kind: str,
    text: str,
    version: int,
    quiet: int,
    above: int,
) -> _Label:
    scale = 4
    paper = rng.uniform(max(100, level.contrast + 5), 255)
    ink = rng.uniform(0, min(90, paper - level.contrast))
    rows, columns = modules.shape
    extra = rng.integers(0, 16, 4)  # more label on each side
    left, top = quiet + int(extra[0]), above + int(extra[1])
    below = 11 if kind in ean.MODULES else above
    width, height = left + columns + quiet + int(extra[2]), top + rows + below + int(extra[3])
    grey = np.full((height, width), paper, dtype=np.float32)
    grey[top : top + rows, left : left + columns] = np.where(modules == 1, ink, paper)
    canvas = Image.fromarray(grey.astype(np.uint8)).resize((width * scale, height * scale), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(canvas)
    if kind in ean.MODULES and rng.random() < 0.9:
        _print_digits(draw, modules[0], text, (left, top + rows), scale, int(ink))
    if extra[1] >= 9:
        draw.text((scale, scale), words(rng, int(rng.integers(4, 24))), fill=int(ink), font=font(7 * scale))
    if rng.random() < 0.2:
        draw.rectangle([0, 0, width * scale - 1, height * scale - 1], outline=int(ink), width=scale)
    corners = rectangle(columns, rows, left, top) * scale
    return _Label(canvas, corners, kind, text, version, modules)


def _print_digits(
    draw: ImageDraw.ImageDraw,
    bars: qr.Matrix,
    text: str,
    place: tuple[int, int],
    scale: int,
    ink: int,
) -> None:
    left, bottom = place
    half = len(bars) // 2
    for module in (0, 2, half - 1, half + 1, len(bars) - 3, len(bars) - 1):
        x = (left + module) * scale
        draw.rectangle([x, bottom * scale, x + scale - 1, (bottom + 5) * scale], fill=ink)
    outside = text[: len(text) - (8 if len(text) == 8 else 12)]
    digits = text[len(outside) :]
    draw.text(((left - 8) * scale, (bottom + 1) * scale), outside, fill=ink, font=font(9 * scale))
    for place_of, digit in zip(ean.digit_centres(len(digits)), digits, strict=True):
        x = (left + place_of * len(bars) - 2.5) * scale
        draw.text((x, (bottom + 1) * scale), digit, fill=ink, font=font(9 * scale))


def _decoy_label(rng: np.random.Generator, level: Difficulty) -> _Label:
    return _print_label(rng, level, decoy(rng), "decoy", "", 0, int(rng.integers(0, 8)), int(rng.integers(0, 8)))


def _view(rng: np.random.Generator, label: _Label, level: Difficulty, module_px: float) -> Points:
    """Canvas to photo: scale, perspective and rotation about the code's centre, which lands on (0, 0)."""
    scale = module_px * label.modules.shape[1] / side_lengths(label.corners)[0]
    centred = (label.corners - label.corners.mean(axis=0)) * scale
    reach = np.abs(centred).max(axis=0)
    tilted = centred + rng.uniform(-1, 1, (4, 2)) * level.tilt * reach
    if not is_convex(tilted):
        tilted = centred
    turn = np.deg2rad(rng.uniform(-level.turn, level.turn))
    if level.turn < 180 and rng.random() < 0.25:
        turn += np.pi / 2 * rng.integers(1, 4)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return homography(label.corners, tilted @ spin.T)


def _find_place(
    rng: np.random.Generator,
    label: _Label,
    level: Difficulty,
    size: tuple[int, int],
    taken: list[Points],
    zoom: float,
) -> Points | None:
    """Canvas to photo so that the code is inside the photo and its label on no other; None where there is no room."""
    outline = rectangle(*label.canvas.size)
    low, high = np.log(level.module_px[0] * zoom), np.log(level.module_px[1] * zoom)
    for attempt in range(12):
        high_now = high - (high - low) * attempt / 12
        flat = _view(rng, label, level, float(np.exp(rng.uniform(low, high_now))))
        code = project(flat, label.corners)
        reach = code.max(axis=0) - code.min(axis=0)
        room = np.array(size) - reach - 6
        if (room < 0).any():
            continue
        shift = rng.uniform(0, room) + 3 - code.min(axis=0)
        moved = np.array([[1, 0, shift[0]], [0, 1, shift[1]], [0, 0, 1]]) @ flat
        edges = project(moved, outline)
        box = np.stack([edges.min(axis=0), edges.max(axis=0)])
        if all((box[0] > other[1]).any() or (box[1] < other[0]).any() for other in taken):
            taken.append(box)
            return np.asarray(moved)
    return None


def paste(scene: Image.Image, canvas: Image.Image, to_scene: Points) -> None:
    """Draws ``canvas`` into ``scene`` through the homography ``to_scene``."""
    outline = project(to_scene, rectangle(*canvas.size))
    low = np.maximum(np.floor(outline.min(axis=0)).astype(int), 0)
    high = np.minimum(np.ceil(outline.max(axis=0)).astype(int), scene.size)
    width, height = (int(side) for side in high - low)
    if width < 1 or height < 1:
        return
    back = np.linalg.inv(to_scene) @ np.array([[1, 0, low[0]], [0, 1, low[1]], [0, 0, 1]])
    factor = max(1, int(canvas.width / max(1.0, side_lengths(outline)[0])))
    if factor > 1:  # bilinear sampling alone would alias
        canvas = canvas.reduce(factor)
        back = np.diag([1 / factor, 1 / factor, 1]) @ back
    # An opaque canvas in a transparent plane: where the canvas ends, the scene shows.
    mask = warp(Image.new("L", canvas.size, 255), back, width, height, fill=0)
    scene.paste(warp(canvas, back, width, height, fill=0), (int(low[0]), int(low[1])), mask)
