"""The protocol between the localiser and the readers when they run as separate components: bytes out, JSON back.

A job is the magic ``MLSH``, a version (u16), the length of a JSON head (u32; both big endian), the head, and the
photo's bytes as sent. The readers decode the photo again and so see exactly what the undivided application sees. That
takes 0.7 ms for 640 x 480 pixels (localising takes 18 ms), and the JPEG is a fifth of the size of its pixels.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from codereader.decoder import DecodedCode
from codereader.ean import MODULES
from codereader.geometry import Points
from codereader.localiser import Box

VERSION: Final = 1
_MAGIC: Final = b"MLSH"
_HEAD: Final = struct.Struct(">4sHI")
_MOST_HEAD_BYTES: Final = 1_000_000
# A corner farther away than this can't belong to any photo that is accepted.
_FARTHEST_PX: Final = 100_000
_BOX_KINDS: Final = frozenset({"1D", "QR"})
_CODE_KINDS: Final = frozenset({*MODULES, "QR"})


class BadHop(ValueError):  # noqa: N818 (servers map it to a 4xx)
    """A request body that is not a valid job."""

    http_status = 400

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = f"not a job for the readers: {reason}"


class BadReadings(Exception):  # noqa: N818
    """The readers' answer is malformed. The sender is not to blame; the photo can't be answered now."""

    http_status = 503

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = f"the readers' answer is malformed: {reason}"


@dataclass(frozen=True)
class Job:
    """Boxes to read in ``photo`` (bytes as sent), best first, and the ``codes`` read so far.

    Boxes are in working pixels, codes in pixels of the sent photo, as `Box` and `DecodedCode` have them.
    """

    boxes: tuple[Box, ...]
    codes: tuple[DecodedCode, ...]
    photo: bytes


def pack(job: Job) -> bytes:
    """The job as bytes; floats survive exactly."""
    head = {
        "boxes": [[box.kind, float(box.score), _flat(box.corners)] for box in job.boxes],
        "codes": [_code_fields(code) for code in job.codes],
    }
    text = json.dumps(head, separators=(",", ":"), allow_nan=False).encode()
    return _HEAD.pack(_MAGIC, VERSION, len(text)) + text + job.photo


def unpack(body: bytes) -> Job:
    """The job in ``body``.

    Raises:
        BadHop: it is not a job, has another version, or is damaged.
    """
    if len(body) < _HEAD.size:
        raise BadHop(f"{len(body)} bytes are shorter than a header")
    magic, version, length = _HEAD.unpack_from(body)
    if magic != _MAGIC:
        raise BadHop("it doesn't start with the magic number")
    if version != VERSION:
        raise BadHop(f"it has version {version}, and only version {VERSION} is supported")
    if length > min(_MOST_HEAD_BYTES, len(body) - _HEAD.size):
        raise BadHop("it is truncated, or its head is too long")
    end = _HEAD.size + length
    try:
        head = json.loads(body[_HEAD.size : end])
        boxes = tuple(
            Box(_one_of(kind, _BOX_KINDS), _points(flat), _finite(score)) for kind, score, flat in head["boxes"]
        )
        codes = tuple(_parse_code(code) for code in head["codes"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise BadHop(f"its head is malformed ({type(error).__name__}: {error})") from None
    return Job(boxes, codes, body[end:])


def readings_as_json(codes: Sequence[DecodedCode | None]) -> dict[str, Any]:
    """The readers' answer: the code in each box that was read, or None."""
    return {"version": VERSION, "readings": [None if code is None else _code_fields(code) for code in codes]}


def readings(answer: Mapping[str, Any], at_most: int) -> list[DecodedCode | None]:
    """The readers' answer to a job of ``at_most`` boxes.

    Raises:
        BadReadings: it has another version, or is malformed.
    """
    if answer.get("version") != VERSION:
        raise BadReadings(f"it has version {answer.get('version')!r}, and only version {VERSION} is supported")
    try:
        codes = [None if code is None else _parse_code(code) for code in answer["readings"]]
    except (ValueError, TypeError, KeyError) as error:
        raise BadReadings(f"{type(error).__name__}: {error}") from None
    if len(codes) > at_most:
        raise BadReadings(f"{len(codes)} readings for {at_most} boxes")
    return codes


def _code_fields(code: DecodedCode) -> list[Any]:
    return [code.kind, code.text, _flat(code.corners)]


def _parse_code(code: Any) -> DecodedCode:
    kind, text, corners = code
    if not isinstance(text, str):
        raise TypeError(f"a code's text must be a string, not {type(text).__name__}")
    return DecodedCode(_one_of(kind, _CODE_KINDS), text, _points(corners))


def _flat(corners: Points) -> list[float]:
    return [float(number) for number in corners.ravel()]


def _points(flat: Any) -> Points:
    if len(flat) != 8:
        raise ValueError(f"four corners are 8 numbers, not {len(flat)}")
    corners = np.array([_finite(number) for number in flat], dtype=np.float64).reshape(4, 2)
    if np.abs(corners).max() > _FARTHEST_PX:
        raise ValueError("a corner lies far outside any photo")
    return corners


def _finite(number: Any) -> float:
    if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
        raise ValueError(f"{number!r} is not a finite number")
    return float(number)


def _one_of(kind: Any, kinds: frozenset[str]) -> str:
    if kind not in kinds:
        raise ValueError(f"unknown kind {kind!r}")
    return str(kind)
