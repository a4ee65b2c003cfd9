"""What the localiser and the readers say to each other where they run apart: bytes there, JSON back.

A job is the magic ``MLSH``, a version (u16), the length of a JSON head (u32; both big endian), the head, and the
photo's bytes as they were sent. The readers open the photo again, and so see exactly what the whole application sees:
that costs 0.7 ms for 640 x 480 pixels, where a look for codes costs 18, and its JPEG is a fifth of its pixels' size.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from codereader.decoder import Found
from codereader.ean import MODULES
from codereader.geometry import Points
from codereader.localiser import Box

VERSION: Final = 1
_MAGIC: Final = b"MLSH"
_HEAD: Final = struct.Struct(">4sHI")
_MOST_HEAD_BYTES: Final = 1_000_000
# A corner that is farther away lies in no photo that is read, nor near one.
_FARTHEST_PX: Final = 100_000
_BOX_KINDS: Final = frozenset({"1D", "QR"})
_CODE_KINDS: Final = frozenset({*MODULES, "QR"})


class BadHop(ValueError):  # noqa: N818 (the sender's fault, as servers read it)
    """A job that is none."""

    http_status = 400

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = f"not a job for the readers: {reason}"


class BadReadings(Exception):  # noqa: N818
    """The readers' answer makes no sense: the photo can't be answered now, and that isn't its sender's fault."""

    http_status = 503

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = f"the readers' answer is malformed: {reason}"


@dataclass(frozen=True)
class Job:
    """Boxes to read in ``photo`` (bytes as sent), best first, beside the ``codes`` that were read before.

    Boxes are in working pixels, codes in pixels of the sent photo, as `Box` and `Found` have them.
    """

    boxes: tuple[Box, ...]
    codes: tuple[Found, ...]
    photo: bytes


def pack(job: Job) -> bytes:
    """The job as bytes; floats survive exactly."""
    head = {
        "boxes": [[box.kind, float(box.score), _flat(box.corners)] for box in job.boxes],
        "codes": [_code(code) for code in job.codes],
    }
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return _HEAD.pack(_MAGIC, VERSION, len(text)) + text + job.photo


def unpack(body: bytes) -> Job:
    """The job in ``body``.

    Raises:
        BadHop: it is none, of another version, or damaged.
    """
    if len(body) < _HEAD.size:
        raise BadHop(f"{len(body)} bytes are too few")
    magic, version, length = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise BadHop("it doesn't begin as one")
    if version != VERSION:
        raise BadHop(f"it is of version {version}, and version {VERSION} is spoken here")
    if length > min(_MOST_HEAD_BYTES, len(body) - _HEAD.size):
        raise BadHop("it is cut off, or its head is too long")
    end = _HEAD.size + length
    try:
        head = json.loads(body[_HEAD.size : end])
        boxes = tuple(
            Box(_one_of(kind, _BOX_KINDS), _points(flat), _finite(score)) for kind, score, flat in head["boxes"]
        )
        codes = tuple(_found(code) for code in head["codes"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadHop(f"its head is malformed ({type(error).__name__}: {error})") from None
    return Job(boxes, codes, body[end:])


def readings_as_json(codes: Sequence[Found | None]) -> dict[str, Any]:
    """The readers' answer: what each box that was read holds, None for one without a code."""
    return {"version": VERSION, "readings": [None if code is None else _code(code) for code in codes]}


def readings(answer: Mapping[str, Any], at_most: int) -> list[Found | None]:
    """The readers' answer to a job of ``at_most`` boxes.

    Raises:
        BadReadings: it is of another version, or malformed.
    """
    if answer.get("version") != VERSION:
        raise BadReadings(f"it is of version {answer.get('version')!r}, and version {VERSION} is spoken here")
    try:
        found = [None if code is None else _found(code) for code in answer["readings"]]
    except (ValueError, TypeError, KeyError) as error:
        raise BadReadings(f"{type(error).__name__}: {error}") from None
    if len(found) > at_most:
        raise BadReadings(f"{len(found)} readings of {at_most} boxes")
    return found


def _code(code: Found) -> list[Any]:
    return [code.kind, code.text, _flat(code.corners)]


def _found(code: Any) -> Found:
    kind, text, corners = code
    if not isinstance(text, str):
        raise TypeError("a code's text is not text")
    return Found(_one_of(kind, _CODE_KINDS), text, _points(corners))


def _flat(corners: Points) -> list[float]:
    return [float(number) for number in corners.ravel()]


def _points(flat: Any) -> Points:
    if len(flat) != 8:
        raise ValueError(f"{len(flat)} numbers are not four corners")
    corners = np.array([_finite(number) for number in flat], dtype=np.float64).reshape(4, 2)
    if np.abs(corners).max() > _FARTHEST_PX:
        raise ValueError("a corner is far off any photo")
    return corners


def _finite(number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{number!r} is not a finite number")
    return float(number)


def _one_of(kind: Any, kinds: frozenset[str]) -> str:
    if kind not in kinds:
        raise ValueError(f"no kind {kind!r}")
    return str(kind)
