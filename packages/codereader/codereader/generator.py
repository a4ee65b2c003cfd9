"""Seeded photos of known codes, for training and evaluation.

A code is printed on a label (`labels`), which lies flat or around a cylinder, is seen in perspective in front of a
background, lit, exposed and compressed. The `numpy.random.Generator` passed in determines everything.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from codereader.clutter import background
from codereader.difficulties import LEVELS, Difficulty
from codereader.geometry import Points, homography, is_convex, project, rectangle, side_lengths
from codereader.labels import Label, decoy_label, draw_label
from codereader.optics import Optics, expose, recompressed
from codereader.surfaces import Curl, Surface, paste

KINDS = ("EAN13", "EAN8", "UPCA", "UPCE", "QR")
_MARGIN_PX = 3
_TRIES = 12


@dataclass(frozen=True)
class Code:
    """A code in a photo: ``corners`` (4, 2) of its bars or modules in pixels, clockwise from its own top left."""

    kind: str
    text: str
    corners: Points
    version: int
    """QR version; 0 for the others."""
    modules: NDArray[np.uint8]
    """Its bars (rows, n) or its module matrix, 1 = dark, or light where it is inverted."""
    inverted: bool
    surface: Surface
    frame: Points
    """Its corners (4, 2) on the canvas that ``surface`` shows."""

    def unit(self, points: Points) -> Points:
        """Photo points in shares of the code's width and height; NaN where its surface has turned away."""
        low, high = self.frame[0], self.frame[2]
        return np.asarray((self.surface.back(points) - low) / (high - low))

    def see(self, shares: Points) -> Points:
        """The inverse of `unit`."""
        low, high = self.frame[0], self.frame[2]
        return self.surface.see(low + shares * (high - low))

    def moved(self, by: Points) -> Code:
        """The code in its photo moved by the homography ``by`` (3, 3)."""
        return replace(self, corners=project(by, self.corners), surface=self.surface.moved(by))


@dataclass(frozen=True)
class Scene:
    """A generated grey photo, its codes, and those that the frame cuts, which may or may not be readable."""

    photo: Image.Image
    codes: tuple[Code, ...]
    optics: Optics
    cut: tuple[Code, ...] = ()


def photo(
    rng: np.random.Generator,
    difficulty: str,
    *,
    width: int = 640,
    height: int = 480,
    kinds: tuple[str, ...] = KINDS,
    codes: int | None = None,
    zoom: float = 1.0,
    module_px: tuple[float, float] | None = None,
) -> Scene:
    """A photo with up to ``codes`` codes, as room permits (by default one to three, sometimes none).

    Args:
        rng: source of all randomness.
        difficulty: a key of `LEVELS`.
        width, height: pixels.
        kinds: which kinds of codes to draw from.
        codes: how many; None: drawn.
        zoom: scales the size of modules.
        module_px: sizes of modules instead of the difficulty's, pixels of this photo.
    """
    level = LEVELS[difficulty]
    low_px, high_px = module_px or (level.module_px[0] * zoom, level.module_px[1] * zoom)
    stage = _Stage(rng, level, background(rng, width, height), (low_px, high_px))
    count = int(rng.choice([0, 1, 2, 3], p=[0.05, 0.55, 0.3, 0.1])) if codes is None else codes
    placed = [code for _ in range(count) if (code := stage.place(str(rng.choice(kinds)))) is not None]
    cut = [
        code for _ in range(int(rng.random() < level.cut)) if (code := stage.cut(str(rng.choice(kinds)))) is not None
    ]
    for _ in range(int(rng.integers(0, level.decoys + 1))):
        stage.place("decoy")
    smallest_px = min([high_px, *(_module_px(code) for code in placed)])
    optics = draw_optics(rng, level, smallest_px)
    return Scene(expose(rng, stage.scene, optics), tuple(placed), optics, tuple(cut))


def filled(rng: np.random.Generator, difficulty: str, kind: str, side: int) -> Scene:
    """A square photo of ``side`` pixels that one code of ``kind`` (nearly) fills. Every other one is a sharp, plain
    drawing as on a screen, rendered as small as possible and then enlarged."""
    scene = close_up(rng, difficulty, kind, margin=float(rng.uniform(0.0, 0.12)), drawn=bool(rng.random() < 0.5))
    scale = side / scene.photo.width
    enlarged = scene.photo.resize((side, side), Image.Resampling.BILINEAR, reducing_gap=2.0)
    codes = tuple(code.moved(np.diag([scale, scale, 1.0])) for code in scene.codes)
    return Scene(enlarged, codes, scene.optics)


def close_up(
    rng: np.random.Generator,
    difficulty: str,
    kind: str,
    version: int | None = None,
    *,
    margin: float | None = None,
    drawn: bool = False,
) -> Scene:
    """A small photo that one code of ``kind`` nearly fills, for training the readers in a tenth of the time.

    Args:
        rng: source of all randomness.
        difficulty: a key of `LEVELS`.
        kind: one of `KINDS`, or "decoy" for what only looks like one.
        version: of a QR code.
        margin: makes the photo a square with this margin around the code, as a share of its longer side; None: the
            margin that the readers need.
        drawn: a sharp and plain drawing.
    """
    level = replace(LEVELS["easy"], turn=0.0, tilt=0.0) if drawn else LEVELS[difficulty]
    label = _new_label(rng, level, kind, version)
    module_px = float(np.exp(rng.uniform(*np.log(level.module_px))))
    flat = _surface(rng, label, level, module_px)
    corners = flat.see(label.corners)
    extent = np.ptp(corners, axis=0)
    if margin is None:
        size = np.ceil(extent + 0.6 * max(side_lengths(corners)) + 16).astype(int)
    else:
        size = np.full(2, np.ceil(extent.max() * (1 + 2 * margin))).astype(int)
    surface = flat.moved(_shift((size - extent) / 2 - corners.min(axis=0)))
    plain = Image.new("L", (int(size[0]), int(size[1])), label.canvas.getpixel((0, 0)))
    scene = plain if drawn else background(rng, int(size[0]), int(size[1]))
    paste(scene, label.canvas, surface)
    optics = Optics(0.0, 0.0, 0.0, 0.0, 95) if drawn else draw_optics(rng, level, module_px)
    shot = recompressed(expose(rng, scene, optics), optics.jpeg_quality)
    return Scene(shot, (_code(label, surface),), optics)


def draw_optics(rng: np.random.Generator, level: Difficulty, module_px: float) -> Optics:
    """An exposure within ``level`` for codes whose smallest module is ``module_px`` wide."""
    blur, motion = level.blur_modules, level.motion_modules
    unusual = rng.random(3) < level.unusual
    return Optics(
        light=float(rng.uniform(0, level.light)),
        blur_px=float(rng.uniform(0.2, 1) * blur * module_px),
        motion_px=float(rng.uniform(0, motion) * module_px) if rng.random() < 0.5 else 0.0,
        noise=float(rng.uniform(0, level.noise)),
        jpeg_quality=int(rng.integers(level.quality, 96)),
        shadow=float(rng.uniform(0.2, 1) * level.shadow) if unusual[0] else 0.0,
        glare=float(rng.uniform(0.2, 1) * level.glare) if unusual[1] else 0.0,
        defocus=bool(unusual[2]),
    )


class _Stage:
    """A scene on which labels are placed without overlap."""

    def __init__(
        self, rng: np.random.Generator, level: Difficulty, scene: Image.Image, module_px: tuple[float, float]
    ) -> None:
        self._rng, self._level, self.scene = rng, level, scene
        self._module_px = module_px
        self._taken: list[Points] = []

    def place(self, kind: str) -> Code | None:
        """Places a label whose code lies entirely in the frame; None if there is no room."""
        rng = self._rng
        label = _new_label(rng, self._level, kind)
        low, high = np.log(self._module_px)
        for attempt in range(_TRIES):
            high_now = high - (high - low) * attempt / _TRIES
            flat = _surface(rng, label, self._level, float(np.exp(rng.uniform(low, high_now))))
            code = flat.see(label.corners)
            room = np.array(self.scene.size) - np.ptp(code, axis=0) - 2 * _MARGIN_PX
            if (room < 0).any():
                continue
            surface = flat.moved(_shift(rng.uniform(0, room) + _MARGIN_PX - code.min(axis=0)))
            if self._claim(surface, label):
                paste(self.scene, label.canvas, surface)
                return _code(label, surface)
        return None

    def cut(self, kind: str) -> Code | None:
        """Places a label whose code crosses the frame; None if there is no room."""
        rng = self._rng
        label = _new_label(rng, self._level, kind)
        for _ in range(_TRIES):
            flat = _surface(rng, label, self._level, float(np.exp(rng.uniform(*np.log(self._module_px)))))
            code = flat.see(label.corners)
            reach = np.ptp(code, axis=0)
            axis, end = int(rng.integers(0, 2)), int(rng.integers(0, 2))
            low = rng.uniform(0, np.maximum(np.array(self.scene.size) - reach, 1))
            hidden = rng.uniform(0.15, 0.7) * reach[axis]
            low[axis] = self.scene.size[axis] - reach[axis] + hidden if end else -hidden
            surface = flat.moved(_shift(low - code.min(axis=0)))
            if self._claim(surface, label):
                paste(self.scene, label.canvas, surface)
                return _code(label, surface)
        return None

    def _claim(self, surface: Surface, label: Label) -> bool:
        edges = surface.outline(*label.canvas.size)
        box = np.stack([edges.min(axis=0), edges.max(axis=0)])
        if any((box[0] <= other[1]).all() and (box[1] >= other[0]).all() for other in self._taken):
            return False
        self._taken.append(box)
        return True


def _new_label(rng: np.random.Generator, level: Difficulty, kind: str, version: int | None = None) -> Label:
    """A label with a code of ``kind``, or with a decoy."""
    return decoy_label(rng, level.prints) if kind == "decoy" else draw_label(rng, level.prints, kind, version)


def _code(label: Label, surface: Surface) -> Code:
    corners = surface.see(label.corners)
    return Code(label.kind, label.text, corners, label.version, label.modules, label.inverted, surface, label.corners)


def _module_px(code: Code) -> float:
    return float(side_lengths(code.corners)[0] / code.modules.shape[1])


def _shift(by: Points) -> Points:
    return np.array([[1, 0, by[0]], [0, 1, by[1]], [0, 0, 1]])


def _surface(rng: np.random.Generator, label: Label, level: Difficulty, module_px: float) -> Surface:
    """Bend, scale, perspective and rotation about the code's centre, which lands near (0, 0)."""
    curl = _curl(rng, label, level) if rng.random() < level.unusual else None
    bent = label.corners if curl is None else curl.bend(label.corners)
    scale = module_px * label.modules.shape[1] / side_lengths(bent)[0]
    frame = rectangle(*np.ptp(label.corners, axis=0), *label.corners[0])
    centred = (frame - frame.mean(axis=0)) * scale
    reach = np.abs(centred).max(axis=0)
    tilted = centred + rng.uniform(-1, 1, (4, 2)) * level.tilt * reach
    if not is_convex(tilted):
        tilted = centred
    turn = np.deg2rad(rng.uniform(-level.turn, level.turn))
    if level.turn < 180 and rng.random() < 0.25:
        turn += np.pi / 2 * rng.integers(1, 4)
    spin = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return Surface(homography(frame, tilted @ spin.T), curl)


def _curl(rng: np.random.Generator, label: Label, level: Difficulty) -> Curl:
    """A cylinder whose nearest line crosses the code, which turns away by ``level.curl`` at most."""
    axis = int(rng.integers(0, 2))
    low, high = label.corners[0], label.corners[2]
    centre = low + rng.uniform(0.2, 0.8, 2) * (high - low)
    farthest = max(centre[axis] - low[axis], high[axis] - centre[axis])
    angle = rng.uniform(0.25, 1) * level.curl
    sag, shrink = float(rng.uniform(-0.35, 0.35)), float(rng.uniform(0, 0.3))
    return Curl(axis, (float(centre[0]), float(centre[1])), float(farthest / angle), sag, shrink)
