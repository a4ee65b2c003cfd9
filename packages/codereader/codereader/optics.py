"""Effects of light and camera on a scene: shadow, glare, lens, motion, sensor, JPEG.

Greys are float32 (height, width), 0 to 255.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Grey = NDArray[np.float32]
_LARGEST_DISC_PX = 4.0


@dataclass(frozen=True)
class Optics:
    """One exposure.

    Attributes:
        light: strength of the uneven light, 0 (even) to 1.
        blur_px: sigma of the lens blur.
        motion_px: length of the motion blur.
        noise: sigma of the sensor noise in grey levels.
        jpeg_quality: 1 to 95.
        shadow: depth of a shadow's edge across the scene, 0 (none) to 1.
        glare: strength of reflections, in shares of full white; 0 is none.
        defocus: whether the blur is a disc (out of focus) instead of a Gaussian.
    """

    light: float
    blur_px: float
    motion_px: float
    noise: float
    jpeg_quality: int
    shadow: float = 0.0
    glare: float = 0.0
    defocus: bool = False


def field(rng: np.random.Generator, width: int, height: int, cells: int) -> Grey:
    """A smooth random field in [0, 1], ``cells`` knots across its longer side."""
    columns = max(2, round(cells * width / max(width, height)))
    rows = max(2, round(cells * height / max(width, height)))
    knots = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
    smooth = knots.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) / np.float32(255)


def expose(rng: np.random.Generator, scene: Image.Image, optics: Optics) -> Image.Image:
    """The grey photo of a grey ``scene``, before compression."""
    grey = np.asarray(scene, dtype=np.float32)
    if optics.light > 0:
        light = 1 - optics.light * field(rng, scene.width, scene.height, int(rng.integers(2, 5)))
        grey = grey * light * np.float32(1 + optics.light / 2)
    if optics.shadow > 0:
        grey = grey * _shadow(rng, scene.width, scene.height, optics.shadow)
    if optics.glare > 0:
        shine = _streak if rng.random() < 0.4 else _reflections
        grey = grey + 255 * optics.glare * shine(rng, scene.width, scene.height)
    if optics.blur_px > 0.15:
        grey = _disc_blurred(grey, 2 * optics.blur_px) if optics.defocus else _softened(grey, optics.blur_px)
    if optics.motion_px >= 1.5:
        grey = _smear(grey, optics.motion_px, float(rng.uniform(0, np.pi)))
    if optics.noise > 0:
        grey = grey + optics.noise * rng.standard_normal(grey.shape, dtype=np.float32)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))


def _softened(grey: Grey, sigma: float) -> Grey:
    # Clipped to white first, as a sensor does; Pillow's 8 bits could not hold more anyway.
    clipped = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8))
    return np.asarray(clipped.filter(ImageFilter.GaussianBlur(sigma)), dtype=np.float32)


def _disc_blurred(grey: Grey, radius: float) -> Grey:
    """The mean over a disc of ``radius`` pixels: what a point becomes out of focus. Large discs are taken on a coarser
    picture, since nothing finer is left anyway."""
    factor = int(radius / _LARGEST_DISC_PX) + 1
    if factor > 1:
        height, width = grey.shape
        coarse = Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).reduce(factor)
        blurred = _disc_blurred(np.asarray(coarse, dtype=np.float32), radius / factor)
        back = Image.fromarray(np.clip(blurred, 0, 255).astype(np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        return np.asarray(back, dtype=np.float32)
    reach = int(np.ceil(radius))
    at = np.arange(-reach, reach + 1)
    weight = np.clip(radius + 0.5 - np.hypot(at[:, None], at[None]), 0, 1)
    padded = np.pad(grey, reach, mode="edge")
    total = np.zeros_like(grey)
    for row, column in zip(*np.nonzero(weight), strict=True):
        part = padded[row : row + grey.shape[0], column : column + grey.shape[1]]
        total += np.float32(weight[row, column]) * part
    return total / np.float32(weight.sum())


def _shadow(rng: np.random.Generator, width: int, height: int, depth: float) -> Grey:
    """1 on one side of a random line, 1 - ``depth`` on the other, with a soft edge."""
    turn = rng.uniform(0, 2 * np.pi)
    x = np.arange(width, dtype=np.float32)[None] - np.float32(rng.uniform(0.2, 0.8) * width)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(rng.uniform(0.2, 0.8) * height)
    across = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) / np.float32(rng.uniform(1, 30))
    return np.asarray(1 - depth / (1 + np.exp(np.clip(across, -30, 30))), dtype=np.float32)


def _reflections(rng: np.random.Generator, width: int, height: int) -> Grey:
    """Bright patches like reflections from foil and gloss: stretched bumps, sharp where a field is near its maximum."""
    bumps = field(rng, width, height, int(rng.integers(3, 14)))
    sharpness = float(rng.uniform(4, 16))
    level = float(np.quantile(bumps[::4, ::4], rng.uniform(0.75, 0.97)))
    return np.asarray(1 / (1 + np.exp(np.clip(-sharpness * (bumps - level) * 4, -30, 30))), dtype=np.float32)


def _streak(rng: np.random.Generator, width: int, height: int) -> Grey:
    """A band of light like a reflection from a can or bottle: white in the middle, fading far to both sides."""
    turn = rng.uniform(0, np.pi)
    x = np.arange(width, dtype=np.float32)[None] - np.float32(rng.uniform(0.1, 0.9) * width)
    y = np.arange(height, dtype=np.float32)[:, None] - np.float32(rng.uniform(0.1, 0.9) * height)
    across = (x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))) / np.float32(min(width, height))
    narrow, wide = rng.uniform(0.03, 0.2), rng.uniform(0.3, 1.0)
    veil = np.float32(rng.uniform(0.3, 0.8))
    return np.asarray(
        (1 - veil) * np.exp(-((across / narrow) ** 2)) + veil * np.exp(-((across / wide) ** 2)), dtype=np.float32
    )


def _smear(grey: Grey, length_px: float, angle: float) -> Grey:
    steps = int(np.ceil(length_px)) + 1
    reach = int(np.ceil(length_px / 2)) + 1
    padded = np.pad(grey, reach, mode="edge")
    total = np.zeros_like(grey)
    for along in np.linspace(-length_px / 2, length_px / 2, steps):
        row, column = reach + round(along * np.sin(angle)), reach + round(along * np.cos(angle))
        total += padded[row : row + grey.shape[0], column : column + grey.shape[1]]
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
