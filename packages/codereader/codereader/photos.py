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
# Factor around the target within which a single decoding is repeated and its median taken.
_NEAR = 1.15
_USUAL_S = 0.0275
_BELOW, _ABOVE = 10 / 11, 12 / 11  # 25 and 30 ms around the usual 27.5 ms
Decode = Callable[[bytes], Mapping[str, Any]]
_Shape = tuple[tuple[int, int], int]
"""Width and height, and codes in the photo."""
_Candidate = tuple[bytes, dict[str, Any], float]
"""A photo, its label and the CPU time of decoding it, s."""


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
        ApplicationError: unknown difficulty.
    """
    if difficulty not in DIFFICULTIES:
        raise ApplicationError(
            f"unknown difficulty {difficulty!r}", "photo set", f"choose one of {', '.join(DIFFICULTIES)}"
        )
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


def write_photo_set(folder: Path, seed: int, count: int) -> None:
    """Writes ``count`` easy photos and their labels to ``folder``; the same arguments give the same bytes."""
    _write(folder, [photo_bytes(seed, index, "easy") for index in range(count)])


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
    return median(_decode_times_s(decode, body, repeats))


def _decode_times_s(decode: Decode, body: bytes, repeats: int) -> list[float]:
    """Thread time of decoding ``body``, s, ``repeats`` times."""
    times_s = []
    for _ in range(repeats):
        start = time.thread_time()
        decode(body)
        times_s.append(time.thread_time() - start)
    return times_s


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
    """Writes ``count`` easy photos that are read without error, each within ``target_cpu_s`` of thread time here.

    Sizes and numbers of codes that turn out too cheap or too expensive are tried less and less.

    Args:
        folder: where photos and labels (with "cpu_s") go.
        seed: of the candidates; which of them are chosen depends on this machine's speed.
        count: photos wanted.
        target_cpu_s: least and most seconds per photo; by default a tenth around ``about_s``.
        about_s: target CPU time of a photo, s; replaced by that of the quickest (slowest) size on a machine where
            no size takes about that.
        decode: by default the decoder with the shipped weights, as experiments measure it.
        tries: candidates per wanted photo before giving up.

    Returns:
        Least and most CPU time that a chosen photo may take, s.

    Raises:
        ApplicationError: too few photos take that long here.
    """
    if decode is None:
        from codereader.decoder import make_float32_decoder

        decode = make_float32_decoder()
    by_shape: dict[_Shape, list[float]] = {(size, codes): [] for size in _SIZES for codes in _CODES}
    target_s = target_cpu_s
    pending: list[_Candidate] = []
    chosen: list[_Candidate] = []
    for index in range(max(tries * count, 2 * len(by_shape))):
        shape = min(by_shape, key=lambda shape: _distance(by_shape[shape], sum(target_s or (about_s, about_s)) / 2))
        pending.append(_candidate(decode, seed, index, shape, target_s))
        by_shape[shape].append(pending[-1][2])
        if target_s is None and all(len(times_s) >= 2 for times_s in by_shape.values()):
            target_s = _within_reach(about_s, [median(times_s) for times_s in by_shape.values()])
        if target_s is None:
            continue
        chosen += [photo for photo in pending if _fits(decode, photo, target_s)]
        pending.clear()
        if len(chosen) >= count:
            _write(folder, [(body, {**label, "cpu_s": round(cpu_s, 5)}) for body, label, cpu_s in chosen[:count]])
            return target_s
    low, high = target_s or (0.0, 0.0)
    raise ApplicationError(
        f"only {len(chosen)} of {count} photos take {low * 1e3:.3g} to {high * 1e3:.3g} ms here",
        str(folder),
        "give another range of seconds, or wait until the machine is quiet",
    )


def _candidate(
    decode: Decode, seed: int, index: int, shape: _Shape, target_s: tuple[float, float] | None
) -> _Candidate:
    """A photo and its decoding time: measured once, or the median of several if that is near ``target_s``."""
    (width, height), codes = shape
    body, label = photo_bytes(seed, index, "easy", width=width, height=height, codes=codes)
    once_s = decode_cpu_s(decode, body, 1)
    near = target_s is not None and target_s[0] / _NEAR <= once_s <= target_s[1] * _NEAR
    return body, label, decode_cpu_s(decode, body) if near else once_s


class LoadPhotos:
    """For a pilot: the CPU time of decoding a photo here, and photos that take a given time. Loads the decoder once."""

    def __init__(self) -> None:
        from codereader.decoder import make_float32_decoder

        self._decode = make_float32_decoder()

    def cpu_s(self, body: bytes) -> list[float]:
        """Thread time of decoding a photo, s, several times."""
        return _decode_times_s(self._decode, body, _REPEATS)

    def choose(self, folder: Path, seed: int, count: int, about_s: float) -> None:
        """See `choose_load_photos`."""
        choose_load_photos(folder, seed, count, about_s=about_s, decode=self._decode)


def _fits(decode: Decode, photo: _Candidate, target_s: tuple[float, float]) -> bool:
    """Whether a photo has codes, takes ``target_s`` and is read without error."""
    body, label, cpu_s = photo
    return target_s[0] <= cpu_s <= target_s[1] and bool(label["codes"]) and all_right(decode(body), label)


def _within_reach(about_s: float, usual_s: list[float]) -> tuple[float, float]:
    """A tenth around ``about_s``, limited to the range of times that sizes of photos usually take, s."""
    middle = min(max(about_s, min(usual_s)), max(usual_s))
    return middle * _BELOW, middle * _ABOVE


def _distance(times_s: list[float], middle: float) -> float:
    """Distance of a shape's median time from the wanted one; shapes tried less than twice come first."""
    return abs(median(times_s) - middle) if len(times_s) >= 2 else -1.0 + len(times_s)
