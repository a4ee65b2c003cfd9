"""How much of what is there the decoder reads: generated photos by difficulty, or any folder with known texts."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np

from codereader.decoder import STEPS, Decoder
from codereader.localiser import Box
from codereader.photos import photo_bytes

# Photos of this seed are for measuring; training samples come from other generators of chance.
VALIDATION_SEED = 9_000_001


@dataclass
class Rates:
    """Counts over photos: codes there, codes read right, texts returned that stand nowhere, seconds of thread time.

    ``reached`` counts by (kind, step of `decoder.STEPS`) how far the best box of each code got.
    """

    photos: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    reached: Counter[tuple[str, str]] = field(default_factory=Counter)
    read: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)

    @property
    def localised(self) -> Counter[str]:
        """By kind: codes whose place was found, whatever came of them."""
        found: Counter[str] = Counter()
        for (kind, _), count in self.reached.items():
            found[kind] += count
        return found

    @property
    def share(self) -> float:
        """Share of the codes that were read, 0 to 1."""
        return self.read.total() / max(1, self.codes.total())

    def as_json(self) -> dict[str, Any]:
        """The counts for a file: JSON types alone."""
        return {
            "photos": self.photos,
            "codes": dict(self.codes),
            "reached": {
                kind: {step: self.reached[kind, step] for step in STEPS if self.reached[kind, step]}
                for kind in sorted(self.codes)
            },
            "read": dict(self.read),
            "wrong": self.wrong,
            "median_cpu_s": round(median(self.cpu_s), 5) if self.cpu_s else None,
        }


def measure(decoder: Decoder, photos: Iterable[tuple[bytes, Mapping[str, Any]]]) -> Rates:
    """Decodes ``photos``, each with a label that has "codes" of "kind", "text" and "corners"; what is returned for a
    code that the frame cuts ("cut") is neither right nor wrong if it is what the code says."""
    rates = Rates()
    for body, label in photos:
        began = time.thread_time()
        explained = decoder.explain(body)
        rates.cpu_s.append(time.thread_time() - began)
        rates.photos += 1
        there = Counter((code["kind"], code["text"]) for code in label["codes"])
        found = Counter((code.kind, code.text) for code in explained.codes)
        cut = Counter((code["kind"], code["text"]) for code in label.get("cut", ()))
        rates.wrong += [f"{kind} {text}" for kind, text in (found - there - cut).elements()]
        for code in label["codes"]:
            kind = code["kind"]
            rates.codes[kind] += 1
            rates.read[kind] += (kind, code["text"]) in found
            steps = [
                STEPS.index(reading.got_to)
                for reading in explained.readings
                if holds(reading.box, explained.photo.scale, code)
            ]
            if steps:
                rates.reached[kind, STEPS[max(steps)]] += 1
    return rates


def holds(box: Box, scale: tuple[float, float], code: Mapping[str, Any]) -> bool:
    """Whether the middle of a labelled ``code`` of the box's kind lies in the box; ``scale``: sent pixels per working
    pixel in x and y."""
    corners, middle = box.corners * scale, np.mean(code["corners"], axis=0)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (box.kind == "QR") == (code["kind"] == "QR") and bool((low < middle).all() and (middle < high).all())


def validation(
    difficulty: str, count: int, seed: int = VALIDATION_SEED, *, width: int = 640, height: int = 480
) -> Iterable[tuple[bytes, dict[str, Any]]]:
    """``count`` generated photos of a difficulty that no training has seen."""
    return (photo_bytes(seed, index, difficulty, width=width, height=height) for index in range(count))
