"""Training samples: sample i of a network is a pure function of (seed, i), so training can resume at any step."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from codereader import crops, ean, generator, qr, sheets
from codereader.crops import STRIDE
from codereader.geometry import Points, homography, project, rectangle
from codereader.localiser import SHRINK
from codereader.nets import STRIP_CLASSES
from codereader.optics import recompressed
from codereader.placements import FRAMES

Arrays = tuple[NDArray[np.float32] | NDArray[np.int64], ...]
Mix = Mapping[str, float]
# Shares of the difficulties for the localiser.
_MIX: Mix = {"easy": 0.2, "medium": 0.3, "hard": 0.35, "harsh": 0.15}
# The same for the readers, which learn nothing from easy ones after a few steps.
_READ_MIX: Mix = {"easy": 0.05, "medium": 0.15, "hard": 0.55, "harsh": 0.25}
# Shares of the symbologies: an EAN-13 teaches twelve symbols, a UPC-E six.
_BARS = {"EAN13": 0.25, "EAN8": 0.25, "UPCA": 0.17, "UPCE": 0.33}
# Share of the grid finder's and the strip reader's samples that are look-alikes.
_DECOYS = 0.12
# Share of the strip reader's samples that are inverted.
_EXCHANGED = 0.08
_WITH_ADD_ON, _ADD_ON = 0.2, (0.25, 0.65)
"""Share of boxes around twelve digits that include room for an add-on, and how much wider they are."""
# Class of frames that the loss ignores, in strips that only teach whether there is a code.
UNTAUGHT = -100
# From codes in a large photo to codes that fill a small one.
_LOCALISER_MODULES_PX = (0.6, 12.0)
_TURNED = dict(zip("LGRQ", "QRGL", strict=True))


def _rng(name: str, seed: int, index: int) -> np.random.Generator:
    return np.random.default_rng([seed, sum(name.encode()), index])


def _difficulty(rng: np.random.Generator, mix: Mix = _MIX) -> str:
    return str(rng.choice(list(mix), p=list(mix.values())))


def _inside(code: generator.Code) -> Points:
    """Points spread evenly over a code."""
    at = (np.arange(12) + 0.5) / 12
    return code.see(np.stack(np.meshgrid(at, at), axis=-1).reshape(-1, 2))


def angle_of(corners: Points) -> float:
    """Mean direction of a code's top and bottom sides in radians."""
    across = corners[1] - corners[0] + corners[2] - corners[3]
    return float(np.arctan2(across[1], across[0]))


def rough_box(rng: np.random.Generator, code: generator.Code, turn: int = 0, strength: float = 1.0) -> Points:
    """The box that a localiser with typical errors would find for ``code``, its corners ``turn`` places on."""
    points = _inside(code)
    angle = angle_of(np.roll(code.corners, turn, axis=0)) + strength * np.deg2rad(rng.normal(0, 2))
    box = crops.oriented_box(points, np.ones(len(points)), angle)
    centre = box.mean(axis=0)
    u, v = (box[1] - box[0]) / 2, (box[3] - box[0]) / 2
    grow = 1 + strength * rng.uniform(-0.12, 0.08, 2)  # boxes are more often short than long
    shift = strength * rng.uniform(-0.05, 0.05, 2)
    signs = rectangle(2, 2, -1, -1)
    return np.asarray(centre + shift[0] * u + shift[1] * v + signs[:, :1] * grow[0] * u + signs[:, 1:] * grow[1] * v)


def localiser_sample(seed: int, index: int, batch: int) -> Arrays:
    """Input (1, h, w) and target maps (6, h / 4, w / 4). Most photos are small, since these take least time per code;
    every third batch has large ones, every sixth square ones that a code fills. The smallest codes can just be made
    out."""
    rng = _rng("localiser", seed, index)
    if batch % 6 == 1:
        side = (crops.FARTHER_SIDE, 384)[batch // 6 % 2]
        filled = generator.filled(rng, _difficulty(rng), str(rng.choice(generator.KINDS)), side)
        return crops.normalised(filled.photo)[None], localiser_target(filled.codes, (side, side))
    large = batch % 6 in (3, 5)
    size = (480, 368) if large else (320, 256)
    codes = None if large else int(rng.choice([0, 1, 2], p=[0.05, 0.65, 0.3]))
    kinds = (*generator.KINDS, "QR", "QR")  # they cover least and take longest to learn
    scene = generator.photo(
        rng, _difficulty(rng), width=size[0], height=size[1], kinds=kinds, codes=codes, module_px=_LOCALISER_MODULES_PX
    )
    pixels = recompressed(scene.photo, scene.optics.jpeg_quality)
    return crops.normalised(pixels)[None], localiser_target((*scene.codes, *scene.cut), size)


def localiser_target(codes: tuple[generator.Code, ...], size: tuple[int, int]) -> NDArray[np.float32]:
    """The maps that the localiser should draw for ``codes`` in an input of ``size`` (width, height)."""
    columns, rows = size[0] // STRIDE, size[1] // STRIDE
    target = np.zeros((6, rows, columns), dtype=np.float32)
    for code in codes:
        channel, fold = (1, 4) if code.kind == "QR" else (0, 2)
        fine = Image.new("L", (columns * 4, rows * 4))
        inner = code.see(_edge((1 - SHRINK) / 2)) / STRIDE * 4 - 0.5
        ImageDraw.Draw(fine).polygon([tuple(corner) for corner in inner], fill=255)
        cover = np.asarray(fine.reduce(4), dtype=np.float32) / 255
        angle = fold * angle_of(code.corners)
        target[channel] = np.maximum(target[channel], cover)
        target[2 + 2 * channel][cover > 0] = np.cos(angle)
        target[3 + 2 * channel][cover > 0] = np.sin(angle)
    return target


def _edge(inset: float) -> Points:
    """Points around a code, ``inset`` inside of its sides, in shares of them."""
    corners = rectangle(1 - 2 * inset, 1 - 2 * inset, inset, inset)
    steps = np.linspace(0, 1, 6, endpoint=False)[:, None]
    return np.concatenate([a + (b - a) * steps for a, b in zip(corners, np.roll(corners, -1, axis=0), strict=True)])


def strip_sample(seed: int, index: int) -> Arrays:
    """Strips (3, 1, 16, 384) of one code, dark on light, the class at each of their frames (3, 192), and whether there
    is a code (3,): some only look like one (`_DECOYS`)."""
    rng = _rng("strips", seed, index)
    is_code = bool(rng.random() >= _DECOYS)
    kind = str(rng.choice(list(_BARS), p=list(_BARS.values()))) if is_code else "decoy"
    code = (scene := generator.close_up(rng, _difficulty(rng, _READ_MIX), kind)).codes[0]
    turned = bool(rng.random() < 0.5)
    box = rough_box(rng, code, 2 if turned else 0)
    if ean.DRAWN.get(kind) == 12 and rng.random() < _WITH_ADD_ON:
        more = float(rng.uniform(*_ADD_ON))
        box = project(homography(rectangle(1, 1), box), rectangle(1 + more, 1, -more if turned else 0))
    quads = crops.strip_quads(box, int(rng.integers(0, len(crops.STRIP_PLACES))))
    exchanged = bool(rng.random() < _EXCHANGED)
    inputs = np.stack([crops.strip(scene.photo, quad)[None] for quad in quads])
    inputs *= np.float32(-1 if code.inverted != exchanged else 1)
    if is_code and not exchanged:
        target = np.stack([strip_target(code, quad, turned) for quad in quads])
    else:
        target = np.full((len(quads), FRAMES), UNTAUGHT)
    return inputs, target, np.full(len(quads), is_code, dtype=np.float32)


def strip_target(code: generator.Code, quad: Points, turned: bool) -> NDArray[np.int64]:
    """The symbol that is seen centred at each frame of a strip (192,); 40 where none is."""
    x = (np.arange(FRAMES) + 0.5) / FRAMES
    middle = project(homography(rectangle(1, 1), quad), np.stack([x, np.full(FRAMES, 0.5)], axis=1))
    along = code.unit(middle)[:, 0]
    drawn = ean.symbols(code.kind, code.text)
    width = ean.MODULES[code.kind]
    target = np.full(FRAMES, STRIP_CLASSES - 1, dtype=np.int64)
    for (symbol_set, digit), centre in zip(drawn, ean.digit_centres(len(drawn)), strict=True):
        seen_as = _TURNED[symbol_set] if turned else symbol_set
        target[np.abs(along - centre) * width < 1.4] = 10 * ean.SETS.index(seen_as) + digit
    return target


def _turned_shares(shares: Points, turn: int) -> Points:
    """Shares of a code's sides, for shares of the same code that is taken to begin ``turn`` corners on."""
    unit = rectangle(1, 1)
    return project(homography(unit, np.roll(unit, turn, axis=0)), shares)


def grid_sample(seed: int, index: int) -> Arrays:
    """Two crops (2, 1, 224, 224) of one QR code, a rough and a nearly right one; where its sheet's points are (2, 18);
    its version less one (2,). Some show what only looks like one (`_DECOYS`): its version is `qr.MAX_VERSION`, its
    points are 0."""
    rng = _rng("grids", seed, index)
    if rng.random() < _DECOYS:
        return _decoy_sample(rng)
    scene = generator.close_up(rng, _difficulty(rng, _READ_MIX), "QR")
    code = scene.codes[0]
    turn = int(rng.integers(0, 4))
    points = code.see(_turned_shares(sheets.lattice(), turn))
    truth = points[[0, 2, 8, 6]]
    side = float(np.linalg.norm(truth[1] - truth[0]))
    assumed = (
        rough_box(rng, code, turn, float(rng.choice([1.0, 2.0, 4.0]))),
        truth + rng.normal(0, rng.uniform(0.005, 0.025), (4, 2)) * side,
    )
    inputs = np.stack([crops.grid(scene.photo, corners)[None] for corners in assumed])
    targets = np.stack([_offsets(points, corners).ravel() for corners in assumed])
    return inputs, targets.astype(np.float32), np.full(2, code.version - 1, dtype=np.int64)


def _decoy_sample(rng: np.random.Generator) -> Arrays:
    """A `grid_sample` of something that is not a QR code."""
    scene = generator.close_up(rng, _difficulty(rng, _READ_MIX), "decoy")
    assumed = [rough_box(rng, scene.codes[0], int(rng.integers(0, 4)), strength) for strength in (1.0, 2.0)]
    inputs = np.stack([crops.grid(scene.photo, corners)[None] for corners in assumed])
    return inputs, np.zeros((2, 18), dtype=np.float32), np.full(2, qr.MAX_VERSION, dtype=np.int64)


def _offsets(points: Points, corners: Points) -> Points:
    """How far the nine ``points`` of a sheet lie from the lattice of the plane that ``corners`` span."""
    return project(homography(corners, rectangle(1, 1)), points) - sheets.lattice()


def module_sample(seed: int, index: int, version: int) -> Arrays:
    """A crop (1, 4 (n + 4), 4 (n + 4)) of a QR code of ``version`` by a nearly right sheet, and what of it is dark
    (n, n)."""
    rng = _rng("modules", seed, index)
    scene = generator.close_up(rng, _difficulty(rng, _READ_MIX), "QR", version)
    code = scene.codes[0]
    size = qr.size_of(version)
    turn = int(rng.integers(0, 4))
    points = code.see(_turned_shares(sheets.lattice(), turn))
    module = float(np.linalg.norm(points[2] - points[0])) / size
    points = points + rng.normal(0, rng.uniform(0.05, 0.4), (9, 2)) * module
    corners = points[[0, 2, 8, 6]]
    sheet = sheets.Sheet(corners, _offsets(points, corners))
    dark = 1 - code.modules if code.inverted else code.modules
    return sheet.module_crop(scene.photo, size)[None], np.rot90(dark, -turn).astype(np.float32)
