"""From a request's bytes to a grey photo, or to the reason why they are refused."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image, UnidentifiedImageError

from codereader.errors import BadPhoto

MAX_BYTES = 10_000_000
MAX_PIXELS = 25_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM")
_WORKING_SIDE = 2000
_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    OverflowError,
    EOFError,
    AttributeError,
    AssertionError,  # Pillow's, if the palette is missing
)


@dataclass(frozen=True)
class Photo:
    """A photo as the models see it.

    Attributes:
        grey: mode L, upright by EXIF orientation, longer side about 2000 pixels at most.
        size: (width, height) of the upright photo that was sent.
    """

    grey: Image.Image
    size: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Sent pixels per working pixel in x and y."""
        return self.size[0] / self.grey.width, self.size[1] / self.grey.height


def open_photo(body: bytes) -> Photo:
    """The photo in ``body``: JPEG, PNG, WebP, GIF or BMP; grey, colour, CMYK, palette, alpha (on white), 16 bit.

    Raises:
        BadPhoto: 400 empty or truncated, 413 too large, 415 not an image or animated, 422 damaged.
    """
    if not body:
        raise BadPhoto("the body is empty", 400)
    if len(body) > MAX_BYTES:
        raise BadPhoto(f"the photo has more than {MAX_BYTES} bytes", 413)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # broken EXIF is ignored, sizes are checked here
        with _opened(body) as image:
            return _load(image)


def _opened(body: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(body), formats=FORMATS)
    except UnidentifiedImageError:
        if body.startswith(_SIGNATURES):
            raise BadPhoto("the image is truncated or damaged", 400) from None
        raise BadPhoto("not an image in a format we read (JPEG, PNG, WebP, GIF, BMP)", 415) from None
    except Image.DecompressionBombError:
        raise BadPhoto(f"the photo has more than {MAX_PIXELS} pixels", 413) from None
    except (*_BROKEN, struct.error, zlib.error):
        raise BadPhoto("the image is truncated or damaged", 400) from None


def _load(image: Image.Image) -> Photo:
    if image.width * image.height > MAX_PIXELS:
        raise BadPhoto(f"the photo has {image.width} x {image.height} pixels, more than {MAX_PIXELS} in all", 413)
    try:
        if image.format in ("PNG", "WEBP", "GIF") and getattr(image, "is_animated", False):  # n_frames seeks them all
            raise BadPhoto("the image is animated; send a single photo", 415)
        size = image.size
        image.draft("L", (_WORKING_SIDE, _WORKING_SIDE))
        image.load()
        orientation = _orientation(image)
        grey = _grey(image)
    except BadPhoto:
        raise
    except MemoryError:
        raise BadPhoto("the image needs too much memory", 413) from None
    except (*_BROKEN, struct.error, zlib.error) as error:
        if "truncated" in str(error) or isinstance(error, EOFError):
            raise BadPhoto("the image is truncated", 400) from None
        raise BadPhoto("the image's data are damaged", 422) from None
    factor = -(-max(grey.size) // _WORKING_SIDE)
    if factor > 1:
        grey = grey.reduce((min(factor, grey.width), min(factor, grey.height)))
    if orientation in _TRANSPOSE:
        grey = grey.transpose(_TRANSPOSE[orientation])
        size = size[::-1] if orientation >= 5 else size
    return Photo(grey, size)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION, 1))
    except (*_BROKEN, struct.error):
        return 1  # a photo with broken EXIF is still a photo


def _grey(image: Image.Image) -> Image.Image:
    if image.mode == "L" and not image.has_transparency_data:
        return image
    if image.mode.startswith(("I", "F")):  # 16 bit
        deep = np.asarray(image, dtype=np.float32)
        full = 65535 if deep.max(initial=0) > 255 else 255
        return Image.fromarray(np.clip(deep * (255 / full), 0, 255).astype(np.uint8))
    if image.has_transparency_data:
        colour = image.convert("RGBA")
        paper = Image.new("RGBA", colour.size, "white")
        return Image.alpha_composite(paper, colour).convert("L")
    return image.convert("L" if image.mode in ("1", "RGB") else "RGB").convert("L")
