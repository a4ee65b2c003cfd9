"""The application: photo bytes in, verified codes out. One thread; weights are loaded once, in `make_decoder`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlscale.application import crops
from mlscale.application.geometry import Points, homography, is_convex, project, rectangle
from mlscale.application.grids import GridRead, read_grid
from mlscale.application.images import Photo, open_photo
from mlscale.application.localiser import Box, find_boxes
from mlscale.application.strips import BarsRead, read_bars

if TYPE_CHECKING:
    from torch import nn

_LOOKS = 4
"""How often a 1-D box is looked at, at most."""
STAGES = ("open", "localise", "read_bars", "read_grid")


@dataclass(frozen=True)
class Found:
    """A verified code; ``corners`` (4, 2) in pixels of the sent photo, clockwise from the code's own top left."""

    kind: str
    text: str
    corners: Points

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "corners": [[round(x, 1), round(y, 1)] for x, y in self.corners]}


@dataclass
class Reading:
    """One box through its reader: what the reader saw and what came of it."""

    box: Box
    crops: list[crops.Crop] = field(default_factory=list)
    bars: BarsRead | None = None
    grid: GridRead | None = None
    code: Found | None = None


@dataclass
class Explanation:
    """Every stage of one photo, for people: coordinates are those of ``photo.grey``.

    ``maps`` are the localiser's (6, rows, columns); ``cpu_s`` is thread time by stage (see `STAGES`).
    """

    photo: Photo
    maps: NDArray[np.float32]
    readings: list[Reading]
    codes: list[Found]
    cpu_s: dict[str, float]


def make_decoder(weights: Path | None = None) -> Decoder:
    """The decoder with the weights of ``weights``, $MLSCALE_WEIGHTS or data/weights; sets torch to one thread.

    Raises:
        BadWeights: weights are missing or corrupt.
    """
    import torch

    from mlscale.application import nets
    from mlscale.application.weights import load

    torch.set_num_threads(1)
    return Decoder({name: load(name, weights) for name in nets.NETS})


class Decoder:
    """Reads the codes of a photo.

    Args:
        nets: the four networks of `nets.NETS` by name, ready for inference.
    """

    def __init__(self, nets: dict[str, nn.Module]) -> None:
        self._nets = nets

    def __call__(self, body: bytes) -> dict[str, Any]:
        """``{"codes": [{"kind", "text", "corners": [[x, y] * 4]}]}`` of a photo; kinds EAN13, EAN8, UPCA, QR.

        Raises:
            BadPhoto: the body is no photo that we read.
        """
        return {"codes": [code.as_json() for code in self.explain(body).codes]}

    def explain(self, body: bytes) -> Explanation:
        """Every stage's output on the photo in ``body``, and what it cost.

        Raises:
            BadPhoto: the body is no photo that we read.
        """
        cpu_s = dict.fromkeys(STAGES, 0.0)
        with _timed(cpu_s, "open"):
            photo = open_photo(body)
        with _timed(cpu_s, "localise"):
            maps, boxes = self.localise(photo)
        readings = []
        for box in boxes:
            with _timed(cpu_s, "read_bars" if box.kind == "1D" else "read_grid"):
                readings.append(self.read_bars(photo, box) if box.kind == "1D" else self.read_grid(photo, box))
        return Explanation(photo, maps, readings, _distinct(readings), cpu_s)

    def localise(self, photo: Photo) -> tuple[NDArray[np.float32], list[Box]]:
        """The localiser's maps and the boxes in them, in working pixels."""
        seen = crops.localiser_input(photo.grey)
        (maps,) = self._run("localiser", seen[None])
        scale = photo.grey.width / seen.shape[1], photo.grey.height / seen.shape[0]
        return maps[0], find_boxes(maps[0], scale)

    def read_bars(self, photo: Photo, box: Box) -> Reading:
        """A 1-D box through the strip reader; where nothing verifies, again where the bars seem to stand."""
        reading = Reading(box)
        outline = box.corners
        for attempt in range(_LOOKS):
            reading.crops = [crops.strip(photo.grey, quad) for quad in crops.strip_quads(outline)]
            (logits,) = self._run("strips", np.stack(reading.crops))
            look = read_bars(logits)
            to_photo = homography(rectangle(1, 1), outline)
            if look.bars:
                left, right = look.bars.span
                bars = project(to_photo, rectangle(right - left, 1, left, 0))
                corners = np.roll(bars, -2 if look.bars.turned else 0, axis=0)
                reading.bars, reading.code = look.bars, Found(look.bars.kind, look.bars.text, corners * photo.scale)
                break
            outline = project(to_photo, look.outline)
            if not is_convex(outline) or (attempt > 0 and not look.hopeful):
                break
        return reading

    def read_grid(self, photo: Photo, box: Box) -> Reading:
        """A QR box through the grid finder and the module reader."""
        reading = Reading(box)

        def finder(crop: crops.Crop) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            reading.crops.append(crop)
            corners, version = self._run("grids", crop[None])
            return corners[0], version[0]

        def reader(crop: crops.Crop) -> NDArray[np.float32]:
            reading.crops.append(crop)
            (logits,) = self._run("modules", crop[None])
            return np.asarray(logits[0])

        reading.grid = read_grid(photo.grey, box.corners, finder, reader)
        if reading.grid and reading.grid.text is not None:
            reading.code = Found("QR", reading.grid.text, reading.grid.corners * photo.scale)
        return reading

    def _run(self, name: str, batch: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        """``batch`` (n, height, width) through the network ``name``."""
        import torch

        with torch.inference_mode():
            tensor = torch.from_numpy(batch[:, None]).contiguous(memory_format=torch.channels_last)
            out = self._nets[name](tensor)
            return [part.numpy() for part in (out if isinstance(out, tuple) else (out,))]


def _distinct(readings: list[Reading]) -> list[Found]:
    """The codes of the readings; the same text in the same place counts once."""
    codes: list[Found] = []
    for code in (reading.code for reading in readings):
        if code is None:
            continue
        centre = code.corners.mean(axis=0)
        if not any(
            other.text == code.text
            and np.linalg.norm(other.corners.mean(axis=0) - centre) < np.ptp(other.corners, axis=0).max() / 2
            for other in codes
        ):
            codes.append(code)
    return codes


@contextmanager
def _timed(cpu_s: dict[str, float], stage: str) -> Iterator[None]:
    began = time.thread_time()
    try:
        yield
    finally:
        cpu_s[stage] += time.thread_time() - began
