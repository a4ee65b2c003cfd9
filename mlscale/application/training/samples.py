"""Training samples: sample i of a network is a pure function of (seed, i), so training resumes anywhere."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mlscale.application import crops, ean, generator, qr
from mlscale.application.crops import STRIDE
from mlscale.application.geometry import Points, expand, homography, project, rectangle
from mlscale.application.localiser import SHRINK
from mlscale.application.nets import STRIP_CLASSES
from mlscale.application.optics import recompressed

Arrays = tuple[NDArray[np.float32] | NDArray[np.int64], ...]
_MIX = (0.3, 0.4, 0.3)
"""Shares of the difficulties."""


def _rng(name: str, seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, sum(name.encode()), index])


def _difficulty(rng: np.random.Generator) -> str:
    return str(rng.choice(generator.DIFFICULTIES, p=_MIX))


def _inside(corners: Points) -> Points:
    """Points spread evenly over a quadrilateral."""
    at = (np.arange(12) + 0.5) / 12
    lattice = np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2)
    return project(homography(rectangle(1, 1), corners), lattice)


def angle_of(corners: Points) -> float:
    """Mean direction of a code's top and bottom sides in radians."""
    across = corners[1] - corners[0] + corners[2] - corners[3]
    return float(np.arctan2(across[1], across[0]))


def rough_box(rng: np.random.Generator, corners: Points, strength: float = 1.0) -> Points:
    """The box that a localiser with typical errors would find for a code with these ``corners``."""
    points = _inside(corners)
    angle = angle_of(corners) + strength * np.deg2rad(rng.normal(0, 2))
    box = crops.oriented_box(points, np.ones(len(points)), angle)
    centre = box.mean(axis=0)
    u, v = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    grow = 1 + strength * rng.uniform(-0.12, 0.06, 2)  # boxes are more often short than long
    shift = strength * rng.uniform(-0.05, 0.05, 2)
    signs = rectangle(2, 2, -1, -1)
    return np.asarray(centre + shift[0] * u + shift[1] * v + signs[:, :1] * grow[0] * u + signs[:, 1:] * grow[1] * v)


def localiser_sample(seed: int, index: int, batch: int) -> Arrays:
    """Input (1, h, w) and target maps (6, h / 4, w / 4): mostly small photos, since they cost least for the codes in
    them, every fourth batch a large one with codes up to its size."""
    rng = _rng("localiser", seed, index)
    large = batch % 4 == 3
    size = (480, 368) if large else (320, 256)
    zoom = 0.75 * float(np.exp(rng.uniform(*np.log((0.8, 1.8) if large else (0.6, 1.05)))))
    codes = None if large else int(rng.choice([0, 1, 2], p=[0.05, 0.65, 0.3]))
    kinds = (*generator.KINDS, "QR", "QR")  # they cover least and take longest to learn
    scene = generator.photo(rng, _difficulty(rng), width=size[0], height=size[1], kinds=kinds, zoom=zoom, codes=codes)
    seen = recompressed(scene.photo, scene.optics.jpeg_quality)
    return crops.normalised(seen)[None], localiser_target(scene.codes, size)


def localiser_target(codes: tuple[generator.Code, ...], size: tuple[int, int]) -> NDArray[np.float32]:
    """The maps that the localiser should draw for ``codes`` in an input of ``size`` (width, height)."""
    columns, rows = size[0] // STRIDE, size[1] // STRIDE
    target = np.zeros((6, rows, columns), dtype=np.float32)
    for code in codes:
        channel, fold = (1, 4) if code.kind == "QR" else (0, 2)
        fine = Image.new("L", (columns * 4, rows * 4))
        inner = expand(code.corners, -(1 - SHRINK) / 2) / STRIDE * 4 - 0.5
        ImageDraw.Draw(fine).polygon([tuple(corner) for corner in inner], fill=255)
        cover = np.asarray(fine.reduce(4), dtype=np.float32) / 255
        angle = fold * angle_of(code.corners)
        target[channel] = np.maximum(target[channel], cover)
        target[2 + 2 * channel][cover > 0] = np.cos(angle)
        target[3 + 2 * channel][cover > 0] = np.sin(angle)
    return target


def strip_sample(seed: int, index: int) -> Arrays:
    """Strips (3, 1, 16, 384) of one code and the class at each of their frames (3, 192)."""
    rng = _rng("strips", seed, index)
    scene = generator.close_up(rng, _difficulty(rng), str(rng.choice(["EAN13", "EAN8", "UPCA"], p=[0.4, 0.35, 0.25])))
    code = scene.codes[0]
    box = rough_box(rng, code.corners)
    turned = bool(rng.random() < 0.5)
    if turned:
        box = np.roll(box, 2, axis=0)
    quads = crops.strip_quads(box)
    inputs = np.stack([crops.strip(scene.photo, quad)[None] for quad in quads])
    return inputs, np.stack([strip_target(code, quad, turned) for quad in quads])


def strip_target(code: generator.Code, quad: Points, turned: bool) -> NDArray[np.int64]:
    """The symbol centred at each frame of a strip (192,); 40 where none is."""
    frames = crops.STRIP_WIDTH // 2
    x = (np.arange(frames) + 0.5) / frames
    middle = project(homography(rectangle(1, 1), quad), np.stack([x, np.full(frames, 0.5)], axis=1))
    along = project(homography(code.corners, rectangle(1, 1)), middle)[:, 0]
    drawn = ean.symbols(code.text)
    width = ean.MODULES[code.kind]
    target = np.full(frames, STRIP_CLASSES - 1, dtype=np.int64)
    seen_as = dict(zip("LGRQ", "QRGL" if turned else "LGRQ", strict=True))
    for (symbol_set, digit), centre in zip(drawn, ean.digit_centres(len(drawn)), strict=True):
        near = np.abs(along - centre) * width < 1.4
        target[near] = 10 * ean.SETS.index(seen_as[symbol_set]) + digit
    return target


def grid_sample(seed: int, index: int) -> Arrays:
    """Two crops (2, 1, 128, 128) of one QR code, a rough and a nearly right one; where its corners are (2, 8); its
    version less one (2,)."""
    rng = _rng("grids", seed, index)
    scene = generator.close_up(rng, _difficulty(rng), "QR")
    code = scene.codes[0]
    turn = int(rng.integers(0, 4))
    truth = np.roll(code.corners, turn, axis=0)
    side = float(np.linalg.norm(truth[1] - truth[0]))
    assumed = (
        rough_box(rng, truth, float(rng.choice([1.0, 2.0, 4.0]))),
        truth + rng.normal(0, rng.uniform(0.005, 0.025), (4, 2)) * side,
    )
    inputs = np.stack([crops.grid(scene.photo, corners)[None] for corners in assumed])
    targets = np.stack(
        [(project(homography(corners, rectangle(1, 1)), truth) - rectangle(1, 1)).ravel() for corners in assumed]
    )
    return inputs, targets.astype(np.float32), np.full(2, code.version - 1, dtype=np.int64)


def module_sample(seed: int, index: int, version: int) -> Arrays:
    """A crop (1, 4 (n + 4), 4 (n + 4)) of a QR code of ``version`` with nearly right corners, and its matrix (n, n)."""
    rng = _rng("modules", seed, index)
    scene = generator.close_up(rng, _difficulty(rng), "QR", version)
    code = scene.codes[0]
    assert code.modules is not None
    size = qr.size_of(version)
    turn = int(rng.integers(0, 4))
    corners = np.roll(code.corners, turn, axis=0)
    module = float(np.linalg.norm(corners[1] - corners[0])) / size
    corners = corners + rng.normal(0, rng.uniform(0.05, 0.45), (4, 2)) * module
    return crops.module_crop(scene.photo, corners, size)[None], np.rot90(code.modules, -turn).astype(np.float32)
