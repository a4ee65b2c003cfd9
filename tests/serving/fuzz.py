"""Malformed bodies without end: photos of every format, mutated. Body i of a seed is always the same."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
from pictures import camera_note, deep, encoded
from PIL import Image

from codereader.photos import photo_bytes

Mutation = Callable[[np.random.Generator, bytes, list[bytes]], bytes]


def originals() -> list[bytes]:
    """Small photos of every format and mode that is read, one that is not, and some that are no photos."""
    body, _ = photo_bytes(77, 0, "easy", width=160, height=120)
    with Image.open(io.BytesIO(body)) as opened:
        photo = opened.convert("RGB")
    return [
        body,
        encoded(photo, "JPEG", progressive=True, exif=camera_note(6)),
        encoded(photo.convert("CMYK"), "JPEG"),
        encoded(photo, "PNG"),
        encoded(photo.convert("RGBA"), "PNG"),
        encoded(photo.convert("P"), "PNG"),
        encoded(deep(photo), "PNG"),
        encoded(photo.convert("1"), "PNG"),
        encoded(photo, "WEBP"),
        encoded(photo.convert("P"), "GIF"),
        encoded(photo, "GIF", save_all=True, append_images=[photo.rotate(90)]),
        encoded(photo, "BMP"),
        encoded(photo, "TIFF"),
        b"",
        b"%PDF-1.7\n%\xe2\xe3",
        b'{"photo": "..."}',
    ]


def bodies(seed: int, count: int, first: int = 0) -> Iterator[bytes]:
    """``count`` malformed bodies, beginning with number ``first``: each an original that one to four mutations hit."""
    known = originals()
    for index in range(first, first + count):
        rng = np.random.default_rng([seed, index])
        body = known[int(rng.integers(len(known)))]
        for _ in range(int(rng.integers(1, 5))):
            body = _MUTATIONS[int(rng.integers(len(_MUTATIONS)))](rng, body, known)
        yield body


def _place(rng: np.random.Generator, body: bytes) -> int:
    """Anywhere, the head more often: that is where the lengths and sizes stand."""
    reach = min(len(body), 64) if rng.random() < 0.5 else len(body)
    return int(rng.integers(0, reach + 1))


def _flip(rng: np.random.Generator, body: bytes, _: list[bytes]) -> bytes:
    changed = bytearray(body)
    for _flip in range(int(rng.integers(1, 20)) if body else 0):
        changed[_place(rng, body) % len(body)] = int(rng.integers(0, 256))
    return bytes(changed)


def _truncate(rng: np.random.Generator, body: bytes, _: list[bytes]) -> bytes:
    return body[: _place(rng, body)]


def _insert(rng: np.random.Generator, body: bytes, _: list[bytes]) -> bytes:
    at = _place(rng, body)
    return body[:at] + rng.bytes(int(rng.integers(1, 200))) + body[at:]


def _remove(rng: np.random.Generator, body: bytes, _: list[bytes]) -> bytes:
    at = _place(rng, body)
    return body[:at] + body[at + int(rng.integers(1, 200)) :]


def _repeat(rng: np.random.Generator, body: bytes, _: list[bytes]) -> bytes:
    at, length = _place(rng, body), int(rng.integers(1, 400))
    return body[:at] + body[at : at + length] * int(rng.integers(2, 20)) + body[at:]


def _splice(rng: np.random.Generator, body: bytes, known: list[bytes]) -> bytes:
    other = known[int(rng.integers(len(known)))]
    return body[: _place(rng, body)] + other[_place(rng, other) :]


def _large_number(rng: np.random.Generator, body: bytes, _: list[bytes]) -> bytes:
    """A length or size that promises far more than is there, in either byte order."""
    at = _place(rng, body)
    value = int(rng.choice([0, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF]))
    number = struct.pack(">I" if rng.random() < 0.5 else "<I", value)[int(rng.choice([0, 2])) :]
    return body[:at] + number + body[at + len(number) :]


def _mend_png(rng: np.random.Generator, body: bytes, known: list[bytes]) -> bytes:
    """A PNG whose header says another size or kind of pixels, its checksum right, so that it gets past the door."""
    if not body.startswith(b"\x89PNG") or len(body) < 33:
        return _flip(rng, body, known)
    sides = [int(2 ** rng.uniform(0, 16)) for _ in range(2)]
    kind = bytes([int(rng.choice([1, 2, 4, 8, 16])), int(rng.choice([0, 2, 3, 4, 6])), 0, 0, int(rng.integers(0, 2))])
    header = b"IHDR" + struct.pack(">II", *sides) + kind
    return body[:12] + header + struct.pack(">I", zlib.crc32(header)) + body[33:]


_MUTATIONS: tuple[Mutation, ...] = (_flip, _truncate, _insert, _remove, _repeat, _splice, _large_number, _mend_png)
