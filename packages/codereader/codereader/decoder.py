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
# oneDNN compiles each convolution for each photo size and caches 1024 of them (64 MB); 128 are enough for a few sizes.
_KERNELS_KEPT = "ONEDNN_PRIMITIVE_CACHE_CAPACITY", "128"
# Most looks at a 1-D box.
_LOOKS = 4
# Boxes of one kind without a code, in one look, after which the weaker ones are skipped.
_FAILURES = 5
# Ratio of a QR box's sides from which it may hold two codes side by side.
_NEIGHBOURS = 1.5
# Modules on either side of a UPC-E that must lie in the photo.
_UPCE_ROOM = 4
STAGES = ("open", "localise", "read_bars", "read_grid")
# How far a box can get.
STEPS = ("localised", "rectified", "read", "verified")
_RECTIFIED_FITS, _READ_FITS = -2.0, -0.5
_RECTIFIED_AGREES, _READ_AGREES = 0.7, 0.85


@dataclass(frozen=True)
class DecodedCode:
    """A verified code; ``corners`` (4, 2) in pixels of the sent photo, clockwise from the code's own top left."""

    kind: str
    text: str
    corners: Points

    def as_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "text": self.text, "corners": [[round(x, 1), round(y, 1)] for x, y in self.corners]}


@dataclass
class Reading:
    """One box, what its reader saw of it, and the result."""

    box: Box
    crops: list[crops.Crop] = field(default_factory=list)
    fits: float | None = None
    """How well digits fit the bars: their mean log probability."""
    bars: BarsRead | None = None
    grid: GridRead | None = None
    code: DecodedCode | None = None

    @property
    def got_to(self) -> str:
        """The last of `STEPS` that succeeded: "rectified" if digits, or a QR code's fixed modules, fit roughly; "read"
        if they fit well."""
        if self.code is not None:
            return "verified"
        scores = (self.fits or -9.0, self.grid.agreement if self.grid else 0.0)
        if scores[0] > _READ_FITS or scores[1] > _READ_AGREES:
            return "read"
        return "rectified" if scores[0] > _RECTIFIED_FITS or scores[1] > _RECTIFIED_AGREES else "localised"


@dataclass
class Explanation:
    """Every stage of one photo, for inspection; coordinates are those of ``photo.grey``.

    ``maps`` are the localiser's first (6, rows, columns); ``cpu_s`` is thread time by stage (see `STAGES`).
    """

    photo: Photo
    maps: NDArray[np.float32]
    readings: list[Reading]
    codes: list[DecodedCode]
    cpu_s: dict[str, float]


def make_decoder(
    weights: Path | None = None,
    device: str | None = None,
    nets: Collection[str] | None = None,
    *,
    quickest: bool = True,
) -> Decoder:
    """The decoder with the weights of ``weights``, $MLSCALE_WEIGHTS or the package; sets torch to one thread, and
    $ONEDNN_PRIMITIVE_CACHE_CAPACITY unless it is set.

    Args:
        device: where the networks run, "cpu" or "cuda" (with ":1" for the second); None: $MLSCALE_DEVICE, else the CPU.
        nets: the networks to load; None: all.
        quickest: compute in bfloat16 if the CPU has instructions for it; otherwise in float32.
    Raises:
        BadWeights: weights are missing or corrupt.
        ApplicationError: the device is not available.
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
    """`make_decoder` in float32 on every CPU. Experiments measure this one: bfloat16 halves the work on CPUs that
    have it, so two hosts would run two different applications."""
    return make_decoder(weights, nets=nets, quickest=False)


def usable_device(name: str) -> str:
    """``name``, if torch can use that device.

    Raises:
        ApplicationError: it can't.
    """
    import torch

    try:
        torch.zeros(1, device=name).cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise ApplicationError(f"torch can't use it: {reason}", f"device {name!r}", "choose cpu") from None
    return name


def calculates_bfloat16(device: str) -> bool:
    """Whether ``device`` is a CPU with bfloat16 instructions, which halve the networks' time."""
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
            BadPhoto: the body is not a readable photo.
        """
        return {"codes": [code.as_json() for code in self.explain(body).codes]}

    def explain(self, body: bytes) -> Explanation:
        """Every stage's output on the photo in ``body``, and its CPU time.

        Raises:
            BadPhoto: the body is not a readable photo.
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
                more_boxes = self.look_again(photo, second, places)
            readings = self.read_all(photo, unseen(more_boxes, boxes), readings, cpu_s)
        codes = distinct([reading.code for reading in readings])
        return Explanation(photo, maps, readings, codes, cpu_s)

    def read_all(self, photo: Photo, boxes: list[Box], before: list[Reading], cpu_s: dict[str, float]) -> list[Reading]:
        """``before``, and readings of those ``boxes``, best first, that don't lie on a code read so far."""
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
            except np.linalg.LinAlgError:  # the box is too thin to define a plane
                return Reading(box)

    def localise(self, grey: Image.Image, side: int) -> tuple[NDArray[np.float32], list[Box]]:
        """The localiser's maps and the boxes in them, in pixels of ``grey``; ``side``: the longer side of its input."""
        pixels = crops.localiser_input(grey, side)
        (maps,) = self._run("localiser", pixels[None])
        return maps[0], find_boxes(maps[0], maps_scale(grey, maps[0]))

    def look_again(self, photo: Photo, side: int, places: Sequence[Points]) -> list[Box]:
        """The boxes of a second look, in working pixels. A closer look covers only the surroundings of ``places``:
        its CPU time is proportional to its pixels."""
        if side < crops.CLOSER_SIDE:
            return self.localise(photo.grey, side)[1]
        part = crops.part_around(places, photo.grey.size, side)
        grey = photo.grey.crop(part)
        _, boxes = self.localise(grey, round(side * max(grey.size) / max(photo.grey.size)))
        return [replace(box, corners=box.corners + part[:2]) for box in boxes]

    def read_bars(self, photo: Photo, box: Box) -> Reading:
        """Reads a 1-D box; if nothing verifies, looks again where the bars seem to be."""
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
                reading.bars = look.bars
                reading.code = DecodedCode(look.bars.kind, look.bars.text, corners * photo.scale)
                break
            outline = project(to_photo, look.outline)
            if not is_convex(outline) or not look.hopeful:
                break
        return reading

    def read_grid(self, photo: Photo, box: Box) -> Reading:
        """Reads a QR box with the grid finder and the module reader."""
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
            reading.code = DecodedCode("QR", reading.grid.text, reading.grid.corners * photo.scale)
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
    """Whether the photo shows the quiet zones beside the bars: the left half of an EAN-13 that the frame cuts would
    otherwise pass for a UPC-E."""
    left, right = bars.span
    quiet = _UPCE_ROOM / ean.MODULES["UPCE"] * (right - left)
    ends = project(to_photo, np.array([[left - quiet, 0.5], [right + quiet, 0.5]]))
    return bool((ends >= 0).all() and (ends <= photo.grey.size).all())


def _is_inside(box: Box, reading: Reading, photo: Photo) -> bool:
    """Whether the box lies on the code of ``reading``."""
    return reading.code is not None and _lies_on(box, reading.code, photo)


def _lies_on(box: Box, code: DecodedCode, photo: Photo) -> bool:
    centre = box.corners.mean(axis=0) * photo.scale
    return bool((code.corners.min(axis=0) < centre).all() and (centre < code.corners.max(axis=0)).all())


def unread(
    photo: Photo, boxes: Sequence[Box], read: Sequence[DecodedCode | None], maps: NDArray[np.float32]
) -> list[Points]:
    """Where to look again at another size: boxes without a code, and hints in the first look's ``maps``; the lowest and
    highest x and y of each, (2, 2) in working pixels. Empty if each is a box around a single QR code: from a closer
    look's box, the grid finder would arrive at the same sheet."""
    codes = [code for code in read if code is not None]
    left = [box for box in boxes if not any(_lies_on(box, code, photo) for code in codes)]
    hinted = hints(maps, maps_scale(photo.grey, maps))
    if not hinted and all(box.kind == "QR" and _is_single(box) for box in left):
        return []
    return [np.stack([box.corners.min(axis=0), box.corners.max(axis=0)]) for box in left] + hinted


def _is_single(box: Box) -> bool:
    """Whether a QR box is too square to hold two neighbouring codes."""
    across, down = side_lengths(box.corners)
    return max(across, down) < _NEIGHBOURS * min(across, down)


def maps_scale(grey: Image.Image, maps: NDArray[np.float32]) -> tuple[float, float]:
    """Photo pixels per localiser pixel in x and y."""
    rows, columns = maps.shape[1:]
    return grey.width / (columns * crops.STRIDE), grey.height / (rows * crops.STRIDE)


def distinct(read: Sequence[DecodedCode | None]) -> list[DecodedCode]:
    """The codes of ``read``; the same text in the same place counts once."""
    codes: list[DecodedCode] = []
    for code in read:
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
    start = time.thread_time()
    try:
        yield
    finally:
        cpu_s[stage] += time.thread_time() - start
