"""The application as two components that scale independently: the localiser is the front and calls the readers.

The localiser opens the photo, finds boxes and has them read; if any stay unread, it looks again at another size and has
the new boxes read too, so a photo needs one or two calls. Both compute in float32 on every CPU, like the undivided
application that they are compared with.
A component that calls another is a generator: it yields (component name, body), is sent the answer (JSON as Python
data) and returns its own. Whoever runs it makes the calls, by the framework's own means.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

from codereader import crops, hop
from codereader.decoder import STAGES, DecodedCode, Decoder, Reading, distinct, make_float32_decoder, unread
from codereader.images import open_photo
from codereader.localiser import Box, unseen

Calls = Generator[tuple[str, bytes], Mapping[str, Any], Mapping[str, Any]]
"""Yields (component name, body), is sent the answer, returns its own."""
LOCALISER: Final = "localiser"
READERS: Final = "readers"
# The networks of each component.
NETS: Final = {LOCALISER: ("localiser",), READERS: ("strips", "grids", "modules")}


def make_localiser(weights: Path | None = None) -> Localiser:
    """The front: photo bytes in, codes out, asking `READERS`. Raises BadWeights (see `make_decoder`)."""
    return Localiser(make_float32_decoder(weights, nets=NETS[LOCALISER]))


def make_readers(weights: Path | None = None) -> Readers:
    """Jobs (`hop`) in, readings out. Raises BadWeights (see `make_decoder`)."""
    return Readers(make_float32_decoder(weights, nets=NETS[READERS]))


class Localiser:
    """Answers as `Decoder` does, byte for byte; ``decoder`` needs no network but the localiser."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def __call__(self, body: bytes) -> Calls:
        """Raises BadPhoto, and BadReadings if the readers' answer is malformed."""
        photo = open_photo(body)
        first, second = crops.looks(*photo.grey.size)
        maps, boxes = self._decoder.localise(photo.grey, first)
        codes = yield from _read(body, boxes, [])
        places = unread(photo, boxes, codes, maps)
        if places:
            more_boxes = self._decoder.look_again(photo, second, places)
            codes = codes + (yield from _read(body, unseen(more_boxes, boxes), codes))
        return {"codes": [code.as_json() for code in distinct(codes)]}


def _read(
    body: bytes, boxes: list[Box], before: list[DecodedCode | None]
) -> Generator[tuple[str, bytes], Any, list[DecodedCode | None]]:
    if not boxes:
        return []
    codes = tuple(code for code in before if code is not None)
    answer = yield READERS, hop.pack(hop.Job(tuple(boxes), codes, body))
    return hop.readings(answer, len(boxes))


class Readers:
    """Reads the boxes of a job; ``decoder`` needs the networks of `NETS`."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder

    def __call__(self, body: bytes) -> Mapping[str, Any]:
        """Raises BadHop, and BadPhoto if the job's photo can't be read."""
        job = hop.unpack(body)
        before = [Reading(Box("QR" if code.kind == "QR" else "1D", code.corners, 0.0), code=code) for code in job.codes]
        photo = open_photo(job.photo)
        read = self._decoder.read_all(photo, list(job.boxes), before, dict.fromkeys(STAGES, 0.0))
        return hop.readings_as_json([reading.code for reading in read[len(before) :]])
