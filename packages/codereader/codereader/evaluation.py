"""The decoder's read rates on generated photos by difficulty, or on any photos with known texts."""

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

# The seed of validation photos; training samples are seeded differently.
VALIDATION_SEED = 9_000_001


@dataclass
class Rates:
    """Counts over photos: codes shown, codes read correctly, texts that no code has, thread time in seconds.

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
        """Codes by kind that a box was found for, read or not."""
        counts: Counter[str] = Counter()
        for (kind, _), count in self.reached.items():
            counts[kind] += count
        return counts

    @property
    def share(self) -> float:
        """Share of the codes that were read, 0 to 1."""
        return self.read.total() / max(1, self.codes.total())

    def as_json(self) -> dict[str, Any]:
        """The counts as JSON types."""
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
    """Decodes ``photos``, each with a label that has "codes" of "kind", "text" and "corners". The right text of a code
    that the frame cuts ("cut") counts as neither right nor wrong."""
    rates = Rates()
    for body, label in photos:
        began = time.thread_time()
        explained = decoder.explain(body)
        rates.cpu_s.append(time.thread_time() - began)
        rates.photos += 1
        expected = Counter((code["kind"], code["text"]) for code in label["codes"])
        read = Counter((code.kind, code.text) for code in explained.codes)
        cut = Counter((code["kind"], code["text"]) for code in label.get("cut", ()))
        rates.wrong += [f"{kind} {text}" for kind, text in (read - expected - cut).elements()]
        for code in label["codes"]:
            kind = code["kind"]
            rates.codes[kind] += 1
            rates.read[kind] += (kind, code["text"]) in read
            steps = [
                STEPS.index(reading.got_to)
                for reading in explained.readings
                if holds(reading.box, explained.photo.scale, code)
            ]
            if steps:
                rates.reached[kind, STEPS[max(steps)]] += 1
    return rates


def holds(box: Box, scale: tuple[float, float], code: Mapping[str, Any]) -> bool:
    """Whether ``box`` is of the labelled ``code``'s kind and contains its centre; ``scale``: sent pixels per working
    pixel in x and y."""
    corners, middle = box.corners * scale, np.mean(code["corners"], axis=0)
    low, high = corners.min(axis=0), corners.max(axis=0)
    return (box.kind == "QR") == (code["kind"] == "QR") and bool((low < middle).all() and (middle < high).all())


def validation(
    difficulty: str, count: int, seed: int = VALIDATION_SEED, *, width: int = 640, height: int = 480
) -> Iterable[tuple[bytes, dict[str, Any]]]:
    """``count`` generated photos of a difficulty, none of them used in training."""
    return (photo_bytes(seed, index, difficulty, width=width, height=height) for index in range(count))
