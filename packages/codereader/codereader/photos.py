"""Folders of generated photos: photo-000.jpg ... beside labels.jsonl, one line a photo.

A line is {"file", "codes": [{"kind", "text", "corners"}], "difficulty"}, with "cut": [{"kind", "text"}] where the frame
cuts a code and, for photos of a load, "cpu_s".
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from codereader.difficulties import DIFFICULTIES
from codereader.errors import ApplicationError
from codereader.generator import KINDS, Scene, photo
from codereader.optics import compress, tint

LABELS = "labels.jsonl"
_SIZES = ((320, 240), (480, 360), (640, 480), (800, 600), (960, 720), (1280, 960))
_CODES = (1, 2, 3)
_REPEATS = 5
# How far off a single decoding may be for a photo to be looked at more closely.
_NEAR = 1.15
_USUAL_S = 0.0275
_BELOW, _ABOVE = 10 / 11, 12 / 11  # 25 and 30 ms around the usual cost of 27.5 ms
Decode = Callable[[bytes], Mapping[str, Any]]
_Shape = tuple[tuple[int, int], int]
"""Width and height, and codes in the photo."""
_Costed = tuple[bytes, dict[str, Any], float]
"""A photo, its label and what decoding it costs, s."""


def photo_bytes(
    seed: int,
    index: int,
    difficulty: str = "easy",
    *,
    width: int = 640,
    height: int = 480,
    kinds: tuple[str, ...] = KINDS,
    codes: int | None = None,
) -> tuple[bytes, dict[str, Any]]:
    """Photo ``index`` of a seed as colour JPEG, and its label without the file name: a pure function of its arguments.

    Raises:
        ApplicationError: there is no such difficulty.
    """
    if difficulty not in DIFFICULTIES:
        raise ApplicationError(f"no difficulty {difficulty!r}", "photo set", f"choose one of {', '.join(DIFFICULTIES)}")
    rng = np.random.default_rng([seed, index, DIFFICULTIES.index(difficulty)])
    scene = photo(rng, difficulty, width=width, height=height, kinds=kinds, codes=codes, zoom=max(1.0, width / 800))
    return compress(tint(rng, scene.photo), scene.optics.jpeg_quality), _label(scene, difficulty)


def _label(scene: Scene, difficulty: str) -> dict[str, Any]:
    codes = [
        {"kind": code.kind, "text": code.text, "corners": [[round(x, 1), round(y, 1)] for x, y in code.corners]}
        for code in scene.codes
    ]
    cut = [{"kind": code.kind, "text": code.text} for code in scene.cut]
    return {"codes": codes, "difficulty": difficulty} | ({"cut": cut} if cut else {})


def write_photo_set(
    folder: Path,
    seed: int,
    count: int,
    difficulty: str = "easy",
    *,
    width: int = 640,
    height: int = 480,
    kinds: tuple[str, ...] = KINDS,
) -> None:
    """Writes ``count`` generated photos and their labels to ``folder``; the same arguments, the same bytes.

    Raises:
        ApplicationError: there is no such difficulty.
    """
    made = (photo_bytes(seed, index, difficulty, width=width, height=height, kinds=kinds) for index in range(count))
    _write(folder, [*made])


def _write(folder: Path, photos: list[tuple[bytes, dict[str, Any]]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for index, (body, label) in enumerate(photos):
        name = f"photo-{index:03d}.jpg"
        (folder / name).write_bytes(body)
        lines.append(json.dumps({"file": name, **label}, ensure_ascii=False))
    (folder / LABELS).write_text("\n".join(lines) + "\n", encoding="utf-8")


def all_right(answer: Mapping[str, Any], label: Mapping[str, Any]) -> bool:
    """Whether an answer has exactly the label's codes, by kind and text, in any order."""
    return sorted((code["kind"], code["text"]) for code in answer["codes"]) == sorted(
        (code["kind"], code["text"]) for code in label["codes"]
    )


def decode_cpu_s(decode: Decode, body: bytes, repeats: int = _REPEATS) -> float:
    """Median thread time of decoding ``body`` in seconds."""
    return median(_decode_costs_s(decode, body, repeats))


def _decode_costs_s(decode: Decode, body: bytes, repeats: int) -> list[float]:
    """Thread time of decoding ``body``, s, so many times."""
    costs = []
    for _ in range(repeats):
        began = time.thread_time()
        decode(body)
        costs.append(time.thread_time() - began)
    return costs


def choose_load_photos(
    folder: Path,
    seed: int,
    count: int,
    target_cpu_s: tuple[float, float] | None = None,
    *,
    about_s: float = _USUAL_S,
    decode: Decode | None = None,
    tries: int = 60,
) -> tuple[float, float]:
    """Writes ``count`` easy photos that are read completely right and cost ``target_cpu_s`` of thread time each here.

    Sizes and numbers of codes that come out too cheap or too dear are left behind as they show.

    Args:
        folder: where photos and labels (with "cpu_s") go.
        seed: where the candidates come from; which of them are chosen depends on this machine's speed.
        count: photos wanted.
        target_cpu_s: least and most seconds a photo; by default a tenth around ``about_s``.
        about_s: what a photo should cost; on a machine where no size of photo costs about that much, what its cheapest
            (dearest) costs takes its place.
        decode: by default the decoder with the shipped weights, as experiments measure it.
        tries: candidates per wanted photo before giving up.

    Returns:
        Least and most seconds that a photo could cost to be chosen.

    Raises:
        ApplicationError: this machine can't be met.
    """
    if decode is None:
        from codereader.decoder import make_float32_decoder

        decode = make_float32_decoder()
    seen: dict[_Shape, list[float]] = {(size, codes): [] for size in _SIZES for codes in _CODES}
    target_s = target_cpu_s
    unjudged: list[_Costed] = []
    chosen: list[_Costed] = []
    for index in range(max(tries * count, 2 * len(seen))):
        shape = min(seen, key=lambda shape: _promise(seen[shape], sum(target_s or (about_s, about_s)) / 2))
        unjudged.append(_candidate(decode, seed, index, shape, target_s))
        seen[shape].append(unjudged[-1][2])
        if target_s is None and all(len(costs) >= 2 for costs in seen.values()):
            target_s = _within_reach(about_s, [median(costs) for costs in seen.values()])
        if target_s is None:
            continue
        chosen += [photo for photo in unjudged if _fits(decode, photo, target_s)]
        unjudged.clear()
        if len(chosen) >= count:
            _write(folder, [(body, {**label, "cpu_s": round(cost, 5)}) for body, label, cost in chosen[:count]])
            return target_s
    low, high = target_s or (0.0, 0.0)
    raise ApplicationError(
        f"only {len(chosen)} of {count} photos cost {low * 1e3:.3g} to {high * 1e3:.3g} ms here",
        str(folder),
        "give another range of seconds, or wait until the machine is quiet",
    )


def _candidate(decode: Decode, seed: int, index: int, shape: _Shape, target_s: tuple[float, float] | None) -> _Costed:
    """A photo, its label and what decoding it costs, s: once; where that is near ``target_s``, the median of some."""
    (width, height), codes = shape
    body, label = photo_bytes(seed, index, "easy", width=width, height=height, codes=codes)
    once_s = decode_cpu_s(decode, body, 1)
    near = target_s is not None and target_s[0] / _NEAR <= once_s <= target_s[1] * _NEAR
    return body, label, decode_cpu_s(decode, body) if near else once_s


class LoadPhotos:
    """What a pilot needs of the application: what decoding photos costs here, and photos that cost what they should.
    The decoder is loaded once."""

    def __init__(self) -> None:
        from codereader.decoder import make_float32_decoder

        self._decode = make_float32_decoder()

    def costs_s(self, body: bytes) -> list[float]:
        """Thread time of decoding a photo, s, some times."""
        return _decode_costs_s(self._decode, body, _REPEATS)

    def choose(self, folder: Path, seed: int, count: int, about_s: float) -> None:
        """See `choose_load_photos`."""
        choose_load_photos(folder, seed, count, about_s=about_s, decode=self._decode)


def _fits(decode: Decode, photo: _Costed, target_s: tuple[float, float]) -> bool:
    """Whether a photo has codes, costs what it may and is read right."""
    body, label, cost = photo
    return target_s[0] <= cost <= target_s[1] and bool(label["codes"]) and all_right(decode(body), label)


def _within_reach(about_s: float, usual_s: list[float]) -> tuple[float, float]:
    """A tenth around ``about_s``, or around the nearest that a size of photo usually costs, s."""
    middle = min(max(about_s, min(usual_s)), max(usual_s))
    return middle * _BELOW, middle * _ABOVE


def _promise(costs: list[float], middle: float) -> float:
    """How far a shape's median cost is from the wanted one; shapes hardly tried come first."""
    return abs(median(costs) - middle) if len(costs) >= 2 else -1.0 + len(costs)
