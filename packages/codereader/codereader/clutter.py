"""The surroundings of codes in generated photos: backgrounds, print, and look-alikes of codes."""

from __future__ import annotations

import string
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from codereader.optics import field

_LETTERS = np.array(list(string.ascii_letters + string.digits + "  .,:-/%&"))


@lru_cache(maxsize=64)
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font at ``size`` pixels."""
    return ImageFont.load_default(size)


def words(rng: np.random.Generator, length: int) -> str:
    """Random print of ``length`` characters."""
    return "".join(rng.choice(_LETTERS, length))


def background(rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """A grey scene without codes: smooth fields, grain, shapes and print."""
    base = rng.uniform(20, 235)
    grey = base + rng.uniform(0, 110) * (field(rng, width, height, int(rng.integers(2, 8))) - 0.5)
    if rng.random() < 0.7:
        grey += rng.uniform(0, 90) * (field(rng, width, height, int(rng.integers(12, 90))) - 0.5)
    image = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(0, 10))):
        _shape(rng, draw, width, height)
    for _ in range(int(rng.integers(0, 5))):
        size = int(rng.integers(9, 60))
        place = (float(rng.uniform(-40, width)), float(rng.uniform(0, height)))
        draw.text(place, words(rng, int(rng.integers(3, 30))), fill=int(rng.integers(0, 256)), font=font(size))
    return image


def _shape(rng: np.random.Generator, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
    shade = int(rng.integers(0, 256))
    centre = rng.uniform((0, 0), (width, height))
    reach = rng.uniform(10, 0.4 * width, 2)
    box = [*(centre - reach / 2), *(centre + reach / 2)]
    match int(rng.integers(0, 4)):
        case 0:
            draw.rectangle(box, fill=shade)
        case 1:
            draw.ellipse(box, fill=shade)
        case 2:
            draw.line([*centre, *rng.uniform((0, 0), (width, height))], fill=shade, width=int(rng.integers(1, 12)))
        case _:
            corners = centre + rng.uniform(-1, 1, (int(rng.integers(3, 6)), 2)) * reach / 2
            draw.polygon([tuple(corner) for corner in corners], fill=shade)


def decoy(rng: np.random.Generator) -> NDArray[np.uint8]:
    """The modules (1 = dark) of something that looks like a code but is not one of the kinds that are read."""
    match int(rng.integers(0, 6)):
        case 0:  # bars of random widths
            widths = rng.integers(1, 5, int(rng.integers(8, 60)))
            bars = np.repeat(np.arange(len(widths)) % 2 == 0, widths)
            return np.repeat(bars[None], int(rng.integers(15, 50)), axis=0).astype(np.uint8)
        case 1:  # even stripes: fences, vents, cloth
            bars = np.repeat(np.arange(int(rng.integers(6, 40))) % 2, int(rng.integers(1, 5)))
            return np.repeat(bars[None], int(rng.integers(10, 60)), axis=0).astype(np.uint8)
        case 2:  # random dots without finders
            size = int(rng.integers(12, 45))
            return (rng.random((size, size)) < rng.uniform(0.3, 0.6)).astype(np.uint8)
        case 3:  # chequers
            size, cell = int(rng.integers(4, 14)), int(rng.integers(1, 4))
            board = (np.add.outer(np.arange(size), np.arange(size)) % 2).astype(np.uint8)
            return np.kron(board, np.ones((cell, cell), dtype=np.uint8))
        case _:
            return _foreign_code(rng)


def _foreign_code(rng: np.random.Generator) -> NDArray[np.uint8]:
    import zxingcpp

    name = str(rng.choice(["Code128", "Code39", "ITF", "DataMatrix", "Aztec", "PDF417"]))
    payload = "".join(rng.choice(list(string.digits), 2 * int(rng.integers(3, 9))))
    code = zxingcpp.create_barcode(payload, getattr(zxingcpp.BarcodeFormat, name))
    modules = (np.array(code.to_image(scale=1, add_quiet_zones=False)) < 128).astype(np.uint8)
    if name == "PDF417":
        modules = np.repeat(modules, 3, axis=0)
    return modules[: int(rng.integers(20, 50))] if name in ("Code128", "Code39", "ITF") else modules
