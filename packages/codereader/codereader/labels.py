"""Printed labels with one code each, seen straight on: paper, ink, spread of the print, style, digits, add-ons."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from codereader import ean, payloads
from codereader.clutter import decoy, font, words
from codereader.geometry import Points, rectangle

# Canvas pixels per module.
SCALE = 4
_DIGITS_BELOW = 11
# Side of a logo as a share of the code's, by correction level: the most that can be corrected.
_LARGEST_LOGO = {"Q": 0.22, "H": 0.28}


@dataclass(frozen=True)
class Print:
    """How a code is printed.

    Attributes:
        paper, ink: grey levels; ink is lighter than paper where the code is inverted.
        spread: how far ink runs over an edge, in modules; negative where it stays back.
        dots: a QR code's data are dots instead of squares.
        logo: side of a patch over a QR code's middle, as a share of its side.
    """

    paper: float
    ink: float
    spread: float = 0.0
    dots: bool = False
    logo: float = 0.0

    @property
    def inverted(self) -> bool:
        return self.ink > self.paper


@dataclass(frozen=True)
class Label:
    """A canvas with a code at ``corners`` (4, 2), and what the code is; ``modules`` are bars (rows, n) or a matrix."""

    canvas: Image.Image
    corners: Points
    kind: str
    text: str
    version: int
    modules: NDArray[np.uint8]
    inverted: bool


@dataclass(frozen=True)
class PrintRange:
    """Ranges of prints: least contrast in grey levels, largest spread in modules, shares of labels that are
    inverted and that are styled (dots, logos), least quiet zone as a share of the standard's."""

    contrast: float
    spread: float
    inverted: float
    styled: float
    quiet: float


def draw_label(rng: np.random.Generator, prints: PrintRange, kind: str, version: int | None = None) -> Label:
    """A label with one code of ``kind`` (QR: of ``version``) and some print around it."""
    if kind == "QR":
        return _qr_label(rng, prints, version)
    text = payloads.number(rng, kind)
    bars = ean.modules(kind, text)
    rows = max(12, int(rng.uniform(0.2, 0.85) * len(bars)))
    quiet = round(9 * rng.uniform(prints.quiet, 1.3))
    add_on = None
    if kind in ("EAN13", "UPCA") and rng.random() < 0.12:
        add_on = ean.add_on("".join(str(digit) for digit in rng.integers(0, 10, int(rng.choice([2, 5])))))
    right = quiet if add_on is None else quiet + len(add_on) + 5
    look = _draw_print(rng, prints)
    label = _Canvas(rng, look, np.repeat(bars[None], rows, axis=0), (quiet, 3, right, _DIGITS_BELOW))
    if add_on is not None:
        label.stamp(np.repeat(add_on[None], max(8, rows - 8), axis=0), (len(bars) + quiet, 8))
    if rng.random() < 0.9:
        label.write_digits(kind, text, bars)
    return Label(label.finished(), label.corners, kind, text, 0, label.modules, look.inverted)


def decoy_label(rng: np.random.Generator, prints: PrintRange) -> Label:
    """A label with something that looks like a code but is not one."""
    margins = tuple(int(side) for side in rng.integers(0, 8, 4))
    look = _draw_print(rng, prints)
    label = _Canvas(rng, look, decoy(rng), (margins[0], margins[1], margins[2], margins[3]))
    return Label(label.finished(), label.corners, "decoy", "", 0, label.modules, look.inverted)


def _qr_label(rng: np.random.Generator, prints: PrintRange, version: int | None) -> Label:
    styled = rng.random() < prints.styled
    logo = styled and rng.random() < 0.5
    code = payloads.qr_code(rng, version, str(rng.choice(["Q", "H"])) if logo else None)
    quiet = max(1, round(4 * rng.uniform(prints.quiet, 1.3)))
    look = _draw_print(
        rng,
        prints,
        dots=styled and (not logo or rng.random() < 0.3),
        logo=float(rng.uniform(0.1, _LARGEST_LOGO[code.level])) if logo else 0.0,
    )
    label = _Canvas(rng, look, code.matrix, (quiet, quiet, quiet, quiet))
    if look.logo:
        label.paint_logo()
    return Label(label.finished(), label.corners, "QR", code.text, code.version, code.matrix, look.inverted)


def _draw_print(rng: np.random.Generator, prints: PrintRange, *, dots: bool = False, logo: float = 0.0) -> Print:
    light = float(rng.uniform(max(100, prints.contrast + 5), 255))
    dark = float(rng.uniform(0, min(90, light - prints.contrast)))
    inverted = rng.random() < prints.inverted
    paper, ink = (dark, light) if inverted else (light, dark)
    return Print(paper, ink, float(rng.uniform(0 if dots else -0.6, 1) * prints.spread), dots, logo)


class _Canvas:
    """A label in the making. ``margins``: modules of paper that the code needs at its left, top, right and bottom."""

    def __init__(
        self, rng: np.random.Generator, look: Print, modules: NDArray[np.uint8], margins: tuple[int, int, int, int]
    ) -> None:
        self._rng, self._look, self.modules = rng, look, modules
        rows, columns = modules.shape
        extra = rng.integers(0, 16, 4)  # more label on each side
        self._left, self._top = margins[0] + int(extra[0]), margins[1] + int(extra[1])
        width = self._left + columns + margins[2] + int(extra[2])
        height = self._top + rows + margins[3] + int(extra[3])
        self._room_above = int(extra[1])
        self._cover = np.zeros((height * SCALE, width * SCALE), dtype=np.float32)
        self._put(_cover_of(modules, dots=look.dots), self._left, self._top)
        self._extra: list[tuple[float, float, str, int]] = []
        self.corners = rectangle(columns, rows, self._left, self._top) * SCALE
        self._logo: Image.Image | None = None

    def stamp(self, modules: NDArray[np.uint8], place: tuple[int, int]) -> None:
        """Adds further modules, (column, row) from the code's own corner."""
        self._put(_cover_of(modules), self._left + place[0], self._top + place[1])

    def write_digits(self, kind: str, text: str, bars: NDArray[np.uint8]) -> None:
        """The digits below the bars, and the guard bars' tails between them."""
        rows, width = self.modules.shape
        guards = (0, 2, 46, 48, 50) if kind == "UPCE" else (0, 2, width // 2 - 1, width // 2 + 1, width - 3, width - 1)
        bottom = self._top + rows
        for module in guards:
            self._put(np.ones((5 * SCALE, SCALE), dtype=np.float32), self._left + module, bottom)
        count = ean.DRAWN[kind]
        before = text[: 0 if kind == "EAN8" else len(text) - 7 if kind == "UPCE" else len(text) - count]
        drawn = text[len(before) : len(before) + count]
        self._extra.append((self._left - 8, bottom + 1, before, 9))
        for share, digit in zip(ean.digit_centres(count), drawn, strict=True):
            self._extra.append((self._left + share * len(bars) - 2.5, bottom + 1, digit, 9))
        if kind == "UPCE":
            self._extra.append((self._left + width + 3, bottom + 1, text[7], 9))

    def paint_logo(self) -> None:
        """A picture over the middle of a QR code, which its error correction has to fix."""
        rng, side = self._rng, max(2, round(self._look.logo * self.modules.shape[0] * SCALE))
        logo = Image.new("L", (side, side), int(self._look.paper))
        draw = ImageDraw.Draw(logo)
        for _ in range(int(rng.integers(1, 4))):
            box = [*sorted(rng.uniform(0, side, 2)), *sorted(rng.uniform(0, side, 2))]
            shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
            shape([box[0], box[2], box[1], box[3]], fill=int(rng.integers(0, 256)))
        self._logo = logo

    def finished(self) -> Image.Image:
        """The label: ink on paper, with print around the code."""
        rng, look = self._rng, self._look
        grey = look.paper + (look.ink - look.paper) * _spread(self._cover, look.spread)
        canvas = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(canvas)
        ink = int(look.ink)
        for x, y, text, size in self._extra:
            draw.text((x * SCALE, y * SCALE), text, fill=ink, font=font(size * SCALE))
        if self._logo is not None:
            place = self.corners.mean(axis=0) - self._logo.width / 2
            canvas.paste(self._logo, (int(place[0]), int(place[1])))
        if self._room_above >= 9:
            draw.text((SCALE, SCALE), words(rng, int(rng.integers(4, 24))), fill=ink, font=font(7 * SCALE))
        if rng.random() < 0.2:
            draw.rectangle([0, 0, canvas.width - 1, canvas.height - 1], outline=ink, width=SCALE)
        return canvas

    def _put(self, cover: NDArray[np.float32], column: float, row: float) -> None:
        x, y = int(column * SCALE), int(row * SCALE)
        place = self._cover[y : y + cover.shape[0], x : x + cover.shape[1]]
        np.maximum(place, cover[: place.shape[0], : place.shape[1]], out=place)


def _cover_of(modules: NDArray[np.uint8], *, dots: bool = False) -> NDArray[np.float32]:
    """Ink, 0 to 1, `SCALE` pixels a module. Dots leave a QR code's finder patterns whole."""
    tile = np.ones((SCALE, SCALE), dtype=np.float32)
    cover = np.kron(modules, tile).astype(np.float32)
    if dots:
        at = (np.arange(SCALE) + 0.5) / SCALE - 0.5
        disc = np.clip(1.85 - 3 * np.hypot(at[:, None], at[None]), 0, 1).astype(np.float32)
        dotted = np.kron(modules, disc).astype(np.float32)
        size, finder = modules.shape[0] * SCALE, 7 * SCALE
        for rows, columns in (
            (slice(0, finder), slice(0, finder)),
            (slice(0, finder), slice(size - finder, size)),
            (slice(size - finder, size), slice(0, finder)),
        ):
            dotted[rows, columns] = cover[rows, columns]
        cover = dotted
    return cover


def _spread(cover: NDArray[np.float32], modules: float) -> NDArray[np.float32]:
    """The ink with its edges moved outwards by ``modules``: blurred, then thresholded off the middle level."""
    if abs(modules) < 0.02:
        return cover
    sigma = 0.3 * SCALE
    blurred = np.asarray(Image.fromarray((cover * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(sigma)))
    level = 0.5 - np.clip(modules / 0.3, -1, 1) * 0.34  # a blurred edge has this level so far out
    steep = (blurred.astype(np.float32) / 255 - level) * 3 + 0.5
    return np.asarray(np.clip(steep, 0, 1), dtype=np.float32)
