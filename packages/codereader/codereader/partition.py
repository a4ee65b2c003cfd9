"""The application in two components that scale apart: the localiser, which is asked, and the readers, whom it asks.

The localiser opens the photo, looks for codes, has the boxes read, and where something stayed unread looks once more at
another size and has those boxes read too; so it comes before and after the readers, and a photo costs one or two calls.
Both calculate in float32 on every CPU, as what they are compared with does.
A component that needs another is a generator of calls, (component's name, body), which gets the other's answer to each
(JSON as Python data) and returns its own: who runs it does the calling, over whatever the framework has.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Any, Final

from codereader import crops, hop
from codereader.decoder import STAGES, Decoder, Found, Reading, distinct, make_float32_decoder, unread
from codereader.images import open_photo
from codereader.localiser import Box, unseen

Calls = Generator[tuple[str, bytes], Mapping[str, Any], Mapping[str, Any]]
"""Yields (component's name, body), is sent the other's answer, returns its own."""
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
        """Raises BadPhoto, and BadReadings where the readers' answer makes no sense."""
        photo = open_photo(body)
        first, second = crops.looks(*photo.grey.size)
        maps, boxes = self._decoder.localise(photo.grey, first)
        found = yield from _read(body, boxes, [])
        places = unread(photo, boxes, found, maps)
        if places:
            again = self._decoder.look_again(photo, second, places)
            found = found + (yield from _read(body, unseen(again, boxes), found))
        return {"codes": [code.as_json() for code in distinct(found)]}


def _read(
    body: bytes, boxes: list[Box], before: list[Found | None]
) -> Generator[tuple[str, bytes], Any, list[Found | None]]:
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
        """Raises BadHop, and BadPhoto where the job's photo is none."""
        job = hop.unpack(body)
        before = [Reading(Box("QR" if code.kind == "QR" else "1D", code.corners, 0.0), code=code) for code in job.codes]
        photo = open_photo(job.photo)
        read = self._decoder.read_all(photo, list(job.boxes), before, dict.fromkeys(STAGES, 0.0))
        return hop.readings_as_json([reading.code for reading in read[len(before) :]])
