"""Images as bytes, in whatever format and with whatever note a test wants."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
from PIL import Image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def deep(image: Image.Image) -> Image.Image:
    """The image in grey, 16 bit."""
    return Image.fromarray(np.asarray(image.convert("L"), dtype=np.uint16) * 257)


def camera_note(orientation: int) -> Image.Exif:
    """EXIF that says how the camera was held."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises ``width`` x ``height`` pixels and holds none."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
