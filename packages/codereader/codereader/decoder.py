"""The application: photo bytes in, verified codes out. One thread; weights are loaded once, in `make_decoder`."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codereader import crops, ean
from codereader.errors import ApplicationError
from codereader.geometry import Points, homography, is_convex, project, rectangle, side_lengths
from codereader.grids import GridRead, read_grid
from codereader.images import Photo, open_photo
from codereader.localiser import Box, find_boxes, hints, unseen
from codereader.strips import BarsRead, dark_on_light, read_bars

if TYPE_CHECKING:
    from PIL import Image
    from torch import nn

DEVICE_VARIABLE = "MLSCALE_DEVICE"
# oneDNN compiles every convolution anew for every size of photo and keeps 1024 of them, which come to 64 MB; the last
# 128 are enough for photos of a few sizes.
_KERNELS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128"
# How often a 1-D box is looked at, at most.
_LOOKS = 4
# Boxes without a code, of one kind in one look, after which its fainter ones are left alone.
_FAILURES = 5
# Longer side of a box around QR codes that may be two side by side, in shorter ones.
_NEIGHBOURS = 1.5
# Modules beside a UPC-E that the photo has to show.
_UPCE_ROOM = 4
STAGES = ("open", "localise", "read_bars", "read_grid")
# How far a box can get.
STEPS = ("localised", "rectified", "read", "verified")
_RECTIFIED_FITS, _READ_FITS = -2.0, -0.5
_RECTIFIED_AGREES, _READ_AGREES = 0.7, 0.85


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
    fits: float | None = None
    """How well digits fit on bars: their mean log probability."""
    bars: BarsRead | None = None
    grid: GridRead | None = None
    code: Found | None = None

    @property
    def got_to(self) -> str:
        """The last of `STEPS` that succeeded: rectified means that digits fit somehow, or that most of a QR code's
        fixed modules agree; read, that they do well."""
        if self.code is not None:
            return "verified"
        well = (self.fits or -9.0, self.grid.agreement if self.grid else 0.0)
        if well[0] > _READ_FITS or well[1] > _READ_AGREES:
            return "read"
        return "rectified" if well[0] > _RECTIFIED_FITS or well[1] > _RECTIFIED_AGREES else "localised"


@dataclass
class Explanation:
    """Every stage of one photo, for people: coordinates are those of ``photo.grey``.

    ``maps`` are the localiser's first (6, rows, columns); ``cpu_s`` is thread time by stage (see `STAGES`).
    """

    photo: Photo
    maps: NDArray[np.float32]
    readings: list[Reading]
    codes: list[Found]
    cpu_s: dict[str, float]


def make_decoder(
    weights: Path | None = None,
    device: str | None = None,
    nets: Collection[str] | None = None,
    *,
    quickest: bool = True,
) -> Decoder:
    """The decoder with the weights of ``weights``, $MLSCALE_WEIGHTS or the package; sets torch to one thread, and
    where $ONEDNN_PRIMITIVE_CACHE_CAPACITY is not set, that.

    Args:
        device: where the networks run, "cpu" or "cuda" (with ":1" for the second); None: $MLSCALE_DEVICE, else the CPU.
        nets: the networks that are needed; None: all.
        quickest: calculate in bfloat16 where the CPU has instructions for it; else, and without, in float32.
    Raises:
        BadWeights: weights are missing or corrupt.
        ApplicationError: there is no such device here.
    """
    import torch

    from codereader.nets import NETS
    from codereader.weights import load

    torch.set_num_threads(1)
    os.environ.setdefault(*_KERNELS_KEPT)
    place = usable_device(device or os.environ.get(DEVICE_VARIABLE) or "cpu")
    kind = torch.bfloat16 if quickest and calculates_bfloat16(place) else torch.float32
    return Decoder({name: load(name, weights).to(place, kind) for name in (NETS if nets is None else nets)})


def make_float32_decoder(weights: Path | None = None, nets: Collection[str] | None = None) -> Decoder:
    """`make_decoder` in float32 on every CPU. Experiments measure this one: bfloat16 halves the work on the CPUs that
    have it, so that two hosts would be two applications."""
    return make_decoder(weights, nets=nets, quickest=False)


def usable_device(name: str) -> str:
    """``name`` if torch can calculate there.

    Raises:
        ApplicationError: it can't, or there is no such name.
    """
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ApplicationError(f"torch can't calculate there: {reason}", f"device {name!r}", "choose cpu") from None
    return name


def calculates_bfloat16(device: str) -> bool:
    """Whether ``device`` is a CPU with instructions for it: networks take half the time then."""
    import torch

    return torch.device(device).type == "cpu" and bool(torch.cpu.get_capabilities().get("avx512_bf16"))


class Decoder:
    """Reads the codes of a photo.

    Args:
        nets: the four networks of `nets.NETS` by name, ready for inference, each on its device.
    """

    def __init__(self, nets: dict[str, nn.Module]) -> None:
        self._nets = nets

    def __call__(self, body: bytes) -> dict[str, Any]:
        """``{"codes": [{"kind", "text", "corners": [[x, y] * 4]}]}`` of a photo; kinds EAN13, EAN8, UPCA, UPCE, QR.

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
        first, second = crops.looks(*photo.grey.size)
        with _timed(cpu_s, "localise"):
            maps, boxes = self.localise(photo.grey, first)
        readings = self.read_all(photo, boxes, [], cpu_s)
        places = unread(photo, boxes, [reading.code for reading in readings], maps)
        if places:
            with _timed(cpu_s, "localise"):
                again = self.look_again(photo, second, places)
            readings = self.read_all(photo, unseen(again, boxes), readings, cpu_s)
        codes = distinct([reading.code for reading in readings])
        return Explanation(photo, maps, readings, codes, cpu_s)

    def read_all(self, photo: Photo, boxes: list[Box], before: list[Reading], cpu_s: dict[str, float]) -> list[Reading]:
        """``before`` and the readings of ``boxes``, best box first, that lie on no code read so far."""
        readings = list(before)
        failures = dict.fromkeys(("1D", "QR"), 0)
        for box in boxes:
            if failures[box.kind] == _FAILURES or any(_is_inside(box, reading, photo) for reading in readings):
                continue
            readings.append(self._read(photo, box, cpu_s))
            failures[box.kind] += readings[-1].code is None
        return readings

    def _read(self, photo: Photo, box: Box, cpu_s: dict[str, float]) -> Reading:
        with _timed(cpu_s, "read_bars" if box.kind == "1D" else "read_grid"):
            try:
                return self.read_bars(photo, box) if box.kind == "1D" else self.read_grid(photo, box)
            except np.linalg.LinAlgError:  # a box so thin that no plane goes through it
                return Reading(box)

    def localise(self, grey: Image.Image, side: int) -> tuple[NDArray[np.float32], list[Box]]:
        """The localiser's maps and the boxes in them, in pixels of ``grey``; ``side``: the longer one that it sees."""
        seen = crops.localiser_input(grey, side)
        (maps,) = self._run("localiser", seen[None])
        return maps[0], find_boxes(maps[0], maps_scale(grey, maps[0]))

    def look_again(self, photo: Photo, side: int, places: Sequence[Points]) -> list[Box]:
        """The boxes of another look, in working pixels; of one from closer around ``places`` alone, since it costs by
        the pixel."""
        if side < crops.CLOSER_SIDE:
            return self.localise(photo.grey, side)[1]
        part = crops.part_around(places, photo.grey.size, side)
        grey = photo.grey.crop(part)
        _, boxes = self.localise(grey, round(side * max(grey.size) / max(photo.grey.size)))
        return [replace(box, corners=box.corners + part[:2]) for box in boxes]

    def read_bars(self, photo: Photo, box: Box) -> Reading:
        """A 1-D box through the strip reader; where nothing verifies, again where the bars seem to stand."""
        reading = Reading(box)
        outline = box.corners
        for attempt in range(_LOOKS):
            reading.crops = [crops.strip(photo.grey, quad) for quad in crops.strip_quads(outline, attempt)]
            strips = dark_on_light(np.stack(reading.crops), attempt)
            symbols, code = self._run("strips", strips)
            look = read_bars(strips, symbols, code, attempt)
            reading.fits = max(look.fits, -9.0 if reading.fits is None else reading.fits)
            to_photo = homography(rectangle(1, 1), outline)
            if look.bars and (look.bars.kind != "UPCE" or shows_ends(photo, to_photo, look.bars)):
                left, right = look.bars.span
                bars = project(to_photo, rectangle(right - left, 1, left, 0))
                corners = np.roll(bars, -2 if look.bars.turned else 0, axis=0)
                reading.bars, reading.code = look.bars, Found(look.bars.kind, look.bars.text, corners * photo.scale)
                break
            outline = project(to_photo, look.outline)
            if not is_convex(outline) or not look.hopeful:
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

        net = self._nets[name]
        weight = next(net.parameters())
        with torch.inference_mode():
            tensor = torch.from_numpy(batch[:, None]).contiguous(memory_format=torch.channels_last)
            out = net(tensor.to(weight.device, weight.dtype))
            return [part.float().cpu().numpy() for part in (out if isinstance(out, tuple) else (out,))]


def shows_ends(photo: Photo, to_photo: Points, bars: BarsRead) -> bool:
    """Whether the photo shows what stands beside the bars. The left half of an EAN-13 that the frame cuts in its middle
    would pass for a UPC-E."""
    left, right = bars.span
    quiet = _UPCE_ROOM / ean.MODULES["UPCE"] * (right - left)
    ends = project(to_photo, np.array([[left - quiet, 0.5], [right + quiet, 0.5]]))
    return bool((ends >= 0).all() and (ends <= photo.grey.size).all())


def _is_inside(box: Box, reading: Reading, photo: Photo) -> bool:
    """Whether the box lies on the code that was read there."""
    return reading.code is not None and _lies_on(box, reading.code, photo)


def _lies_on(box: Box, code: Found, photo: Photo) -> bool:
    centre = box.corners.mean(axis=0) * photo.scale
    return bool((code.corners.min(axis=0) < centre).all() and (centre < code.corners.max(axis=0)).all())


def unread(
    photo: Photo, boxes: Sequence[Box], found: Sequence[Found | None], maps: NDArray[np.float32]
) -> list[Points]:
    """Where to look once more, at another size: boxes in which no code was found, and hints of the first look's
    ``maps``; the lowest and highest x and y of each, (2, 2) in working pixels. Nowhere if all are boxes around one QR
    code each: the grid finder would go from a closer look's box to the same sheet."""
    codes = [code for code in found if code is not None]
    left = [box for box in boxes if not any(_lies_on(box, code, photo) for code in codes)]
    hinted = hints(maps, maps_scale(photo.grey, maps))
    if not hinted and all(box.kind == "QR" and _is_one(box) for box in left):
        return []
    return [np.stack([box.corners.min(axis=0), box.corners.max(axis=0)]) for box in left] + hinted


def _is_one(box: Box) -> bool:
    """Whether a box around QR codes is too square to hold neighbours that were taken for one."""
    across, down = side_lengths(box.corners)
    return max(across, down) < _NEIGHBOURS * min(across, down)


def maps_scale(grey: Image.Image, maps: NDArray[np.float32]) -> tuple[float, float]:
    """Photo pixels per localiser pixel in x and y."""
    rows, columns = maps.shape[1:]
    return grey.width / (columns * crops.STRIDE), grey.height / (rows * crops.STRIDE)


def distinct(found: Sequence[Found | None]) -> list[Found]:
    """The codes that were found; the same text in the same place counts once."""
    codes: list[Found] = []
    for code in found:
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
