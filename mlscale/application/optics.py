"""What a camera does to a scene: light, lens, motion, sensor, JPEG. Greys are float32 (height, width), 0 to 255."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.float32]


@dataclass(frozen=True)
class Optics:
    """One exposure.

    Attributes:
        light: strength of the uneven light, 0 (even) to 1.
        blur_px: sigma of the lens blur.
        motion_px: length of the motion blur.
        noise: sigma of the sensor noise in grey levels.
        jpeg_quality: 1 to 95.
    """

    light: float
    blur_px: float
    motion_px: float
    noise: float
    jpeg_quality: int


def field(rng: np.random.Generator, width: int, height: int, cells: int) -> Grey:
    """A smooth random field in [0, 1], ``cells`` knots across its longer side."""
    columns = max(2, round(cells * width / max(width, height)))
    rows = max(2, round(cells * height / max(width, height)))
    knots = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
    smooth = knots.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / np.float32(255)


def expose(rng: np.random.Generator, scene: Image.Image, optics: Optics) -> Image.Image:
    """The grey photo of a grey ``scene``, before compression."""
    if optics.blur_px > 0.15:
        scene = scene.filter(ImageFilter.GaussianBlur(optics.blur_px))
    grey = np.asarray(scene, dtype=np.float32)
    if optics.light > 0:
        light = 1 - optics.light * field(rng, scene.width, scene.height, int(rng.integers(2, 5)))
        grey = grey * light * np.float32(1 + optics.light / 2)
    if optics.motion_px >= 1.5:
        grey = _smear(grey, optics.motion_px, float(rng.uniform(0, np.pi)))
    if optics.noise > 0:
        grey = grey + optics.noise * rng.standard_normal(grey.shape, dtype=np.float32)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def _smear(grey: Grey, length_px: float, angle: float) -> Grey:
    steps = int(np.ceil(length_px)) + 1
    total = np.zeros_like(grey)
    for along in np.linspace(-length_px / 2, length_px / 2, steps):
        shift = (round(along * np.sin(angle)), round(along * np.cos(angle)))
        total += np.roll(grey, shift, axis=(0, 1))
    return total / np.float32(steps)


def compress(photo: Image.Image, quality: int) -> bytes:
    """The photo as JPEG."""
    buffer = io.BytesIO()
    photo.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def recompressed(photo: Image.Image, quality: int) -> Image.Image:
    """The grey photo as it looks after JPEG."""
    with Image.open(io.BytesIO(compress(photo, quality))) as image:
        return image.convert("L")


def tint(rng: np.random.Generator, photo: Image.Image) -> Image.Image:
    """The grey photo in the colours of a random scene; its luma stays."""
    chroma = [
        Image.fromarray(np.asarray(128 + 50 * (field(rng, photo.width, photo.height, 4) - 0.5), dtype=np.uint8))
        for _ in range(2)
    ]
    return Image.merge("YCbCr", (photo, *chroma)).convert("RGB")
