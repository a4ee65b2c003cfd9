"""What tells a code from what only looks like one: limits past which a box costs no more work, and what they rest on.
`python benchmarks/dismissal.py`.

Generated photos are read without these limits. Of each limit: what the boxes came to whose code was read, at the least
and at the most; how many of them it would have dismissed; and what share of the boxes where there is no code.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mlscale.application import grids, localiser, strips
from mlscale.application.decoder import Decoder, Reading, make_decoder
from mlscale.application.difficulties import DIFFICULTIES
from mlscale.application.photos import photo_bytes

LIMITS = {
    "mean probability of its cells": (localiser._LEAST_MEAN, np.inf),
    "surest symbol, any strip": (strips._CERTAIN, np.inf),
    "share of frames with a symbol": strips._SHOWN,
    **{f"versions apart, pass {index}": (least, np.inf) for index, least in enumerate(grids._LEAST_CONTRASTS)},
}


class Watch:
    """Takes the limits away and remembers, box by box, what would have met them; at bars, of every look but the last,
    since only these decide whether there is another."""

    def __init__(self, decoder: Decoder) -> None:
        self._read, self._run, self._sure = decoder._read, decoder._run, localiser._is_sure
        localiser._LEAST_MEAN = 0.0
        strips._CERTAIN, strips._SHOWN = -1.0, (-1.0, 2.0)
        grids._LEAST_CONTRASTS = (-np.inf,) * len(grids._LEAST_CONTRASTS)
        decoder._read, decoder._run = self.read, self.run
        localiser._is_sure = self.sure
        self.boxes: list[tuple[Reading, dict[str, list[float]]]] = []
        self._means: dict[float, float] = {}
        self._seen: dict[str, list[float]] = {}

    def sure(self, probabilities: NDArray[np.float64]) -> bool:
        if len(probabilities):
            mean = float(probabilities.mean())
            self._means[mean * float(np.sqrt(len(probabilities)))] = mean  # a box's score tells which it is
        return self._sure(probabilities)

    def run(self, name: str, batch: NDArray[np.float32], **how: Any) -> list[NDArray[np.float32]]:
        out = self._run(name, batch, **how)
        if name == "strips":
            odds = np.exp(out[0] - out[0].max(axis=1, keepdims=True))
            symbols = 1 - odds[:, 40] / odds.sum(axis=1)
            self._note("surest symbol, any strip", symbols.max(axis=1).min())
            self._note("share of frames with a symbol", (symbols > 0.5).mean())
        if name == "grids":
            index = sum(name.startswith("versions apart") for name in self._seen)
            self._note(f"versions apart, pass {index}", np.ptp(out[1]))
        return out

    def read(self, photo: Any, box: localiser.Box, cpu_s: dict[str, float]) -> Reading:
        self._seen = {}
        reading = self._read(photo, box, cpu_s)
        for name in ("surest symbol, any strip", "share of frames with a symbol"):
            if reading.code is not None and name in self._seen:
                self._seen[name].pop()
        self._note("mean probability of its cells", self._means[box.score])
        self.boxes.append((reading, self._seen))
        return reading

    def _note(self, name: str, value: Any) -> None:
        self._seen.setdefault(name, []).append(float(value))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=150, help="of each difficulty and size")
    parser.add_argument("--seed", type=int, default=1_234_567, help="not the validation's, which measures the outcome")
    options = parser.parse_args()
    decoder = make_decoder()
    watch = Watch(decoder)
    read: dict[str, list[list[float]]] = defaultdict(list)
    nothing: dict[str, list[list[float]]] = defaultdict(list)
    for width, height in ((640, 480), (1152, 864)):
        for difficulty in DIFFICULTIES:
            for index in range(options.photos):
                body, label = photo_bytes(options.seed, index, difficulty, width=width, height=height)
                watch.boxes.clear()
                scale = decoder.explain(body).photo.scale
                for reading, seen in watch.boxes:
                    group = read if reading.code is not None else nothing
                    if reading.code is not None or not _holds_a_code(reading, scale, label):
                        for name, values in seen.items():
                            group[name].append(values)
    print(f"{'':32}{'boxes read':>12}{'least':>8}{'most':>8}{'dismissed':>11}{'without code':>14}{'dismissed':>11}")
    for name, (low, high) in LIMITS.items():
        values = np.array([value for one in read[name] for value in one])
        lost, spared = (
            sum(any(not low < value < high for value in one) for one in group[name]) for group in (read, nothing)
        )
        print(
            f"{name:32}{len(read[name]):12}{values.min():8.2f}{values.max():8.2f}{lost:11}"
            f"{len(nothing[name]):14}{spared / max(1, len(nothing[name])):11.0%}"
        )


def _holds_a_code(reading: Reading, scale: NDArray[np.float64], label: dict[str, Any]) -> bool:
    """Whether the middle of a code of the box's kind lies in the box."""
    low, high = ((edge(reading.box.corners, axis=0) * scale) for edge in (np.min, np.max))
    middles = [
        np.mean(code["corners"], axis=0)
        for code in label["codes"]
        if (code["kind"] == "QR") == (reading.box.kind == "QR")
    ]
    return any(bool((low < middle).all() and (middle < high).all()) for middle in middles)


if __name__ == "__main__":
    main()
